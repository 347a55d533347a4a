"""Data sets written in COCO's layout: an annotation file and the image files of each split."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from botvision.configuration import FieldError
from botvision.data.annotations import ImageRecord, read_annotations
from botvision.data.formats import FORMATS
from botvision.data.formats.bare_yolo import missing_settings
from botvision.data.images import check_size
from botvision.data.json_records import load_json
from botvision.data.layouts import (
    CocoSplit,
    find_image_files,
    find_split,
    image_folder_of,
    is_in_coco,
    other_format,
)
from botvision.data.masks import mask_area, mask_box, usable_segmentation
from botvision.data.new_folder import link_or_copy, new_folder
from botvision.errors import SeveralErrors, UserError
from botvision.files import no_folder, what_is_in


class CocoContent(NamedTuple):
    """What is in an annotation file, and the files of its images, in order."""

    content: dict[str, Any]
    images: list[ImageRecord]
    image_folder: Path


def read_coco(file: Path, image_folder: Path | None = None, *, follow_links: bool = False) -> CocoContent:
    """Read and check a COCO file with its images; the content stays as it is.

    Args:
        file: the annotations.
        image_folder: holds the images; by default where the layouts that training knows have it.
        follow_links: whether links may lead out of the image folder.

    Raises:
        UserError: what training would refuse too.
    """
    folder = image_folder or image_folder_of(file)
    content = load_json(file)
    read = read_annotations(file, folder, masks=True)
    return CocoContent(content, checked_images(folder, read.images, follow_links=follow_links), folder)


def read_export(
    folder: Path, wanted: str = "auto", *, follow_links: bool = False
) -> tuple[str, dict[str, CocoContent]]:
    """Every split of the export of a labelling tool, read and checked, and the name of its format.

    Args:
        folder: holds the export.
        wanted: its format, or a tool that exports several ("roboflow", "cvat", "labelstudio"), or "auto".
        follow_links: whether links may lead out of the folder.

    Raises:
        FieldError: the export has another format.
        UserError: what is wrong; names the file and the field.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: {no_folder(folder)}; it should hold the unpacked export")
    known = other_format(folder)
    if wanted in FORMATS and wanted != known and wanted != "cvat":  # which exports COCO's format too
        seen = f"looks like {known or 'coco'}" if known or is_in_coco(folder) else f"holds {what_is_in(folder)}"
        advice = missing_settings(folder) if wanted == "yolo" else None
        problem = f"{folder} is no export in this format, which has {FORMATS[wanted].NEEDS}; it {seen}"
        raise FieldError(("from",), advice or problem)
    found = {}
    for name, (place, converted) in export_splits(folder, known).items():
        content = load_json(place.annotation_file) if converted is None else converted
        read = read_annotations(place.annotation_file, place.image_folder, content)
        images = checked_images(place.image_folder, read.images, follow_links=follow_links)
        found[name] = CocoContent(content, images, place.image_folder)
    return FORMATS[known].NAME if known else "COCO", found


def checked_images(folder: Path, images: list[ImageRecord], *, follow_links: bool) -> list[ImageRecord]:
    """The images with the files that are found for them, which have the annotated sizes by their headers.

    Raises:
        SeveralErrors: files of other sizes, or that are damaged.
        UserError: files are missing or empty, or a link leads out of the folder.
    """
    found = find_image_files(folder, images, follow_links=follow_links)
    problems = []
    for image in found:
        try:
            check_size(image.path, (image.height, image.width))
        except UserError as error:
            problems.append(error)
    if problems:
        raise SeveralErrors(problems)
    return found


def export_splits(folder: Path, known: str | None) -> dict[str, tuple[CocoSplit, dict[str, Any] | None]]:
    """Where every split of an export is, and its content if converted; of a single file for all of them, train."""
    if known:
        splits = FORMATS[known].read(folder)
        return {name: (CocoSplit(split.source, split.image_folder), split.content) for name, split in splits.items()}
    places = {"train": find_split(folder, "train")}
    for name in ("val", "test"):
        try:
            place = find_split(folder, name)
        except UserError:  # exports need not have every split
            continue
        if place.annotation_file not in {other.annotation_file for other in places.values()}:
            places[name] = place
    return {name: (place, None) for name, place in places.items()}


def write_coco_folder(
    folder: Path, splits: Mapping[str, CocoContent], on_image: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Write `annotations/instances_{split}.json` and `{split}/` of every split; the folder appears when it is complete.

    Annotations get the 'bbox' and the 'area' that they lack, which pycocotools and other readers need.

    Image files get a second name (a hard link) where the file system allows it, else they are copied.

    Args:
        folder: must not exist, or be empty.
        splits: their images and annotations by name.
        on_image: told how many images are done, of how many.

    Raises:
        FieldError: the folder holds something.
        UserError: no space is left.
    """
    done, total = 0, sum(len(split.images) for split in splits.values())
    with new_folder(folder) as part:
        for name, split in splits.items():
            records = []
            for record, image in zip(split.content["images"], split.images, strict=True):
                inside = image.path.relative_to(split.image_folder)
                if not (part / name / inside).exists():  # else it is the file of another image too
                    link_or_copy(image.path, part / name / inside)
                records.append({**record, "file_name": inside.as_posix()})
                done += 1
                on_image(done, total)
            file = part / "annotations" / f"instances_{name}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(completed(split.content) | {"images": records}), encoding="utf-8")


def completed(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a file that `read_annotations` takes, with 'bbox' and 'area' in every annotation."""
    if "annotations" not in content:
        return content
    sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in content["images"]}
    annotations = [with_box_and_area(one, *sizes[one["image_id"]]) for one in content["annotations"]]
    return {**content, "annotations": annotations}


def with_box_and_area(annotation: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """An annotation with the fields it lacks: [x, y, width, height] in pixels, and square pixels.

    They are those of the mask; where that covers no pixel of the image, the area is that of the box.
    """
    given, box, area = (annotation.get(field) for field in ("segmentation", "bbox", "area"))
    if box and area is not None:
        return annotation
    try:
        mask = usable_segmentation(given, height, width) if given else None
    except ValueError:  # where masks are not wanted
        mask = None
    box = box or (mask_box(mask, height, width) if mask else [0.0, 0.0, 0.0, 0.0])
    if area is None:
        area = mask_area(mask, height, width) if mask else box[2] * box[3]
    return {**annotation, "bbox": box, "area": area}
