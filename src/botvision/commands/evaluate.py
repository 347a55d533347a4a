"""`botvision eval`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from botvision.commands.report import show_scores, stderr
from botvision.data import CocoDetection, eval_transform
from botvision.detection.checkpoint import load_detector
from botvision.detection.predict import draw_beside_truth
from botvision.errors import UserError
from botvision.evaluation import evaluate_detector
from botvision.flags import parse
from botvision.training.config import at_least
from botvision.training.processes import pick_device
from botvision.training.progress import Reporter
from botvision.training.run_folder import write_evaluation


@dataclass
class EvalArguments:
    """COCO's 12 numbers of a detector on a data set, written as JSON and printed."""

    checkpoint: Positional[Path]
    """A checkpoint, or a run folder (its best checkpoint)."""
    data: Path
    """Folder in COCO's layout."""
    split: str = "val"
    """Split to evaluate on."""
    images: int | None = None
    """Evaluate on the first so many images alone."""
    batch_size: int = 4
    """Images at once."""
    workers: int = 1
    """Processes that read images."""
    device: str = "auto"
    """auto, cpu or cuda."""
    classes: bool = False
    """Print AP class by class too."""
    pictures: int = 0
    """Draw the first so many images, what was found beside the truth."""
    out: Path | None = None
    """Folder for the results; eval/<split> in the run folder by default, beside what the training wrote."""
    json: bool = False
    """Print the scores as JSON."""


def evaluate(argv: Sequence[str]) -> int:
    """`botvision eval RUN-or-CHECKPOINT --data DIR`."""
    arguments = parse(EvalArguments, "eval", argv)
    at_least(1, {"--images": arguments.images, "--batch-size": arguments.batch_size})
    at_least(0, {"--workers": arguments.workers, "--pictures": arguments.pictures})
    out = arguments.out or (arguments.checkpoint / "eval" / arguments.split if arguments.checkpoint.is_dir() else None)
    if arguments.pictures and not out:
        raise UserError("--pictures needs --out where a checkpoint is evaluated outside its run folder")
    detector = load_detector(arguments.checkpoint, pick_device(arguments.device))
    transform = eval_transform(detector.model.config.input_size)
    dataset = CocoDetection(arguments.data, arguments.split, transform, limit=arguments.images)
    if dataset.categories != detector.categories:
        raise UserError(f"{dataset.annotation_file}: its categories are not those of {detector.path}")
    with Reporter(stderr()) as reporter:
        scores, results = evaluate_detector(
            detector.model,
            dataset,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
            on_image=lambda done, total: reporter.show("evaluating, image", done, total),
        )
    if out:
        about = {"checkpoint": str(detector.path), "data": str(arguments.data), "split": arguments.split}
        write_evaluation(out, scores, results, **about)
        dataset.transform = None
        draw_beside_truth(
            detector, dataset, range(min(arguments.pictures, len(dataset))), out / "pictures", threshold=0.5
        )
        stderr().print(f"written to {out}", highlight=False, soft_wrap=True)
    show_scores(scores, arguments.json, arguments.classes)
    return 0
