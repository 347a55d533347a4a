"""`botvision data`: check, convert and split."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from botvision.cli.app import REFUSED
from botvision.cli.examples import examples
from botvision.cli.fields import flags, with_flags
from botvision.cli.output import image_progress, print_results, say
from botvision.configuration import CountOrZero, FieldError
from botvision.errors import UserError, first_few
from botvision.tasks.options import CheckOptions

if TYPE_CHECKING:
    from botvision.data.coco_files import CocoContent

NAMED = 4
"""Files that a message names."""

data = App(name="data", help="Look at data sets, convert and split them.", help_epilogue=examples("data"))


def check(folder: str, /, *, json: bool = False, **given: Any) -> int:  # noqa: ANN401 (of CheckOptions)
    """Look at a whole data set, objects or classes, and report all that training would refuse, leave out or change.

    Every image is read. The exit status is 2 if training would refuse the data, else 0.

    Args:
        folder: A folder that train takes as --data.
        json: Print JSON.
    """
    from botvision.tasks.checked import check_tables, write_check
    from botvision.tasks.registry import task_of_data

    options = CheckOptions(**given)
    with image_progress("checking") as on_image:
        checked = task_of_data(folder).check_data(folder, options, on_image)
    print_results(checked.plain(), check_tables(checked), as_json=json)
    if options.out:
        write_check(options.out, checked)
        say(f"written to {options.out}")
    return REFUSED if checked.findings.refused else 0


data.command(with_flags(check, flags(CheckOptions, "Check")), help_epilogue=examples("data check"))


@data.command(help_epilogue=examples("data split"))
def split(
    source: Path,
    /,
    *,
    out: Path,
    val: float = 0.2,
    seed: CountOrZero = 0,
    images: Path | None = None,
    follow_links: bool = False,
    json: bool = False,
) -> int:
    """Share the images of one COCO file, or of class folders, out over train and val, each class in the same share.

    The files of the images are not copied where they can get a second name (a hard link).

    Args:
        source: Annotations in COCO's format, or a folder that holds a folder of images for each class.
        out: Folder for both splits, which train takes as --data.
        val: Share of the images in val.
        seed: Of what is drawn.
        images: Folder of the images of a COCO file; by default as train looks for it: beside annotations/, beside the
            file, images/.
        follow_links: Read images that are links to files elsewhere.
        json: Print what was written as JSON.
    """
    if source.is_dir():
        return split_classes(source, out, images, val=val, seed=seed, follow_links=follow_links, as_json=json)
    from botvision.data.coco_files import read_coco, write_coco_folder
    from botvision.data.splitting import split_coco

    splits = split_coco(read_coco(source, images, follow_links=follow_links), source, val=val, seed=seed)
    with image_progress("writing") as on_image:
        write_coco_folder(out, splits, on_image)
    print_written(splits, out, as_json=json)
    return 0


def split_classes(
    source: Path, out: Path, images: Path | None, *, val: float, seed: int, follow_links: bool, as_json: bool
) -> int:
    """The same for class folders.

    Raises:
        FieldError: a folder of images beside that of the classes.
        UserError: annotated images.
    """
    from botvision.data.class_splitting import split_class_folders, write_class_folders
    from botvision.data.layouts import coco_files, has_annotations

    if images:
        raise FieldError(("images",), f"goes with a COCO file, and {source} is a folder")
    if has_annotations(source):
        raise UserError(f"{source}: holds annotated images; {split_objects_advice(coco_files(source), source, out)}")
    splits = split_class_folders(source, val=val, seed=seed, follow_links=follow_links)
    with image_progress("writing") as on_image:
        write_class_folders(source, out, splits, on_image)
    written = {name: {"images": len(files)} for name, files in splits.items()}
    print_results(written, [f"{name}: {facts['images']} images" for name, facts in written.items()], as_json=as_json)
    say(f"written to {out}")
    return 0


def split_objects_advice(files: list[Path], source: Path, out: Path) -> str:
    """How a folder of annotated images is split; `files` are its annotations in COCO's format."""
    if not files:
        command = shlex.join(["botvision", "data", "convert", str(source), "--out", f"{source}-coco"])
        return f"make a COCO file of their annotations first: {command}"
    if len(files) > 1:
        return f"give one of their COCO files in the place of the folder: {first_few(list(map(str, files)), NAMED)}"
    return f"give their COCO file: {shlex.join(['botvision', 'data', 'split', str(files[0]), '--out', str(out)])}"


@data.command(help_epilogue=examples("data convert"))
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
    from botvision.data.coco_files import read_export, write_coco_folder

    name, splits = read_export(source, source_format, follow_links=follow_links)
    say(f"{source}: {name} annotations")
    with image_progress("writing") as on_image:
        write_coco_folder(out, splits, on_image)
    print_written(splits, out, as_json=json)
    return 0


def print_written(splits: "dict[str, CocoContent]", out: Path, *, as_json: bool) -> None:
    """Say what the splits hold, and where they are."""
    written = {
        name: {"images": len(split.images), "annotations": len(split.content.get("annotations", []))}
        for name, split in splits.items()
    }
    lines = [f"{name}: {facts['images']} images, {facts['annotations']} annotations" for name, facts in written.items()]
    print_results(written, lines, as_json=as_json)
    say(f"written to {out}")
