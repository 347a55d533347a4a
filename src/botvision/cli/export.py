"""`botvision export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from botvision.cli.output import print_results, say
from botvision.configuration import Count, FieldError

if TYPE_CHECKING:
    from botvision.export import Export


def export(
    model: Path,
    /,
    *,
    format: Literal["onnx", "torch"],
    out: Path | None = None,
    images: tuple[Path, ...] = (),
    limit: Count = 20,
    json: bool = False,
) -> int:
    """Write a trained model as one file that runs without botvision: ONNX, or a package of torch.export.

    The file is kept only where it answers as the model does, on the photographs that are given.

    Args:
        model: A checkpoint, a run folder (its best checkpoint), hf-hub:OWNER/NAME, or a network that botvision.save
            wrote.
        format: onnx, for onnxruntime and many others; torch, a .pt2 file for PyTorch. Batch, height and width stay
            open; with PyTorch before 2.13 height and width are the model's input size.
        out: The file to write, .onnx or .pt2; by default model.onnx or model.pt2 in the run folder, or a file beside
            the checkpoint.
        images: Photographs to compare on, or folders of them; a few generated pictures by default.
        limit: Photographs to compare on at most, evenly chosen.
        json: Print the result as JSON instead of a table.
    """
    from botvision.data import find_images
    from botvision.export import FORMATS, export_model
    from botvision.export.sources import exportable, photographs

    suffix = FORMATS[format].suffix
    path = out or beside(model, suffix)
    if path.suffix != suffix:
        raise FieldError(("out",), f"should end in {suffix} for the format {format}, got {path}")
    if path.is_dir():
        raise FieldError(("out",), f"should be a file, {path} is a folder")
    files = find_images(images)
    source = exportable(model)
    done = export_model(source, format, path, photographs(files, source.in_channels, limit), say)
    print_results(as_json(done), [str(path), table(done)], as_json=json)
    return 0


def beside(model: Path, suffix: str) -> Path:
    """Where the file goes by default: into a folder, beside a file, or here where the model is one of the hub."""
    if model.is_dir():
        return model / f"model{suffix}"
    return model.with_suffix(suffix) if model.is_file() else Path(model.name + suffix)


def as_json(done: "Export") -> dict[str, Any]:
    """As plain data."""
    return {**done._asdict(), "path": str(done.path)}


def table(done: "Export") -> Table:
    """One line about the file."""
    columns = "MB", "images compared", "input", "model (ms)", "file (ms)"
    times = (f"{1000 * seconds:.1f}" for seconds in (done.eager_seconds, done.seconds))
    shape = " x ".join(map(str, done.input_shape))
    found = Table(*columns)
    found.add_row(f"{done.size / 1e6:.1f}", str(done.images), shape, *times)
    return found
