"""What a user may have meant by an option that a command does not have. Only said: nothing is taken for another."""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

CLOSE = 0.7
"""Least similarity of two spellings, from 0 to 1, at which one is offered for the other."""

ASSIGNMENT = re.compile(r"[a-z][a-z0-9_]*=.*", re.DOTALL)
"""A word such as epochs=3, which is how Ultralytics' options are written."""
AS_FLAGS = "options are written --data FOLDER, not data=FOLDER"

INPUT_SIZE = ("--input-size", "--size")
CHECKPOINT = ("--weights", "CHECKPOINT", "MODEL")
IMAGES = ("IMAGES", "IMAGE")
OUT = ("--out",)
OF_OTHER_TOOLS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("imgsz", "img", "img-size", "image-size", "resize", "train-crop-size"), INPUT_SIZE),
    **dict.fromkeys(("conf", "conf-thres", "confidence", "score-thr"), ("--threshold", "--score-threshold")),
    **dict.fromkeys(("batch", "batch-size"), ("--batch-size", "--batch")),
    **dict.fromkeys(("epochs", "max-epochs"), ("--epochs", "--steps")),
    **dict.fromkeys(("lr0", "learning-rate", "base-lr"), ("--lr",)),
    **dict.fromkeys(("model", "arch"), ("--model", "--backbone", *CHECKPOINT)),
    **dict.fromkeys(("weights", "pretrained", "checkpoint", "ckpt"), CHECKPOINT),
    **dict.fromkeys(("source", "input", "images"), IMAGES),
    **dict.fromkeys(("save-dir", "project", "name", "output", "output-dir", "work-dir"), OUT),
    **dict.fromkeys(("data-path", "data-dir", "dataset"), ("--data", "FOLDER")),
    **dict.fromkeys(("num-workers",), ("--workers",)),
    **dict.fromkeys(("wd",), ("--weight-decay",)),
    **dict.fromkeys(("opt",), ("--optimizer",)),
    **dict.fromkeys(("amp", "half"), ("--precision", "--dtype")),
    **dict.fromkeys(("save-period",), ("--save-every",)),
    **dict.fromkeys(("print-freq",), ("--log-every",)),
    **dict.fromkeys(("lr-warmup-epochs",), ("--warmup-epochs",)),
}
"""By the name of an option in Ultralytics, torchvision's references and the like: what does the same here, where a
command has it. Names in capitals are words that come without an option."""


def suggestion(option: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown option: what was meant, if that is clear, and else where to look.

    Args:
        option: as the user wrote it, such as --imgsz or --conf=0.5.
        known: names of the command's options, and of its words in capitals.
    """
    names = list(known)
    word = option.partition("=")[0].lstrip("-").replace("_", "-").lower()
    meant = [name for name in OF_OTHER_TOOLS.get(word, ()) if name in names]
    spelled = {name.lstrip("-"): name for name in names if name.startswith("--")}
    close = difflib.get_close_matches(word, spelled, n=1, cutoff=CLOSE)
    found = meant[0] if meant else spelled[close[0]] if close else None
    if found is None:
        return "see --help"
    return f"did you mean {found}?" if found.startswith("--") else f"give {found} alone, without an option before it"


def assignments(words: Sequence[str]) -> list[str]:
    """The words that are written as Ultralytics' options, such as epochs=3, and are no files."""
    return [word for word in words if ASSIGNMENT.fullmatch(word) and not Path(word).exists()]
