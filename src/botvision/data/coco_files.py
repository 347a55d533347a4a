"""Data sets written in COCO's layout: an annotation file and the image files of each split."""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from botvision.configuration import FieldError
from botvision.data.annotations import ImageRecord, read_annotations
from botvision.data.json_records import load_json
from botvision.data.layouts import find_image_files, image_folder_of
from botvision.files import room_for

NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
"""What systems say where a file cannot have a second name."""


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
    return CocoContent(content, find_image_files(folder, read.images, follow_links=follow_links), folder)


def write_coco_folder(
    folder: Path, splits: Mapping[str, CocoContent], on_image: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Write `annotations/instances_{split}.json` and `{split}/` of every split; the folder appears when it is complete.

    Image files get a second name (a hard link) where the file system allows it, else they are copied.

    Args:
        folder: must not exist, or be empty.
        splits: their images and annotations by name.
        on_image: told how many images are done, of how many.

    Raises:
        FieldError: the folder holds something.
        UserError: no space is left.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FieldError(("out",), f"{folder} holds something; choose another folder")
    part = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    done, total = 0, sum(len(split.images) for split in splits.values())
    try:
        with room_for(folder):
            for name, split in splits.items():
                records = []
                for record, image in zip(split.content["images"], split.images, strict=True):
                    inside = image.path.relative_to(split.image_folder)
                    link_or_copy(image.path, part / name / inside)
                    records.append({**record, "file_name": inside.as_posix()})
                    done += 1
                    on_image(done, total)
                file = part / "annotations" / f"instances_{name}.json"
                file.parent.mkdir(exist_ok=True)
                file.write_text(json.dumps({**split.content, "images": records}), encoding="utf-8")
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where it cannot have one; what is copied of a link is the file itself."""
    target.parent.mkdir(parents=True, exist_ok=True)
    real = Path(os.path.realpath(source))
    try:
        target.hardlink_to(real)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        shutil.copyfile(real, target)
