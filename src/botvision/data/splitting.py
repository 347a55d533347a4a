"""Images shared out over a training and a validation split, so that both have each class in its share."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from botvision.configuration import FieldError
from botvision.data.coco_files import CocoContent
from botvision.errors import UserError, first_few, short

logger = logging.getLogger("botvision")

NAMED = 5


def split_coco(source: CocoContent, file: Path, *, val: float, seed: int) -> dict[str, CocoContent]:
    """A train and a val split of one annotation file, by image file, stratified by class.

    Args:
        source: of :func:`~botvision.data.coco_files.read_coco`.
        file: for messages.
        val: share of the images in val, above 0 and below 1.
        seed: of what is drawn; the same seed gives the same splits.

    Raises:
        FieldError: the share is out of range.
        UserError: fewer than two image files, or every one has a class that no other has.
    """
    check_share(val)
    number = {record["id"]: place for place, record in enumerate(source.content["images"])}
    photograph = same_files([image.path for image in source.images])
    classes: list[set] = [set() for _ in range(photograph.max() + 1)]
    if len(classes) < 2:
        raise UserError(f"{file}: has {len(classes)} image, and two splits need at least 2")
    for record in source.content.get("annotations", []):
        classes[photograph[number[record["image_id"]]]].add(record["category_id"])
    in_val = stratified(classes, val, seed)
    if not in_val.any():
        raise UserError(f"{file}: no image can be in val, as each has a class that no other has, which train needs")
    _warn_of_rare(source, file, classes, in_val)
    chosen = in_val[photograph]
    return {name: _part(source, chosen == is_val, number) for name, is_val in (("train", False), ("val", True))}


def same_files(paths: Sequence[Path]) -> np.ndarray:
    """Numbers from 0 on, int64 (paths,), in the order of the paths: equal where two of them are, or lead to, one file.

    Files that are there more than once would else be in train and in val: under several ids, names, or links.
    """
    numbers: dict[tuple[int, int], int] = {}
    files = (path.stat() for path in paths)
    return np.array([numbers.setdefault((file.st_dev, file.st_ino), len(numbers)) for file in files], dtype=np.int64)


def check_share(val: float) -> None:
    """Raise a FieldError for a share of images that leaves a split without any."""
    if not 0 < val < 1:
        raise FieldError(("val",), f"should be above 0 and below 1, got {val:g}")


def _part(source: CocoContent, chosen: np.ndarray, number: Mapping[object, int]) -> CocoContent:
    """The images that are chosen, and their annotations, in the order of the file."""
    content = {name: value for name, value in source.content.items() if name not in ("images", "annotations")}
    content["images"] = [record for record, own in zip(source.content["images"], chosen, strict=True) if own]
    if "annotations" in source.content:
        given = source.content["annotations"]
        content["annotations"] = [record for record in given if chosen[number[record["image_id"]]]]
    images = [image for image, own in zip(source.images, chosen, strict=True) if own]
    return CocoContent(content, images, source.image_folder)


def _warn_of_rare(source: CocoContent, file: Path, classes: Sequence[set], in_val: np.ndarray) -> None:
    validated = set().union(*(own for own, is_val in zip(classes, in_val, strict=True) if is_val))
    rare = set().union(*classes) - validated
    names = [short(record["name"]) for record in source.content["categories"] if record["id"] in rare]
    if names:
        logger.warning("%s: classes with too few images, which are all in train: %s", file, first_few(names, NAMED))


def stratified(classes: Sequence[set], val: float, seed: int) -> np.ndarray:
    """Which images are validated on: iterative stratification (Sechidis et al. 2011), rarest class first.

    Every class is in train, and in val too where its images are not needed for other classes in train. So classes of
    few images can make val larger than asked for.

    Args:
        classes: of each image.
        val: share of the images in val.
        seed: of the order in which images are shared out.

    Returns:
        bool (images,).
    """
    order = np.random.default_rng(seed).permutation(len(classes)).tolist()
    images_of: dict[object, list[int]] = defaultdict(list)
    for image in order:
        for category in classes[image]:
            images_of[category].append(image)
    # How many images of each class, and in all, the splits still lack: [train, val].
    lacks = {category: _wanted(len(own), val) for category, own in images_of.items()}
    lacks_in_all = _wanted(len(classes), val)
    in_val = np.zeros(len(classes), dtype=bool)
    free = set(order)

    def assign(image: int, wanted: Sequence[float]) -> None:
        to_val = (wanted[1], lacks_in_all[1]) > (wanted[0], lacks_in_all[0])
        in_val[image] = to_val
        free.remove(image)
        lacks_in_all[to_val] -= 1
        for category in classes[image]:
            lacks[category][to_val] -= 1

    left = {category: len(own) for category, own in images_of.items()}
    while left:
        rarest = min(left, key=lambda category: (left[category], str(category)))
        for image in images_of[rarest]:
            if image in free:
                assign(image, lacks[rarest])
                for category in classes[image]:
                    left[category] -= 1
        left = {category: count for category, count in left.items() if count}
    for image in [image for image in order if image in free]:
        assign(image, lacks_in_all)
    for own in images_of.values():  # another class of theirs may have sent all of them to val
        if in_val[own].all():
            in_val[own[0]] = False
    return in_val


def _wanted(images: int, val: float) -> list[float]:
    """How many of some images train and val want: their share, but one at least; a single one is for train."""
    share = min(max(images * val, 1.0), images - 1.0)
    return [images - share, share]
