"""Checkpoints that are whole or not there, and when they are written."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from botvision.checkpoint import read_checkpoint
from botvision.errors import NotFiniteError, UserError
from botvision.files import whole_file


class WholeCheckpoints(TorchCheckpointIO):
    """Writes to a temporary name and renames, so that a full disk leaves the last good checkpoint as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write a checkpoint, or leave what was there before.

        Raises:
            UserError: it could not be written.
        """
        try:
            with whole_file(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except (UserError, RuntimeError) as error:  # the second is what torch makes of a full disk
            reason = str(error).splitlines()[0]
            what = reason if isinstance(error, UserError) else f"could not write {path} ({reason}); free some space"
            last = Path(path).with_name("last.ckpt")
            raise UserError(f"{what}; {last} is kept" if last.is_file() else what) from error

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:  # noqa: ANN401
        """Read a checkpoint without running any code in it; errors as in ``read_checkpoint``."""
        return read_checkpoint(Path(path))


class SaveCheckpoints(pl.Callback):
    """Keeps ``checkpoints/last.ckpt`` up to date, and ``checkpoints/best.ckpt`` where a score got better.

    The step that blows a network up has a finite loss; only the next loss shows what became of the weights. Until then
    the checkpoint before stays as ``before.ckpt``, and is the last one again where that loss is not finite.

    Args:
        folder: of the checkpoints.
        every: steps between two writes of last.ckpt; each evaluation, the one at the end included, asks for one too.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.last, self.before = folder / "last.ckpt", folder / "before.ckpt"
        self.every = every
        self.best = float("-inf")
        self.saved_step = 0
        self.in_doubt = self.before.is_file()

    def save_last(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt, unless it is of this step already."""
        if self.saved_step != trainer.global_step:
            self.write_last(trainer)

    def write_last(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt; the one before stays until :meth:`trust_last`."""
        new = self.folder / "new.ckpt"
        trainer.save_checkpoint(new, weights_only=False)
        if trainer.is_global_zero:
            if self.last.is_file() and not self.in_doubt:
                self.last.replace(self.before)
            new.replace(self.last)
        self.saved_step, self.in_doubt = trainer.global_step, True

    def trust_last(self, trainer: pl.Trainer) -> None:
        """The weights of last.ckpt have given something finite."""
        if self.in_doubt and trainer.is_global_zero:
            self.before.unlink(missing_ok=True)
        self.in_doubt = False

    def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: ANN401
        """A loss came through :meth:`TrainingModule.training_step`, so it is finite."""
        self.trust_last(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take weights back that have blown up."""
        if isinstance(exception, NotFiniteError) and self.in_doubt and trainer.is_global_zero:
            if self.before.is_file():
                self.before.replace(self.last)
            else:
                self.last.unlink(missing_ok=True)

    def save_best(self, trainer: pl.Trainer, score: float) -> None:
        """Write best.ckpt if this score beats every one before; last.ckpt too, so that a resumed run knows of it."""
        if score > self.best:
            self.best = score
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=False)
            self.write_last(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: ANN401
        """Write last.ckpt when it is due."""
        if stepped(trainer) and trainer.global_step % self.every == 0:
            self.save_last(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far goes into the checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The best score so far, of the run that is resumed."""
        self.best = state_dict["best"]


def stepped(trainer: pl.Trainer) -> bool:
    """Whether the batch that just ended also ended an optimiser step (gradients may accumulate over several)."""
    return trainer.fit_loop.total_batch_idx % trainer.accumulate_grad_batches == trainer.accumulate_grad_batches - 1
