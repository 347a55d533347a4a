"""`botvision eval`."""

from pathlib import Path
from typing import Any

from botvision.cli.fields import chosen, flags, with_flags
from botvision.cli.output import image_progress, print_results, say
from botvision.tasks.options import EvalOptions
from botvision.tasks.registry import TASKS, task_of_checkpoint


def evaluate(checkpoint: Path, /, *, data: str, json: bool = False, **given: Any) -> int:  # noqa: ANN401 (of eval_options)
    """Evaluate a checkpoint: COCO's numbers of a detector, accuracy and calibration of a classifier.

    Processes that torchrun or SLURM started share the images; the scores are those of one process.

    Args:
        checkpoint: A checkpoint, or a run folder (its best checkpoint).
        data: For a detector a folder in COCO's layout; for a classifier class folders, idx files, or shards: a folder,
            a URL, which is copied to ~/.cache/botvision/shards (XDG_CACHE_HOME moves ~/.cache), or patterns of shards
            joined by "::", such as shards/train-{000000..000009}.tar::shards/val-000000.tar.
        json: Print the scores as JSON.
    """
    from botvision.checkpoint import checkpoint_of
    from botvision.training.connection import connect
    from botvision.training.sharing import on_every_process

    connect(given.get("device", "auto"))
    file = on_every_process(lambda: checkpoint_of(checkpoint))
    task = on_every_process(lambda: task_of_checkpoint(file))
    options = chosen(TASKS[task.name].eval_options, given, task.name)
    if options.out is None and checkpoint.is_dir():
        options = options.replace(out=checkpoint / "eval" / options.split)
    with image_progress("evaluating") as on_image:
        evaluation = task.evaluate_checkpoint(file, data, options, on_image)
    print_results(evaluation.scores, task.tables(evaluation.scores, options), as_json=json)
    if options.out:
        say(f"written to {options.out}")
    return 0


with_flags(
    evaluate,
    flags(EvalOptions, "Evaluation"),
    *(flags(task.eval_options, f"Of {name} checkpoints") for name, task in TASKS.items()),
)
