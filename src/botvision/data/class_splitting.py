"""A folder with a folder of images for each class, shared out over a training and a validation split."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from botvision.data.class_folders import NAME_FILES, SPLIT_FOLDERS, ClassFolders
from botvision.data.image_files import ImageFolder
from botvision.data.new_folder import link_or_copy, new_folder
from botvision.data.splitting import check_share, same_files, stratified
from botvision.errors import UserError, first_few, short

NAMED = 5


def split_class_folders(folder: Path, *, val: float, seed: int, follow_links: bool = False) -> dict[str, list[str]]:
    """Which image files, relative to the folder, go to train and to val; each class is in both in its share.

    Args:
        folder: holds a folder of images for each class.
        val: share of the images in val, above 0 and below 1.
        seed: of what is drawn; the same seed gives the same splits.
        follow_links: whether links may lead out of the folder.

    Raises:
        FieldError: the share is out of range.
        UserError: no class folders, a class of fewer than two images, or a folder that is split already.
    """
    check_share(val)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such file or folder")
    there = [name for name in dict.fromkeys(("train", *SPLIT_FOLDERS["val"])) if (folder / name).is_dir()]
    if there:
        raise UserError(f"{folder}: is split already, it holds {', '.join(f'{name}/' for name in there)}")
    if not ImageFolder(folder, follow_links=follow_links).folders:
        raise UserError(f"{folder}: should hold a folder of images for each class")
    found = ClassFolders(folder, folder, follow_links=follow_links)
    labels = found.labels.tolist()
    rare = [short(name) for name, count in zip(found.classes, np.bincount(labels), strict=True) if count < 2]
    if rare:
        raise UserError(
            f"{folder}: two splits need two images of each class; these have one alone: {first_few(rare, NAMED)}"
        )
    files = [Path(found.name(index)).relative_to(folder).as_posix() for index in range(len(labels))]
    photograph = same_files([folder / file for file in files])
    classes: list[set] = [set() for _ in range(photograph.max() + 1)]
    for place, label in zip(photograph, labels, strict=True):
        classes[place].add(label)
    in_val = stratified(classes, val, seed)[photograph]
    chosen = list(zip(files, in_val.tolist(), strict=True))
    return {name: [file for file, own in chosen if own == is_val] for name, is_val in (("train", False), ("val", True))}


def write_class_folders(
    source: Path,
    folder: Path,
    splits: dict[str, list[str]],
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the images of every split as ``{split}/{class}/...``, and the file that names the classes beside them.

    Args:
        source: the folder that was split.
        folder: must not exist, or be empty.
        splits: files by split.
        on_image: told how many images are done, of how many.

    Raises:
        FieldError: the folder holds something.
        UserError: no space is left.
    """
    done, total = 0, sum(map(len, splits.values()))
    with new_folder(folder) as part:
        for name, files in splits.items():
            for file in files:
                link_or_copy(source / file, part / name / file)
                done += 1
                on_image(done, total)
        for name in NAME_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, part / name)
