"""`botvision predict`."""

import json as json_format
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from botvision.checkpoint import checkpoint_of
from botvision.cli.fields import chosen, flags, with_flags
from botvision.cli.output import print_json, print_tables, say, stderr
from botvision.data import find_images
from botvision.device import pick_device
from botvision.files import write_text
from botvision.progress import Reporter
from botvision.tasks.registry import TASKS, task_of_checkpoint


def predict(
    checkpoint: Path,
    images: Annotated[tuple[Path, ...], Field(min_length=1)],
    /,
    *,
    out: Path,
    device: str = "auto",
    follow_links: bool = False,
    json: bool = False,
    **given: Any,  # noqa: ANN401 (of predict_options)
) -> int:
    """Detect objects on images, or classify them: results as JSON, and pictures.

    Args:
        checkpoint: A checkpoint, or a run folder (its best checkpoint).
        images: Image files, or folders of them; those that cannot be read are left out, with a warning.
        out: Folder for predictions.json and the pictures, another one than that of the images.
        device: auto, cpu or cuda.
        follow_links: Read links in these folders that lead to files elsewhere.
        json: Print the results as JSON instead of a table.
    """
    files = find_images(images, follow_links=follow_links)
    task = task_of_checkpoint(checkpoint)
    options = chosen(task.predict_options, given, task.name)
    with Reporter(stderr()) as reporter:
        results = task.predict_files(
            checkpoint_of(checkpoint),
            files,
            options,
            out=out,
            device=pick_device(device),
            on_image=lambda done, total: reporter.show("predicting, image", done, total),
        )
    write_text(out / "predictions.json", json_format.dumps(results) + "\n")
    say(f"{len(results)} {task.result_name}, {len(files)} images given, written to {out}")
    if json:
        print_json(results)
    else:
        print_tables(task.prediction_tables(results))
    return 0


with_flags(predict, *(flags(task.predict_options, f"Of {name} checkpoints") for name, task in TASKS.items()))
