"""Images that could not be read: named as they come, and the end of a run where they are too many."""

import logging
from typing import Any

import pytorch_lightning as pl

from botvision.data.loading import Batch
from botvision.errors import UserError

log = logging.getLogger("botvision")

SHARE = 0.01
"""More unreadable images than this share of those seen are no accident any more."""
LEAST_SEEN = 1000
"""A run is not judged by fewer images than these, or by the whole data set where it has fewer."""
SHOWN = 20


class SkippedImages(pl.Callback):
    """Warns of every image that a batch came without, and stops a run with more than 1 % of them.

    One alone never stops a run. Images are counted once, in whichever epoch they fail. Of several processes each counts
    those of its own share; a resumed run goes on with the counts of the first.

    Args:
        images: of the data set, or of this process's share of it.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self.seen = 0
        self.bad: dict[str, str] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, *_: Any) -> None:  # noqa: ANN401
        """Count and name what is missing in a batch.

        Raises:
            UserError: too many images could not be read.
        """
        skipped = batch.get("skipped", [])
        self.seen = min(self.images, self.seen + len(batch["targets"]) + len(skipped))
        new = {path: reason for path, reason in skipped if path not in self.bad}
        self.bad |= new
        for path, reason in new.items():
            log.warning("left out %s: %s", path, reason)
        counted = max(self.seen, min(self.images, LEAST_SEEN))
        if new and len(self.bad) > max(1, SHARE * counted):
            named = [f"{path} ({reason})" for path, reason in list(self.bad.items())[:SHOWN]]
            more = f" and {len(self.bad) - SHOWN} more, each in a warning above" if len(self.bad) > SHOWN else ""
            raise UserError(
                f"{len(self.bad)} images could not be read, more than one and more than 1 % of {counted}: "
                f"{', '.join(named)}{more}; mend them, or take them away and start anew"
            )

    def state_dict(self) -> dict[str, Any]:
        """The counts go into the checkpoint."""
        return {"seen": self.seen, "bad": dict(self.bad)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The counts of the run that is resumed."""
        self.seen, self.bad = state_dict["seen"], dict(state_dict["bad"])
