"""`botvision predict`."""

import json as json_format
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from botvision.cli.fields import chosen, flags, with_flags
from botvision.cli.output import image_progress, print_results, say
from botvision.files import write_text
from botvision.tasks.options import PredictOptions
from botvision.tasks.registry import TASKS, task_of_checkpoint


def predict(
    checkpoint: Path,
    images: Annotated[tuple[Path, ...], Field(min_length=1)],
    /,
    *,
    json: bool = False,
    **given: Any,  # noqa: ANN401 (of predict_options)
) -> int:
    """Detect objects on images, or classify them: results as JSON, and pictures.

    Args:
        checkpoint: A checkpoint, or a run folder (its best checkpoint).
        images: Image files, or folders of them; those that cannot be read are left out, with a warning.
        json: Print the results as JSON instead of a table.
    """
    from botvision.checkpoint import checkpoint_of
    from botvision.data import find_images
    from botvision.tasks.predictor import Predictor

    checkpoint = checkpoint_of(checkpoint)
    task = task_of_checkpoint(checkpoint)
    options = chosen(TASKS[task.name].predict_options, given, task.name)
    files = find_images(images, follow_links=options.follow_links)
    predictor = Predictor(checkpoint, device=options.device)
    size = predictor.images_at_once(options.batch_size)
    with image_progress("predicting") as on_image:
        results = task.predict_files(predictor.folded, files, options, size, on_image)
    write_text(options.out / "predictions.json", json_format.dumps(results) + "\n")
    say(f"{len(results)} {task.result_name}, {len(files)} images given, written to {options.out}")
    print_results(results, task.prediction_tables(results), as_json=json)
    return 0


with_flags(
    predict,
    flags(PredictOptions, "Prediction"),
    *(flags(task.predict_options, f"Of {name} checkpoints") for name, task in TASKS.items()),
)
