"""Writing image shards from any data set of labelled images."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import torch
from webdataset import TarWriter

from botvision.data.classification import ImageStore
from botvision.data.shard_index import Shard, ShardIndex, index_name
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
    """Write the images of a split, shuffled, as they are stored: nothing is decoded or packed anew.

    The same images and seed give the same bytes. A shard appears under its name when it is whole, and the JSON file,
    without which nothing reads them, when all shards are.

    Args:
        images: to write.
        out: folder for the shards.
        split: `train` or `val`.
        samples_per_shard: at most; shards differ by one sample at most.
        seed: of the order.
        on_image: told after each image how many are done, and of how many.

    Raises:
        UserError: the folder holds other shards of this split, or an image cannot be read.
    """
    total = len(images.labels)
    number_of_shards = math.ceil(total / samples_per_shard)
    names = [f"{split}-{number:06}.tar" for number in range(number_of_shards)]
    _refuse_others(out, split, names)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    shards: list[Shard] = []
    done = 0
    for name, chosen in zip(names, order.tensor_split(number_of_shards), strict=True):
        with whole_file(out / name) as temporary, temporary.open("wb") as stream:
            with TarWriter(stream, encoder=False, mtime=0) as archive:
                for index in chosen.tolist():
                    archive.write(_sample(images, index, done))
                    done += 1
                    on_image(done, total)
            size = stream.tell()
        shards.append(Shard(name, size, len(chosen), images.labels[chosen.numpy()].tolist()))
    index = ShardIndex(images.classes, images.class_names, shards)
    index.write(out, split)
    return index


def _sample(images: ImageStore, index: int, place: int) -> dict[str, str | bytes]:
    """A sample as WebDataset has it: its name, and the content of each of its files by suffix."""
    encoded, suffix = images.encoded(index)
    # A dot would end the name, and a name that others know helps to find a bad image again.
    readable = re.sub(r"[^\w-]+", "_", Path(images.name(index)).stem, flags=re.ASCII)[-LONGEST_NAME:]
    return {
        "__key__": f"{place:08}-{readable}",
        suffix.removeprefix(".").lower(): encoded,
        "cls": str(images.labels[index]).encode(),
    }


def _refuse_others(out: Path, split: str, names: list[str]) -> None:
    if (out / index_name(split)).exists():
        raise UserError(f"{out / index_name(split)}: there are shards of this split already; choose another folder")
    others = sorted(path for path in out.glob(f"{split}-*.tar") if path.name not in names)
    if others:
        raise UserError(
            f"{others[0]}: is left of other shards ({len(others)} such); delete them or choose another folder"
        )
