"""`botvision data`: check, convert and split."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from botvision.cli.app import REFUSED
from botvision.cli.fields import flags, with_flags
from botvision.cli.output import image_progress, print_results, say
from botvision.configuration import CountOrZero
from botvision.data.coco_files import CocoContent, read_coco, read_export, write_coco_folder
from botvision.data.splitting import split_coco
from botvision.tasks.checked import CheckOptions, check_tables, write_check
from botvision.tasks.registry import task_of_data

data = App(name="data", help="Look at data sets, convert and split them.")


def check(folder: str, /, *, json: bool = False, **given: Any) -> int:  # noqa: ANN401 (of CheckOptions)
    """Look at a whole data set, objects or classes, and report all that training would refuse, leave out or change.

    Every image is read. The exit status is 2 if training would refuse the data, else 0.

    Args:
        folder: A folder that train takes as --data.
        json: Print JSON.
    """
    options = CheckOptions(**given)
    with image_progress("checking") as on_image:
        checked = task_of_data(folder).check_data(folder, options, on_image)
    print_results(checked.plain(), check_tables(checked), as_json=json)
    if options.out:
        write_check(options.out, checked)
        say(f"written to {options.out}")
    return REFUSED if checked.findings.refused else 0


data.command(with_flags(check, flags(CheckOptions, "Check")))


@data.command
def split(
    file: Path,
    /,
    *,
    out: Path,
    val: float = 0.2,
    seed: CountOrZero = 0,
    images: Path | None = None,
    follow_links: bool = False,
    json: bool = False,
) -> int:
    """Share the images of one COCO file out over train and val, with every class in both in the same share.

    The files of the images are not copied where they can get a second name (a hard link).

    Args:
        file: Annotations in COCO's format.
        out: Folder for both splits, which train takes as --data.
        val: Share of the images in val.
        seed: Of what is drawn.
        images: Folder of the images; by default as train looks for it: beside annotations/, beside the file, images/.
        follow_links: Read images that are links to files elsewhere.
        json: Print what was written as JSON.
    """
    splits = split_coco(read_coco(file, images, follow_links=follow_links), file, val=val, seed=seed)
    with image_progress("writing") as on_image:
        write_coco_folder(out, splits, on_image)
    print_written(splits, out, as_json=json)
    return 0


@data.command
def convert(
    source: Path,
    /,
    *,
    out: Path,
    source_format: Annotated[
        Literal["auto", "yolo", "voc", "labelme", "roboflow", "cvat", "via", "labelstudio"], Parameter(name="--from")
    ] = "auto",
    follow_links: bool = False,
    json: bool = False,
) -> int:
    """Convert the export of a labelling tool to COCO's layout, which train takes as --data.

    The files of the images are not copied where they can get a second name (a hard link). An export without splits
    becomes train; botvision data split makes train and val of it.

    Args:
        source: Folder of the export, unpacked.
        out: Folder to write: annotations/ and a folder of images for each split.
        source_format: Format of the export; auto looks for it.
        follow_links: Read images that are links to files elsewhere.
        json: Print what was written as JSON.
    """
    name, splits = read_export(source, source_format, follow_links=follow_links)
    say(f"{source}: {name} annotations")
    with image_progress("writing") as on_image:
        write_coco_folder(out, splits, on_image)
    print_written(splits, out, as_json=json)
    return 0


def print_written(splits: dict[str, CocoContent], out: Path, *, as_json: bool) -> None:
    """Say what the splits hold, and where they are."""
    written = {
        name: {"images": len(split.images), "annotations": len(split.content.get("annotations", []))}
        for name, split in splits.items()
    }
    lines = [f"{name}: {facts['images']} images, {facts['annotations']} annotations" for name, facts in written.items()]
    print_results(written, lines, as_json=as_json)
    say(f"written to {out}")
