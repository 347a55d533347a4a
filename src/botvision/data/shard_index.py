"""The JSON file beside image shards: which classes there are, which shards, and the label of every sample."""

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse
from urllib.request import url2pathname

from webdataset import gopen
from webdataset.shardlists import expand_urls

from botvision.errors import UserError
from botvision.files import write_text

SCHEMES = ("http", "https", "ftps", "sftp", "gs", "hf")
"""Kinds of URL, of those that the webdataset library opens. Its "pipe:" runs any command, so a configuration that
somebody else wrote could; it is left out."""
CURL_SAYS = {
    "6": "the name of the server is not known",
    "7": "no connection to the server",
    "22": "the server answers that it is not there or not for you",
    "28": "the server does not answer in time",
}
"""What curl, by which the webdataset library fetches, means with its exit status (man curl)."""
FOREIGN = (
    "shards need this JSON file, which `botvision shards` writes; "
    "unpack those of another program to train/ and val/, a folder a class, and run `botvision shards` on that"
)


@dataclass(frozen=True)
class Shard:
    """A tar file."""

    name: str
    bytes: int
    samples: int
    labels: list[int]
    """Of its samples, in their order."""


@dataclass(frozen=True)
class ShardIndex:
    """What the file says."""

    classes: list[str]
    class_names: list[str]
    shards: list[Shard]

    def write(self, folder: Path, split: str) -> None:
        """Write the file into the folder of the shards."""
        write_text(folder / index_name(split), json.dumps(asdict(self)) + "\n")


def index_name(split: str) -> str:
    """The file of a split."""
    return f"{split}-shards.json"


def has_shards(root: str | Path) -> bool:
    """Whether this means shards: a URL, a pattern, a tar file, or a folder of them.

    That is one with the JSON file of any split, or with tar files and no folders, as other programs leave it.
    """
    text, folder = str(root), Path(root)
    if "://" in text or text.endswith(".tar"):
        return True
    if not folder.is_dir():
        return "{" in text
    if any(folder.glob(index_name("*"))):
        return True
    return any(folder.glob("*.tar")) and not any(entry.is_dir() for entry in folder.iterdir())


def find_shards(root: str | Path, split: str) -> tuple[str, ShardIndex]:
    """The folder or URL of the shards, and what the JSON file says of those that are meant.

    Args:
        root: the folder or URL that holds the shards, or a pattern of some of them; see `ImageShards`.
        split: `train` or `val`.

    Raises:
        UserError: no JSON file, not one that `botvision shards` wrote, or a pattern that names other shards.
    """
    text = str(root)
    if not text.endswith(".tar"):
        folder = _place(text.rstrip("/"))
        return folder, _read(folder, split)
    found = [url.rpartition("/") for url in expand_urls(text)]
    meant = [(folder, name) for folder, _, name in found if name.startswith(f"{split}-")]
    folders = {folder for folder, _ in meant}
    if len(folders) != 1:
        raise UserError(
            f"{text}: names shards {split}-*.tar in {len(folders)} folders; give one folder or URL for both splits"
        )
    folder = _place(folders.pop() or ".")
    index = _read(folder, split)
    listed = {shard.name: shard for shard in index.shards}
    names = list(dict.fromkeys(name for _, name in meant))
    for name in names:
        if name not in listed:
            raise UserError(f"{folder}/{name}: {index_name(split)} beside it does not list this shard")
    return folder, ShardIndex(index.classes, index.class_names, [listed[name] for name in names])


def is_remote(folder: str) -> bool:
    """Whether a place that `find_shards` gave is a URL."""
    return "://" in folder


def why_not_fetched(error: OSError) -> str:
    """The reason for which a URL could not be opened or read."""
    status = re.search(r"exit (\d+) ", str(error))
    return CURL_SAYS.get(status[1], f"exit status {status[1]} of the program that fetches") if status else str(error)


def _place(text: str) -> str:
    """A path, or a URL that can be opened; a file: URL is a path."""
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme == "file":
        return url2pathname(urlparse(text).path)
    if scheme and scheme not in SCHEMES:
        raise UserError(f"{text}: shards cannot be read from {scheme}://, only from {', '.join(SCHEMES)} and folders")
    return text


def _read(folder: str, split: str) -> ShardIndex:
    place = f"{folder}/{index_name(split)}"
    try:
        with gopen(place) as stream:
            content = json.loads(stream.read())
    except OSError as error:
        if is_remote(folder):
            raise UserError(f"{place}: cannot be fetched ({why_not_fetched(error)}); {FOREIGN}") from error
        raise UserError(f"{place}: cannot be read ({error.strerror}); {FOREIGN}") from error
    except ValueError as error:
        raise UserError(f"{place}: not valid JSON ({error}); the file may be cut off, copy it again") from error
    try:
        shards = [Shard(**shard) for shard in content["shards"]]
        index = ShardIndex(list(content["classes"]), list(content["class_names"]), shards)
        _check(index, place)
    except (TypeError, KeyError) as error:
        raise UserError(f"{place}: is not a list of shards that `botvision shards` wrote ({error!r})") from error
    return index


def _check(index: ShardIndex, place: str) -> None:
    """Refuse labels out of range, counts that contradict each other, and names that lead to another folder."""
    for shard in index.shards:
        where = f"{place}: shard {shard.name!r}"
        if PurePosixPath(shard.name).name != shard.name or os.sep in shard.name:
            raise UserError(f"{where}: must be the name of a file beside it")
        if len(shard.labels) != shard.samples:
            raise UserError(
                f"{where}: has {shard.samples} samples and {len(shard.labels)} labels; write the shards again"
            )
        for place_in_shard, label in enumerate(shard.labels):
            if type(label) is not int or not 0 <= label < len(index.classes):
                raise UserError(
                    f"{where}: sample {place_in_shard} has label {label!r}, not one of 0 to {len(index.classes) - 1}"
                )
