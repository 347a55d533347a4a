"""`botvision shards`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from botvision.cli.output import image_progress, print_results, say
from botvision.configuration import Count, CountOrZero
from botvision.tasks.registry import naming_other_kind


def shards(
    data: str,
    /,
    *,
    out: Path,
    split: Annotated[tuple[Literal["train", "val"], ...], Field(min_length=1)] = ("train", "val"),
    samples_per_shard: Count = 1000,
    seed: CountOrZero = 0,
    follow_links: bool = False,
    json: bool = False,
) -> int:
    """Write a data set for classification as WebDataset shards, tar files that are read fast from any disk or URL.

    Other commands take them as --data: the folder, its URL, or patterns of shards for train and val joined by "::",
    such as shards/train-{000000..000009}.tar::shards/val-000000.tar. A URL begins with http, https, s3 or gs; the last
    two need s3fs and gcsfs. Shards at a URL are copied to ~/.cache/botvision/shards when they are first read, and the
    oldest are removed where they have more than 200 GB. The environment variable BOTVISION_CACHE_GB sets another
    limit, and XDG_CACHE_HOME moves ~/.cache.

    Args:
        data: Folder with train/ and val/, one folder a class in each; or any other that training reads.
        out: Folder for the shards, <split>-000000.tar and so on, and <split>-shards.json, which says what they hold.
        split: Splits to write.
        samples_per_shard: Images in a shard, at most.
        seed: Of the order of the images.
        follow_links: Read links in class folders that lead to files elsewhere.
        json: Print what was written as JSON.
    """
    from botvision.data import write_shards
    from botvision.data.classification import ImageClasses, check_same_classes, open_images

    with naming_other_kind("classification", data):
        splits = {name: ImageClasses(open_images(data, name, follow_links=follow_links)) for name in split}
    if len(splits) > 1:
        check_same_classes(splits["train"], splits["val"])
    written = {}
    for name, images in splits.items():
        with image_progress(f"writing {name}") as on_image:
            index = write_shards(
                images.images, out, name, samples_per_shard=samples_per_shard, seed=seed, on_image=on_image
            )
        sizes = [shard.bytes for shard in index.shards]
        written[name] = {"shards": len(sizes), "images": len(images), "bytes": sum(sizes)}
    lines = (
        f"{name}: {facts['images']} images in {facts['shards']} shards, {facts['bytes'] / 1e6:.1f} MB"
        for name, facts in written.items()
    )
    print_results(written, lines, as_json=json)
    say(f"written to {out}")
    return 0
