"""The JSON file beside image shards: which classes there are, which shards, and the label of every sample."""

import io
import json
import re
from pathlib import Path
from typing import Self

from pydantic import model_validator

from botvision.configuration import Config, Count, FieldError
from botvision.data.remote import PATIENT, Patience, copy_url, is_url, local_or_url, url_in
from botvision.errors import UserError, printable, short
from botvision.files import write_text

SHARD_NAME = re.compile(r"\w[\w .+-]*\.tar")
"""A file beside the list: no folder, no URL, nothing that a URL would have to escape but blanks."""
CHECKSUM = re.compile("[0-9a-f]{64}")
ALTERNATIVES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
JOINT = "::"
"""Between several patterns of shards."""
MOST_SHARDS = 1_000_000
NOT_OURS = (
    "shards need this JSON file, which `botvision shards` writes; "
    "unpack those of another program to train/ and val/, a folder for each class, and run `botvision shards` on that"
)


class Shard(Config):
    """A tar file."""

    name: str
    bytes: Count
    samples: Count
    labels: list[int]
    """Of its samples, in their order."""
    sha256: str | None = None
    """Checksum, in hexadecimal digits; shards of older versions have none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not SHARD_NAME.fullmatch(self.name):
            raise ValueError(f"shard name {self.name!r} should be that of a .tar file beside the list")
        if self.sha256 is not None and not CHECKSUM.fullmatch(self.sha256):
            raise ValueError(f"shard {self.name!r} has a sha256 that is not 64 hexadecimal digits in lower case")
        if len(self.labels) != self.samples:
            raise ValueError(f"shard {self.name!r} has {self.samples} samples and {len(self.labels)} labels")
        return self


class ShardIndex(Config):
    """What the file says."""

    classes: list[str]
    class_names: list[str]
    shards: list[Shard]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in (*self.classes, *self.class_names):
            if printable(name) != name:
                raise ValueError(f"classes: {short(name)} has characters that cannot be printed")
        for shard in self.shards:
            for place, label in enumerate(shard.labels):
                if not 0 <= label < len(self.classes):
                    limit = len(self.classes) - 1
                    raise ValueError(f"shard {shard.name!r}: sample {place} has label {label}, not one of 0 to {limit}")
        return self

    def write(self, folder: Path, split: str) -> None:
        """Write the file into the folder of the shards."""
        write_text(folder / index_name(split), json.dumps(self.plain()) + "\n")


def index_name(split: str) -> str:
    """The file of a split."""
    return f"{split}-shards.json"


def has_shards(root: str | Path) -> bool:
    """Whether this means shards: a URL, a pattern, a tar file, or a folder of them.

    That is one with the JSON file of any split, or with tar files and no folders, as other programs leave it.
    """
    text, folder = str(root), Path(root)
    if is_url(text) or is_pattern(text):
        return True
    if not folder.is_dir():
        return bool(ALTERNATIVES.search(text))
    if any(folder.glob(index_name("*"))):
        return True
    return any(folder.glob("*.tar")) and not any(entry.is_dir() for entry in folder.iterdir())


def is_pattern(text: str) -> bool:
    """Whether a place of data is a pattern of shards, or several that are joined, and no folder."""
    return text.endswith(".tar")


def find_shards(root: str | Path, split: str, patience: Patience = PATIENT) -> tuple[str, ShardIndex]:
    """The folder or URL of the shards, and what the JSON file says of those that are meant.

    Args:
        root: the folder or URL that holds the shards, or a pattern of some of them; see `ImageShards`.
        split: `train` or `val`.
        patience: see `copy_url`.

    Raises:
        UserError: no JSON file, not one that `botvision shards` wrote, or a pattern that names other shards.
    """
    text = str(root)
    if not is_pattern(text):
        folder = local_or_url(text.rstrip("/"))
        return folder, _read(folder, split, patience)
    found = [path.rpartition("/") for pattern in text.split(JOINT) for path in expand(pattern)]
    meant = [(folder, name) for folder, _, name in found if name.startswith(f"{split}-")]
    folders = {folder for folder, _ in meant}
    if len(folders) != 1:
        raise UserError(
            f"{text}: names shards {split}-*.tar in {len(folders)} folders; give one folder or URL for both splits"
        )
    folder = local_or_url(folders.pop() or ".")
    index = _read(folder, split, patience)
    listed = {shard.name: shard for shard in index.shards}
    names = list(dict.fromkeys(name for _, name in meant))
    for name in names:
        if name not in listed:
            raise UserError(f"{folder}/{name}: {index_name(split)} beside it does not list this shard")
    return folder, index.replace(shards=[listed[name] for name in names])


def expand(pattern: str) -> list[str]:
    """The texts that a pattern means: {000..012} is every number between, {a,b} every text, as in a shell.

    Raises:
        UserError: a range of more than `MOST_SHARDS` numbers.
    """
    found = ALTERNATIVES.search(pattern)
    if not found:
        return [pattern]
    first, last, texts = found.groups()
    if texts is None and int(last) - int(first) >= MOST_SHARDS:
        raise UserError(f"{short(pattern)}: means more than {MOST_SHARDS} shards")
    if texts is None:
        choices = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    else:
        choices = texts.split(",")
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [text for choice in choices for text in expand(before + choice + after)]


def _read(folder: str, split: str, patience: Patience) -> ShardIndex:
    remote = is_url(folder)
    place = url_in(folder, index_name(split)) if remote else f"{folder}/{index_name(split)}"
    try:
        if remote:
            content = io.BytesIO()
            copy_url(place, content, patience=patience)
            return ShardIndex(**json.loads(content.getvalue()))
        return ShardIndex(**json.loads(Path(place).read_bytes()))
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror}); {NOT_OURS}") from error
    except FieldError as error:
        raise UserError(f"{place}: {error}; write the shards again") from error
    except UserError as error:
        raise UserError(f"{error}; {NOT_OURS}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not valid JSON ({error}); the file may be cut off, copy it again") from error
    except TypeError as error:
        raise UserError(f"{place}: is not a list of shards; {NOT_OURS}") from error
