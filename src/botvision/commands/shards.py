"""`botvision shards`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from botvision.commands.report import stderr
from botvision.data import write_shards
from botvision.data.classification import ImageClasses, check_same_classes, open_images
from botvision.errors import UserError
from botvision.flags import parse
from botvision.training.config import at_least
from botvision.training.progress import Reporter


@dataclass
class ShardsArguments:
    """Write a data set for classification as WebDataset shards, tar files that are read fast from any disk or URL.

    Other commands take them as --data: the folder, its URL, or patterns of shards for train and val joined by "::",
    such as shards/train-{000000..000009}.tar::shards/val-000000.tar. Shards at a URL are copied to
    ~/.cache/botvision/shards when they are first read; the environment variable XDG_CACHE_HOME moves ~/.cache.
    """

    data: Positional[str]
    """Folder with train/ and val/, one folder a class in each; or any other that training reads."""
    out: Path
    """Folder for the shards, <split>-000000.tar and so on, and <split>-shards.json, which says what they hold."""
    split: tuple[Literal["train", "val"], ...] = ("train", "val")
    """Splits to write."""
    samples_per_shard: int = 1000
    """Images in a shard, at most."""
    seed: int = 0
    """Of the order of the images."""
    json: bool = False
    """Print what was written as JSON."""


def shards(argv: Sequence[str]) -> int:
    """`botvision shards FOLDER --out DIR`."""
    arguments = parse(ShardsArguments, "shards", argv)
    at_least(1, {"--samples-per-shard": arguments.samples_per_shard})
    at_least(0, {"--seed": arguments.seed})
    if not arguments.split:
        raise UserError("--split needs train, val or both")
    splits = {split: ImageClasses(open_images(arguments.data, split)) for split in arguments.split}
    if len(splits) > 1:
        check_same_classes(splits["train"], splits["val"])
    written = {}
    with Reporter(stderr()) as reporter:
        for split, images in splits.items():
            index = write_shards(
                images.images,
                arguments.out,
                split,
                samples_per_shard=arguments.samples_per_shard,
                seed=arguments.seed,
                on_image=partial(reporter.show, f"writing {split}, image"),
            )
            sizes = [shard.bytes for shard in index.shards]
            written[split] = {"shards": len(sizes), "images": len(images), "bytes": sum(sizes)}
    if arguments.json:
        print(json.dumps(written))
        return 0
    for split, facts in written.items():
        print(f"{split}: {facts['images']} images in {facts['shards']} shards, {facts['bytes'] / 1e6:.1f} MB")
    stderr().print(f"written to {arguments.out}", highlight=False, soft_wrap=True)
    return 0
