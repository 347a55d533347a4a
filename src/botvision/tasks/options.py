"""What can be chosen where a trained model is evaluated or used, and a data set is checked. Without PyTorch."""

from pathlib import Path
from typing import Literal

from botvision.configuration import Config, Count, CountOrZero


class EvalOptions(Config):
    """Options of every evaluation of a checkpoint."""

    out: Path | None = None
    """Folder for the results; eval/<split> in the run folder by default, beside what the training wrote."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; auto takes a GPU where there is one."""
    split: str = "val"
    """Split to evaluate on; also test, where there is such a folder."""
    images: Count | None = None
    """Evaluate on so many images alone."""
    batch_size: Count | None = None
    """Images at once."""
    follow_links: bool = False
    """Read images that are links to files elsewhere, as caches and DVC make them."""
    workers: CountOrZero = 1
    """Processes that read images; 0 reads them in the evaluating process."""


class PredictOptions(Config):
    """Options of every prediction on image files."""

    out: Path
    """Folder for predictions.json and the pictures, another one than that of the images."""
    follow_links: bool = False
    """Read links in these folders that lead to files elsewhere."""
    batch_size: Count | None = None
    """Images at once, fewer where they are large; by default 1 on a processor and 8 on a GPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; auto takes a GPU where there is one."""


class CheckOptions(Config):
    """Options of checking a data set."""

    out: Path | None = None
    """Folder for check.html (one page), check.json and pictures/."""
    splits: tuple[str, ...] | None = None
    """Splits to check; by default train, val, and test where it is there."""
    detector: Literal["mask_rcnn", "faster_rcnn", "keypoint_rcnn", "detr"] | None = None
    """Check for this detector; by default for any that the data can train."""
    pictures: CountOrZero = 8
    """Images of each split to draw with their annotations."""
    follow_links: bool = False
    """Read images that are links to files elsewhere."""
    in_channels: Count | None = None
    """Read images as they are stored, with so many channels; by default those that are not 8 bits of grey or RGB."""
