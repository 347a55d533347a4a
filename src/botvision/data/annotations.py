"""Reading a COCO annotation file, and checking every record before training starts."""

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from botvision.data.findings import Findings
from botvision.data.json_records import Id, identity_of, load_json, records, text, what_is_there, whole
from botvision.data.keypoints import names_and_skeleton, usable_keypoints
from botvision.data.masks import NUMBERS, mask_box, usable_segmentation
from botvision.errors import UserError, printable, short

FARTHEST = 1e9
"""Boxes with a larger number are taken for infinite, in pixels."""
MOST_PIXELS = 2**31
"""Run lengths and files of images end there."""
CROWD: dict[object, bool] = {None: False, 0: False, "0": False, 1: True, "1": True}
"""What tools write as 'iscrowd'; False and True are equal to 0 and 1."""
ROUNDING = 2.0
"""Boxes that reach so many pixels out of their image are cut there without a word."""
NO_BOX = "box missing"


@dataclass(frozen=True)
class Category:
    """A kind of object, with COCO's own id (ids may have gaps), and its keypoints, where these are read."""

    id: Id
    name: str
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = field(default=(), compare=False)
    """Pairs of keypoints to draw a line between, counted from 1."""


def keypoint_names(categories: Sequence[Category]) -> tuple[str, ...]:
    """The keypoints of the categories that have some; they are the same in all of these."""
    return next((category.keypoints for category in categories if category.keypoints), ())


@dataclass(frozen=True)
class ImageRecord:
    """An image of the annotation file; sizes in pixels."""

    id: Id
    path: Path
    height: int
    width: int


class Instance(NamedTuple):
    """One annotated object: label 1..K, box x1, y1, x2, y2 in pixels inside its image, mask not yet decoded, if any."""

    label: int
    box: tuple[float, float, float, float]
    segmentation: list | dict | None
    crowd: bool = False
    """A region of many objects at once: never learnt, and neither found nor missed in COCO's metric."""
    keypoints: list[float] | None = None
    """x, y in pixels and visibility of each keypoint of the category, one after the other, if any can be used."""


class Annotations(NamedTuple):
    """A whole annotation file, checked."""

    categories: list[Category]
    images: list[ImageRecord]
    instances: list[list[Instance]]  # of each image, crowds too
    annotated: bool  # whether the file has 'annotations', which test splits lack
    dropped: dict[str, int]  # why, and how many annotations are not learnt
    changed: dict[str, int]  # how, and how many objects are not as the file has them


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A file makes millions of lists, none in a circle: to look for circles among them would double the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@no_garbage_collection()
def read_annotations(
    file: Path,
    image_folder: Path,
    content: dict | None = None,
    *,
    masks: bool = True,
    keypoints: bool = False,
    limit: int | None = None,
    findings: Findings | None = None,
) -> Annotations:
    """Read and check a COCO `instances` or `person_keypoints` file, the one time that it is read.

    Boxes are clipped to their image; a missing box is made from the mask. Objects whose box cannot be used (of no area,
    not finite, or outside its image) are left out and counted; crowds are counted too. Objects without a usable mask,
    or without usable keypoints, stay, with None as their mask or keypoints.

    Args:
        file: COCO's JSON.
        image_folder: which the names of the images are relative to.
        content: what the file would hold, where the annotations are in another format; the file is then not read.
        masks: whether masks are wanted; if not, a wrong 'segmentation' counts as none.
        keypoints: whether keypoints are wanted; if not, they are not looked at. All categories that have keypoints must
            have the same ones.
        limit: number of images to take, the first ones of the file.
        findings: takes in every record that is wrong, left out or changed; records that are wrong are passed over.

    Raises:
        UserError: anything else that is wrong; names the file, the record and the field. With `findings`, only what
            concerns the whole file.
    """
    content = load_json(file) if content is None else content
    categories = _categories(content, file, keypoints, findings)
    images = list(records(content, "images", file, lambda record: _image(record, image_folder), findings))
    for name, found in (("categories", categories), ("images", images)):
        if not found:
            raise UserError(f"{file}: '{name}' is empty; give a file with at least one entry there")
    objects = _Objects(file, categories, images, limit, masks, findings)
    annotated = "annotations" in content
    if annotated:
        for _ in records(content, "annotations", file, objects.read, findings):
            pass
    counts = dict(+objects.dropped), dict(+objects.changed)
    return Annotations(categories, images[:limit], objects.instances, annotated, *counts)


class _Objects:
    """Takes in the annotations of a file, record by record."""

    def __init__(
        self,
        file: Path,
        categories: list[Category],
        images: list[ImageRecord],
        limit: int | None,
        masks: bool,
        findings: Findings | None,
    ) -> None:
        self.file, self.categories, self.masks, self.findings = file, categories, masks, findings
        self.labels = {category.id: label for label, category in enumerate(categories, start=1)}
        self.numbers = {image.id: number for number, image in enumerate(images)}
        self.images = images[:limit]
        self.instances: list[list[Instance]] = [[] for _ in self.images]
        self.dropped: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()

    def read(self, record: dict) -> None:
        """Take in an annotation; raises a ValueError where it is wrong."""
        if self.findings and self.findings.has_refused("images", record.get("image_id")):
            about = f"annotation of id {short(record['id'])}"
            self.findings.add("left out", "annotation of a refused image", self.file, "", about)
            return
        number, label = _known(self.numbers, record, "image_id"), _known(self.labels, record, "category_id")
        if number >= len(self.images):
            return
        count = len(self.categories[label - 1].keypoints)
        before = Counter(self.changed) if self.findings else self.changed
        instance = _instance(record, self.images[number], label, self.masks, count, self.changed)
        if self.findings:
            _note(self.findings, self.file, record, instance, self.changed - before)
        if isinstance(instance, str):
            self.dropped[instance] += 1
        else:
            self.dropped["crowd"] += instance.crowd
            self.instances[number].append(instance)


def _note(findings: Findings, file: Path, record: dict, instance: Instance | str, changed: Counter[str]) -> None:
    """Say what an annotation is left out for, and what is changed in it."""
    about = f"annotation of id {short(record['id'])}"
    reason = instance if isinstance(instance, str) else "crowd" if instance.crowd else ""
    if reason:
        findings.add("left out", reason, file, "", about)
    for change in +changed:
        findings.add("changed", change, file, "", about)


def _categories(content: dict, file: Path, keypoints: bool, findings: Findings | None) -> list[Category]:
    """Sorted by their ids."""

    def read(record: dict) -> Category:
        name = printable(text(record, "name"))
        return Category(record["id"], name, *(names_and_skeleton(record) if keypoints else ()))

    categories = list(records(content, "categories", file, read, findings))
    if len({category.keypoints for category in categories if category.keypoints}) > 1:
        raise UserError(f"{file}: categories with different 'keypoints' are not supported; give them the same, or none")
    return sorted(categories, key=lambda category: (isinstance(category.id, str), category.id))


def _image(record: dict, folder: Path) -> ImageRecord:
    name = text(record, "file_name")
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.anchor or ".." in windows.parts:
        raise ValueError(f"'file_name' {short(name)} must be a path inside {folder}, without '..'")
    height, width = whole(record, "height"), whole(record, "width")
    if height < 1 or width < 1 or height * width >= MOST_PIXELS:
        raise ValueError(
            f"'height' and 'width' must be at least 1 pixel and their product below {MOST_PIXELS}, not "
            f"{short(height)} and {short(width)}"
        )
    return ImageRecord(record["id"], folder / name, height, width)


def _instance(
    record: dict, image: ImageRecord, label: int, masks: bool, keypoints: int, changed: Counter[str]
) -> Instance | str:
    """The annotation, or the reason why it is left out; counts in `changed` what was not as it should be."""
    segmentation = _segmentation(record, image, masks)
    box = _clipped_box(record.get("bbox"), image, changed)
    if box == NO_BOX and segmentation is not None:
        x, y, width, height = mask_box(segmentation, image.height, image.width)
        if width and height:
            changed["box from the mask"] += 1
            box = x, y, x + width, y + height
    elif box == NO_BOX and not record.get("segmentation"):
        raise ValueError(f"'bbox' must be four numbers [x, y, width, height], {what_is_there(record, 'bbox')}")
    if isinstance(box, str):
        return box
    crowd = record.get("iscrowd")
    if isinstance(crowd, list | dict) or crowd not in CROWD:
        raise ValueError(f"'iscrowd' must be 0 or 1, not {short(crowd)}")
    if masks and segmentation is None and not CROWD[crowd]:
        changed["mask without pixels" if record.get("segmentation") else "box without mask"] += 1
    points = _keypoints(record, keypoints)
    if isinstance(points, str):
        changed[points] += not CROWD[crowd]
        points = None
    return Instance(label, box, segmentation, CROWD[crowd], points)


def _keypoints(record: dict, count: int) -> list[float] | str | None:
    try:
        return usable_keypoints(record.get("keypoints"), count) if count else None
    except ValueError as error:
        raise ValueError(f"'keypoints' {error}") from error


def _segmentation(record: dict, image: ImageRecord, masks: bool) -> list | dict | None:
    if record.get("segmentation") is None:
        return None
    try:
        return usable_segmentation(record["segmentation"], image.height, image.width)
    except ValueError as error:
        if not masks:
            return None
        raise ValueError(f"'segmentation' {error}") from error


def _clipped_box(box: object, image: ImageRecord, changed: Counter[str]) -> tuple[float, float, float, float] | str:
    """`bbox` (x, y, width, height) as x1, y1, x2, y2 inside the image, or the reason why it cannot be used."""
    if box is None or box == []:
        return NO_BOX
    if not isinstance(box, list) or len(box) != 4 or not NUMBERS.issuperset(map(type, box)):
        raise ValueError(f"'bbox' must be four numbers [x, y, width, height], not {short(box)}")
    x, y, width, height = box
    if not (abs(x) < FARTHEST and abs(y) < FARTHEST and abs(width) < FARTHEST and abs(height) < FARTHEST):
        return "box not finite"
    if width <= 0 or height <= 0:
        return "box without area"
    x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + width, image.width), min(y + height, image.height)
    if x1 >= x2 or y1 >= y2:
        return "box outside its image"
    if min(x, y) < -ROUNDING or x + width > image.width + ROUNDING or y + height > image.height + ROUNDING:
        changed["box cut at the edge of its image"] += 1
    return x1, y1, x2, y2


def _known(table: dict[Id, int], record: dict, field: str) -> int:
    known = identity_of(record, field)
    if known not in table:
        raise ValueError(f"'{field}' is {short(known)}, which the file does not define")
    return table[known]
