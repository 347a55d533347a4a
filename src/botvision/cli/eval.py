"""`botvision eval`."""

from pathlib import Path
from typing import Any

from botvision.checkpoint import checkpoint_of
from botvision.cli.fields import chosen, flags, with_flags
from botvision.cli.output import print_json, print_tables, say, stderr
from botvision.device import pick_device
from botvision.progress import Reporter
from botvision.tasks.base import EvalOptions
from botvision.tasks.registry import TASKS, task_of_checkpoint


def evaluate(
    checkpoint: Path,
    /,
    *,
    data: str,
    device: str = "auto",
    out: Path | None = None,
    json: bool = False,
    **given: Any,  # noqa: ANN401 (of eval_options)
) -> int:
    """Evaluate a checkpoint: COCO's numbers of a detector, accuracy and calibration of a classifier.

    Args:
        checkpoint: A checkpoint, or a run folder (its best checkpoint).
        data: For a detector a folder in COCO's layout; for a classifier class folders, idx files, or shards: a folder,
            a URL, which is copied to ~/.cache/botvision/shards (XDG_CACHE_HOME moves ~/.cache), or patterns of shards
            joined by "::", such as shards/train-{000000..000009}.tar::shards/val-000000.tar.
        device: auto, cpu or cuda.
        out: Folder for the results; eval/<split> in the run folder by default, beside what the training wrote.
        json: Print the scores as JSON.
    """
    file = checkpoint_of(checkpoint)
    task = task_of_checkpoint(file)
    options = chosen(task.eval_options, given, task.name)
    if out is None and checkpoint.is_dir():
        out = checkpoint / "eval" / options.split
    with Reporter(stderr()) as reporter:
        evaluation = task.evaluate_checkpoint(
            file,
            data,
            options,
            out=out,
            device=pick_device(device),
            on_image=lambda done, total: reporter.show("evaluating, image", done, total),
        )
    if json:
        print_json(evaluation.scores)
    else:
        print_tables(task.tables(evaluation.scores, options))
    if out:
        say(f"written to {out}")
    return 0


with_flags(
    evaluate,
    flags(EvalOptions, "Evaluation"),
    *(flags(task.eval_options, f"Of {name} checkpoints") for name, task in TASKS.items()),
)
