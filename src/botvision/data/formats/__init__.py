"""Annotations of other tools: YOLO, Pascal VOC, LabelMe, CVAT and VIA, each read by one file of this folder.

Own readers, because the libraries read less than the formats hold. Tried on exports made by hand after the tools'
documentation: supervision 0.31 turns YOLO's boxes into masks where one object of the image has an outline, all
outlines into bitmaps (a box of 20 x 20 pixels becomes 21 x 21) and LabelMe's circles into nothing, and reads neither
CVAT nor VIA; globox 2.9 keeps boxes alone, finds nothing in LabelMe's and CVAT's polygons, and fails on a label file of
YOLO that has a box and a polygon.
"""

from pathlib import Path
from types import ModuleType

from botvision.data.formats import cvat, labelme, via, voc, yolo
from botvision.data.formats.building import FormatSplit

FORMATS: dict[str, ModuleType] = {"yolo": yolo, "voc": voc, "cvat": cvat, "via": via, "labelme": labelme}
"""By the name of the format its reader: a module with NAME, NEEDS (files), is_here(folder) and read(folder).

LabelMe comes last, as it is looked for in folders below too.
"""

__all__ = ["FORMATS", "FormatSplit", "find_format"]


def find_format(folder: Path) -> str | None:
    """The name of the format that a folder has; None where it has none of them."""
    return next((name for name, reader in FORMATS.items() if reader.is_here(folder)), None)
