"""Labels of ImageNet's validation images, which lie side by side in one folder."""

import logging
import re
import unicodedata
from io import BytesIO
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from botvision.errors import UserError, printable, short

logger = logging.getLogger("botvision")

DEVKIT = Path("ILSVRC2012_devkit_t12") / "data"
TRUTH_FILE = "ILSVRC2012_validation_ground_truth.txt"
LABEL_LISTS = ("val.txt", "LOC_val_solution.csv")

FlatLabels = tuple[list[str], np.ndarray, list[str] | None]


def flat_labels(root: Path, folder: Path, files: list[str]) -> FlatLabels:
    """Labels of images that lie side by side, from one of

    - ILSVRC2012_devkit_t12/data, the official development kit unpacked beside the splits;
    - val.txt, every line the name of an image and its class: a folder of train/, or the place of one among them
      in sorted order, from 0;
    - LOC_val_solution.csv, as Kaggle gives the data.

    Args:
        root: holds the splits, and one of these.
        folder: holds the images.
        files: their names.

    Returns:
        The classes, sorted; the label of each file, int64 (N,); and the classes' names for people to read, where the
        source of the labels has them.

    Raises:
        UserError: none of these is there, or it does not fit the images.
    """
    if (root / DEVKIT).is_dir():
        return _from_devkit(root / DEVKIT, folder, files)
    for name in LABEL_LISTS:
        if (root / name).is_file():
            return _from_list(root / name, root / "train", folder, files)
    raise UserError(
        f"{folder}: holds images and no class folders; for ImageNet's validation images unpack the official "
        f"development kit to {root / DEVKIT.parent}, or write {root / 'val.txt'}, on every line an image and its class"
    )


def has_flat_labels(root: Path) -> bool:
    """Whether one of the sources of `flat_labels` is there."""
    return (root / DEVKIT).is_dir() or any((root / name).is_file() for name in LABEL_LISTS)


def _from_devkit(devkit: Path, folder: Path, files: list[str]) -> FlatLabels:
    """Labels by the number in the file's name: line n of the truth is the kit's number of the class of image n."""
    synsets = _leaf_synsets(devkit / "meta.mat")
    classes = sorted(wnid for wnid, _ in synsets.values())
    place = {wnid: label for label, wnid in enumerate(classes)}
    truth_file = devkit / TRUTH_FILE
    lines = text_lines(truth_file)
    label_of_line = []
    for number, line in enumerate(lines, start=1):
        if not line.strip().isdigit() or int(line) not in synsets:
            raise UserError(
                f"{truth_file}: line {number} is {short(line)}, not the number of one of {len(classes)} classes"
            )
        label_of_line.append(place[synsets[int(line)][0]])
    labels = []
    for file in files:
        found = re.search(r"(\d+)$", Path(file).stem)
        if not found or not 1 <= int(found[1]) <= len(lines):
            raise UserError(
                f"{folder / file}: its name ends in no number from 1 to {len(lines)}, the lines of {truth_file}"
            )
        labels.append(label_of_line[int(found[1]) - 1])
    _report_missing(folder, len(files), truth_file, len(lines))
    words = dict(synsets.values())
    return classes, np.array(labels), [words[wnid].split(",")[0] for wnid in classes]


def _leaf_synsets(file: Path) -> dict[int, tuple[str, str]]:
    """The classes of the challenge, by the kit's number: WordNet id and words; groups of classes left out."""
    try:
        synsets = loadmat(BytesIO(file.read_bytes()), squeeze_me=True)["synsets"]
        leaves = synsets[synsets["num_children"] == 0]
        return {int(one["ILSVRC2012_ID"]): (str(one["WNID"]), str(one["words"])) for one in leaves}
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); unpack the development kit again") from error
    except Exception as error:  # SciPy raises many kinds of error on damaged bytes
        raise UserError(
            f"{file}: is not the development kit's list of classes ({short(error)}); unpack it again"
        ) from error


def _from_list(file: Path, train: Path, folder: Path, files: list[str]) -> FlatLabels:
    """Labels by the file's name, with or without its suffix; what follows the class on a line is not read."""
    entries: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text_lines(file), start=1):
        parts = re.split(r"[,\s]+", line.strip())
        if len(parts) >= 2 and parts[0] != "ImageId":
            entries[Path(parts[0]).stem] = (parts[1], number)
    missing = [name for name in files if Path(name).stem not in entries]
    if missing:
        raise UserError(f"{folder / missing[0]}: {file} has no class for it ({len(missing)} such images)")
    _report_missing(folder, len(files), file, len(entries))
    listed = [entries[Path(name).stem] for name in files]
    place = _places(train, {label for label, _ in listed}, file)
    for label, number in listed:
        if label not in place:
            raise UserError(
                f"{file}: line {number} has class {short(label)}, which is none of the {len(place)} of {train}"
            )
    return _class_folders(train) or sorted(place), np.array([place[label] for label, _ in listed]), None


def _places(train: Path, given: set[str], file: Path) -> dict[str, int]:
    """The place of each class among the sorted ones, by what the list calls it: its name, or that place."""
    folders = _class_folders(train)
    by_place = all(label.isdigit() for label in given) and not given <= set(folders)
    if by_place and not folders:
        raise UserError(f"{file}: gives classes as numbers, which mean the folders of {train}; that has none")
    return {str(place) if by_place else name: place for place, name in enumerate(folders or sorted(given))}


def _class_folders(train: Path) -> list[str]:
    """Sorted names of the classes; none where ``train`` does not exist."""
    if not train.is_dir():
        return []
    return sorted(class_name(entry.name) for entry in train.iterdir() if entry.is_dir() and entry.name[0] != ".")


def class_name(folder: str) -> str:
    """The class of a folder's name: composed letters (NFC), as all systems but macOS write them, all printable."""
    return unicodedata.normalize("NFC", printable(folder))


def text_lines(file: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        UserError: it cannot be read, or is not in UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not text in UTF-8 at byte {error.start}; save it in that encoding") from error


def _report_missing(folder: Path, found: int, file: Path, listed: int) -> None:
    if found < listed:
        logger.warning("%s: holds %d of the %d images that %s lists", folder, found, listed, file)
