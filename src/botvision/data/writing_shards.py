"""Writing image shards from any data set of labelled images."""

import hashlib
import io
import math
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import torch

from botvision.data.classification import ImageStore
from botvision.data.shard_index import SHARD_NAME, Shard, ShardIndex, index_name
from botvision.errors import UserError
from botvision.files import whole_file

LONGEST_NAME = 60  # of an image, in the name of its sample; a name in a tar file has room for 100


def write_shards(
    images: ImageStore,
    out: Path,
    split: str,
    *,
    samples_per_shard: int,
    seed: int,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> ShardIndex:
    """Write the images of a split, shuffled, as they are stored: nothing is decoded or compressed.

    The same images and seed give the same bytes. A shard appears under its name when it is complete, and the JSON file,
    without which nothing reads them, when all shards are.

    Args:
        images: to write.
        out: folder for the shards.
        split: `train` or `val`.
        samples_per_shard: at most; shards differ by one sample at most.
        seed: of the order.
        on_image: called after each image with how many are done, and of how many.

    Raises:
        UserError: the folder holds other shards of this split, or an image cannot be read.
    """
    total = len(images.labels)
    number_of_shards = math.ceil(total / samples_per_shard)
    names = [f"{split}-{number:06}.tar" for number in range(number_of_shards)]
    if not all(map(SHARD_NAME.fullmatch, names)):
        raise UserError(f"split: should be a word that can begin the name of a file, got {split!r}")
    _refuse_others(out, split, names)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    shards: list[Shard] = []
    done = 0
    for name, chosen in zip(names, order.tensor_split(number_of_shards), strict=True):
        with whole_file(out / name) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
                for index in chosen.tolist():
                    _add_sample(archive, images, index, done)
                    done += 1
                    on_image(done, total)
            size = temporary.stat().st_size
            with temporary.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        labels = images.labels[chosen.numpy()].tolist()
        shards.append(Shard(name=name, bytes=size, samples=len(chosen), labels=labels, sha256=sha256))
    index = ShardIndex(classes=images.classes, class_names=images.class_names, shards=shards)
    index.write(out, split)
    return index


def _add_sample(archive: tarfile.TarFile, images: ImageStore, index: int, place: int) -> None:
    """Add a sample as WebDataset has it: files that share a name, with a suffix for each; .cls holds the label."""
    encoded, suffix = images.encoded(index)
    # A dot would end the name, and a name that others know helps to find a bad image again.
    readable = re.sub(r"[^\w-]+", "_", Path(images.name(index)).stem, flags=re.ASCII)[-LONGEST_NAME:]
    for ending, content in ((".cls", str(images.labels[index]).encode()), (suffix.lower(), encoded)):
        member = tarfile.TarInfo(f"{place:08}-{readable}{ending}")  # its time is 0, its owner nobody
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def _refuse_others(out: Path, split: str, names: list[str]) -> None:
    if (out / index_name(split)).exists():
        raise UserError(f"{out / index_name(split)}: there are shards of this split already; choose another folder")
    others = sorted(path for path in out.glob(f"{split}-*.tar") if path.name not in names)
    if others:
        raise UserError(
            f"{others[0]}: belongs to other shards ({len(others)} such); delete them or choose another folder"
        )
