"""The checkpoint files of a run: written completely or not at all, and taken back where the weights blew up."""

import shutil
from pathlib import Path
from typing import Any

import torch

from botvision.errors import UserError
from botvision.files import whole_file


class Checkpoints:
    """Keeps ``last.ckpt`` and ``best.ckpt`` in a folder. Only the first process calls it.

    A step with a finite loss can make weights that are not finite; only the next loss, or an evaluation, shows it.
    Until then the checkpoint before stays as ``before.ckpt``, and replaces ``last.ckpt`` if the weights are bad.

    ``step`` is that of ``last.ckpt``, 0 if there is none.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.last, self.before, self.best = (folder / f"{name}.ckpt" for name in ("last", "before", "best"))
        self.step = step
        self.in_doubt = self.before.is_file()

    def save_last(self, content: dict[str, Any]) -> None:
        """Write ``last.ckpt``; the one before stays until :meth:`confirm`.

        Raises:
            UserError: it could not be written.
        """
        new = self.last.with_name("new.ckpt")
        save(content, new)
        if self.last.is_file() and not self.in_doubt:
            self.last.replace(self.before)
        new.replace(self.last)
        self.step, self.in_doubt = content["step"], True

    def copy_to_best(self) -> None:
        """Make ``last.ckpt`` the best checkpoint too."""
        with whole_file(self.best) as temporary:
            shutil.copyfile(self.last, temporary)

    def confirm(self) -> None:
        """Trust ``last.ckpt``: its weights gave a finite loss, or an evaluation."""
        if self.in_doubt:
            self.before.unlink(missing_ok=True)
            self.in_doubt = False

    def withdraw(self) -> None:
        """Take ``last.ckpt`` back, unless it is trusted: its weights have blown up."""
        if self.in_doubt and self.before.is_file():
            self.before.replace(self.last)
        elif self.in_doubt:
            self.last.unlink(missing_ok=True)


def recover_last(folder: Path) -> None:
    """Restore ``last.ckpt`` where a run was killed between the two renamings of :meth:`Checkpoints.save_last`."""
    last, before = folder / "last.ckpt", folder / "before.ckpt"
    if before.is_file() and not last.is_file():
        before.replace(last)


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint under a temporary name, and rename it.

    Raises:
        UserError: it could not be written; the file that was there before is as it was.
    """
    try:
        with whole_file(path) as temporary:
            torch.save(content, temporary)
    except (UserError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
        reason = str(error).splitlines()[0]
        what = reason if isinstance(error, UserError) else f"could not write {path} ({reason}); free some space"
        last = path.with_name("last.ckpt")
        raise UserError(f"{what}; {last} is kept" if last.is_file() else what) from error
