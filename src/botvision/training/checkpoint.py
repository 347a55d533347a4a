"""The checkpoint files of a run: each whole and with a checksum, the newest few kept, and bad ones taken back.

``last.ckpt`` is the newest, ``before.ckpt`` the one before it, then ``before-2.ckpt`` and so on; ``best.ckpt`` is that
of the best evaluation. A run can be killed at any moment: :func:`recover` finds the newest whole one.
"""

import logging
from pathlib import Path
from typing import Any

import torch

from botvision.checkpoint import first_whole, kept_checkpoints
from botvision.checksum import add_checksum, damage_of
from botvision.errors import UserError
from botvision.files import sync, whole_file

logger = logging.getLogger("botvision")


class Checkpoints:
    """Writes the checkpoints of a run. Only the first process calls it.

    A step with a finite loss can make weights that are not finite; only the next loss, or an evaluation, shows it.
    Until then ``last.ckpt`` is in doubt, and the one before replaces it if the weights are bad.

    Args:
        folder: of the checkpoints.
        keep: how many are kept beside the best one; at least 2.
        step: that of ``last.ckpt``, 0 if there is none.
        in_doubt: whether nothing has shown yet that its weights are finite.
    """

    def __init__(self, folder: Path, keep: int, step: int, *, in_doubt: bool) -> None:
        self.slots = slots_of(folder, keep)
        self.last, self.best = self.slots[0], folder / "best.ckpt"
        self.step, self.in_doubt = step, in_doubt

    def save_last(self, content: dict[str, Any]) -> None:
        """Write ``last.ckpt``; the one of the step before stays as ``before.ckpt``.

        Raises:
            UserError: it could not be written.
        """
        if content["step"] == self.step:  # again, with what an evaluation found
            save(content, self.last)
            return
        save(content, self.last.with_name("new.ckpt"))
        install_new(self.slots)
        self.step, self.in_doubt = content["step"], True

    def save_best(self, content: dict[str, Any]) -> None:
        """Write ``best.ckpt``.

        Raises:
            UserError: it could not be written.
        """
        save(content, self.best)

    def has_best(self) -> bool:
        """Whether ``best.ckpt`` is there and whole; a damaged one is named in a warning."""
        damage = damage_of(self.best) if self.best.is_file() else None
        if damage:
            logger.warning("%s is damaged: %s; the best of the evaluations to come replaces it", self.best, damage)
        return self.best.is_file() and damage is None

    def confirm(self) -> None:
        """Trust ``last.ckpt``: its weights gave a finite loss, or an evaluation."""
        self.in_doubt = False

    def withdraw(self) -> None:
        """Take ``last.ckpt`` back, unless it is trusted: its weights have blown up."""
        if not self.in_doubt:
            return
        before = next((file for file in self.slots[1:] if file.is_file()), None)
        if before:
            before.replace(self.last)
        else:
            self.last.unlink(missing_ok=True)


def slots_of(folder: Path, keep: int) -> list[Path]:
    """The names of the checkpoints that a run keeps, the newest first."""
    return [folder / f"{name}.ckpt" for name in ("last", "before", *(f"before-{number}" for number in range(2, keep)))]


def install_new(slots: list[Path]) -> None:
    """Rename ``new.ckpt`` to ``last.ckpt``, and each other one to the name behind it; older ones are removed.

    Killed at any moment and called again, it ends as if it had not been: it moves only what is before the first gap.
    """
    gap = next((place for place, file in enumerate(slots) if not file.is_file()), len(slots) - 1)
    for place in range(gap, 0, -1):
        slots[place - 1].replace(slots[place])
    slots[0].with_name("new.ckpt").replace(slots[0])
    for file in kept_checkpoints(slots[0].parent):
        if file not in slots:
            file.unlink(missing_ok=True)
    sync(slots[0].parent)


def recover(folder: Path, keep: int) -> bool:
    """Make the newest whole checkpoint of a run ``last.ckpt``; gives whether there is one.

    Damaged ones are named in a warning, and the newest of them is kept as ``damaged.ckpt``.

    Raises:
        UserError: there are only damaged ones.
    """
    files, slots = [folder / "new.ckpt", *kept_checkpoints(folder)], slots_of(folder, keep)
    found, _ = first_whole(files)
    if found is None:
        return False
    for file in reversed(files[: files.index(found)]):
        if file.is_file():
            file.replace(folder / "damaged.ckpt")
    if found.name == "new.ckpt":
        install_new(slots)
    elif found != slots[0]:
        found.replace(slots[0])
    return True


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint with its checksum under a temporary name, and rename it, both surely on the disk.

    Raises:
        UserError: it could not be written; the file that was there before is as it was.
    """
    try:
        with whole_file(path, durable=True) as temporary:
            torch.save(content, temporary)
            add_checksum(temporary)
    except (UserError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
        reason = str(error).splitlines()[0]
        what = reason if isinstance(error, UserError) else f"could not write {path} ({reason}); free some space"
        last = path.with_name("last.ckpt")
        raise UserError(f"{what}; {last} is kept" if last.is_file() else what) from error
