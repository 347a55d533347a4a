"""Images that could not be read: a warning for each, and an error where there are too many."""

from dataclasses import dataclass, field
from typing import Any, Self

from botvision.data.loading import Batch
from botvision.errors import first_few
from botvision.process_log import process_log
from botvision.training.sharing import gather_or_raise

LARGEST_SHARE = 0.01
"""A run stops when more than this share of the images seen could not be read."""
LEAST_SEEN = 1000
"""The share is of at least so many images, or of the whole data set if it has fewer."""
SHOWN = 20


def too_many(bad: int, counted: int) -> bool:
    """Whether so many unreadable images stop a run: more than one, and more than 1 % of those counted."""
    return bad > max(1, LARGEST_SHARE * counted)


@dataclass
class SkippedImages:
    """Warns of every unreadable image, and says when there are more than 1 %.

    One image alone never stops a run. An image counts once, in whichever epoch it fails. Each of several processes
    counts its own share of the images.
    """

    images: int
    """Of the data set, or of this process's share of it."""
    seen: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    """Paths and reasons."""
    problem: str | None = None
    """Why the run has to stop, in one line; None while it may continue."""

    @classmethod
    def shared(cls, images: int, seen: int, bad: dict[str, str], *, rank: int, world: int) -> Self:
        """The share of this process of what all of them have counted, and of the images."""
        return cls(images // world, seen // world, dict(list(bad.items())[rank::world]))

    def of_all(self) -> dict[str, Any]:
        """What all processes have counted, in any number of which a run can go on; all have to call it."""
        everyone = gather_or_raise(lambda: (self.seen, self.bad))
        bad = {path: reason for _, own in everyone for path, reason in own.items()}
        return {"seen": sum(seen for seen, _ in everyone), "bad": bad}

    def count(self, batch: Batch) -> None:
        """Count the images of a batch by its "size" and its "skipped" [(path, reason)]; warn of new unreadable ones."""
        skipped = batch.get("skipped", [])
        self.seen = min(self.images, self.seen + batch["size"] + len(skipped))
        new = {path: reason for path, reason in skipped if path not in self.bad}
        self.bad |= new
        for path, reason in new.items():
            process_log.warning("left out %s: %s", path, reason)
        counted = max(self.seen, min(self.images, LEAST_SEEN))
        if new and too_many(len(self.bad), counted):
            named = first_few([f"{path} ({reason})" for path, reason in self.bad.items()], SHOWN)
            self.problem = (
                f"{len(self.bad)} images could not be read, more than one and more than 1 % of {counted}: {named} "
                "(each has a warning above); replace or remove them, and start a new run"
            )
