"""The command line: one class of arguments and one short function for each command.

Results go to standard output, progress and messages to standard error. What the user can mend ends with one line on
standard error and exit status 2.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import yaml
from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional

from botvision.benchmark import bench_attention, timings_table
from botvision.data import CocoDetection, eval_transform
from botvision.detection.checkpoint import load_detector
from botvision.detection.predict import draw_beside_truth, find_images, predict_files
from botvision.errors import UserError
from botvision.evaluation import class_table, evaluate_detector, scores_table
from botvision.experiments import EXPERIMENTS, find_experiment
from botvision.experiments.demo import run_demo
from botvision.files import write_text
from botvision.flags import parse
from botvision.models.catalogue import nearest
from botvision.models.summary import render_models, render_tree, summarize, tree
from botvision.training.config import DetectionExperiment, at_least, to_plain
from botvision.training.processes import first_process, pick_device
from botvision.training.progress import Reporter
from botvision.training.run import Outcome, check, resume_run, start_run
from botvision.training.run_folder import write_evaluation
from botvision.version import __version__

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
READER_GONE = 141
"""Exit status where nobody reads the output any more, as shells have it."""


@dataclass
class DemoArguments:
    """Train a small BoTNet Mask R-CNN on generated images, evaluate it, draw what it finds."""

    out: Path = Path("runs/demo")
    """Folder for the data set, the run and the pictures."""
    steps: int | None = None
    """Optimiser steps, instead of the demo's own."""
    json: bool = False
    """Print the scores as JSON."""


def demo(argv: Sequence[str]) -> int:
    """`botvision demo`."""
    arguments = parse(DemoArguments, "demo", argv)
    at_least(1, {"--steps": arguments.steps})
    outcome = run_demo(arguments.out, stderr(), arguments.steps)
    status = report_run(outcome.run, arguments.json)
    for picture in outcome.pictures:
        stderr().print(f"picture: {picture}", highlight=False, soft_wrap=True)
    return status


@dataclass
class TrainArguments:
    """Train an experiment; every one of its fields is a flag."""

    experiment: DetectionExperiment
    print_config: bool = False
    """Print the experiment's settings as YAML, and do nothing else."""
    json: bool = False
    """Print the final scores as JSON."""


def train(argv: Sequence[str]) -> int:
    """`botvision train EXPERIMENT [--field VALUE ...]` and `botvision train --resume RUN`."""
    if any(word.partition("=")[0] == "--resume" for word in argv):
        return resume(argv)
    if not argv or argv[0].startswith("-"):
        if argv and argv[0] not in ("-h", "--help"):
            raise UserError("train needs an experiment first: botvision train EXPERIMENT [--field VALUE ...]")
        print("botvision train EXPERIMENT [--data DIR] [--field VALUE ...] [--print-config] [--json]")
        print("botvision train --resume RUN [--json]\n")
        print("experiments (botvision train EXPERIMENT --help lists every field):")
        for name, (what, _) in EXPERIMENTS.items():
            print(f"  {name:<18}{what}")
        return 0
    name, *rest = argv
    default = find_experiment(name)
    arguments = parse(
        Annotated[TrainArguments, OmitArgPrefixes], f"train {name}", rest, default=TrainArguments(default)
    )
    if arguments.print_config:
        check(arguments.experiment)
        print(yaml.safe_dump({"experiment": name, **to_plain(arguments.experiment)}, sort_keys=False), end="")
        return 0
    return report_run(start_run(arguments.experiment, name, stderr()), arguments.json)


def resume(argv: Sequence[str]) -> int:
    """`botvision train --resume RUN [--json]`: a run's settings are its own, nothing else can be given."""
    match [word for word in argv if word != "--json"]:
        case ["--resume", folder] if folder and not folder.startswith("-"):
            pass
        case [word] if word.startswith("--resume=") and word != "--resume=":
            folder = word.removeprefix("--resume=")
        case _:
            raise UserError("--resume takes exactly one run folder, and nothing else but --json")
    return report_run(resume_run(Path(folder), stderr()), "--json" in argv)


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


@dataclass
class PredictArguments:
    """Detect on images: COCO results and pictures."""

    checkpoint: Positional[Path]
    """A checkpoint, or a run folder (its best checkpoint)."""
    images: Positional[tuple[Path, ...]]
    """Image files, or folders of them."""
    out: Path
    """Folder for predictions.json and the pictures."""
    threshold: float = 0.5
    """Detections that score less are left out."""
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print the detections as JSON too."""


def predict(argv: Sequence[str]) -> int:
    """`botvision predict RUN-or-CHECKPOINT IMAGE... --out DIR`."""
    arguments = parse(PredictArguments, "predict", argv)
    if not 0 <= arguments.threshold <= 1:
        raise UserError(f"--threshold must be between 0 and 1, got {arguments.threshold}")
    if not arguments.images:
        raise UserError("no image given: botvision predict RUN-or-CHECKPOINT IMAGE... --out DIR")
    files = find_images(arguments.images)
    detector = load_detector(arguments.checkpoint, pick_device(arguments.device))
    with Reporter(stderr()) as reporter:
        results = predict_files(
            detector,
            files,
            arguments.out,
            threshold=arguments.threshold,
            on_image=lambda done, total: reporter.show("detecting, image", done, total),
        )
    write_text(arguments.out / "predictions.json", json.dumps(results) + "\n")
    stderr().print(f"{len(results)} objects in {len(files)} images, written to {arguments.out}", soft_wrap=True)
    if arguments.json:
        print(json.dumps(results))
    return 0


@dataclass
class ModelsArguments:
    """Every model: parameters and multiply-adds, published beside ours."""

    pattern: Positional[str | None] = None
    """A name, a part of one, or one with wildcards such as 'botnet_t*'; all by default."""
    tree: bool = False
    """Show what one model is made of, stage by stage."""
    input_size: int | None = None
    """Image height and width for --tree, in pixels; the model's own by default."""
    json: bool = False
    """Print as JSON."""


def models(argv: Sequence[str]) -> int:
    """`botvision models [PATTERN]`."""
    arguments = parse(ModelsArguments, "models", argv)
    if arguments.tree and not arguments.pattern:
        raise UserError("--tree needs one model: botvision models botnet50 --tree")
    if arguments.input_size is not None and not arguments.tree:
        raise UserError("--input-size needs --tree: botvision models botnet50 --tree --input-size 512")
    at_least(1, {"--input-size": arguments.input_size})
    if arguments.tree:
        rows: list[Any] = list(tree(arguments.pattern, arguments.input_size))
        table = render_tree(rows)
    else:
        rows = list(summarize(arguments.pattern))
        table = render_models(rows)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        Console().print(table)
    return 0


@dataclass
class BenchArguments:
    """Time the attention layer beside its peers, in interleaved runs."""

    what: Positional[Literal["attention"]]
    """What to time."""
    sizes: tuple[str, ...] = ("14x14", "32x32", "64x64")
    """Maps, as HEIGHTxWIDTH."""
    batch: int = 1
    """Maps at once."""
    heads: int = 4
    """Attention heads."""
    head_width: int = 128
    """Width of a head."""
    repeats: int = 5
    """Turns of each way; medians are printed."""
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print the timings as JSON."""


def bench(argv: Sequence[str]) -> int:
    """`botvision bench attention`."""
    arguments = parse(BenchArguments, "bench", argv)
    counts = ("batch", "heads", "head_width", "repeats")
    at_least(1, {f"--{name.replace('_', '-')}": getattr(arguments, name) for name in counts})
    if not arguments.sizes:
        raise UserError("--sizes needs at least one map, such as 14x20")
    timings = bench_attention(
        [map_size(text) for text in arguments.sizes],
        batch=arguments.batch,
        heads=arguments.heads,
        head_width=arguments.head_width,
        repeats=arguments.repeats,
        device=pick_device(arguments.device),
    )
    if arguments.json:
        print(json.dumps([asdict(timing) for timing in timings]))
    else:
        Console().print(timings_table(timings))
    return 0


def map_size(text: str) -> tuple[int, int]:
    """(14, 20) of "14x20".

    Raises:
        UserError: not two positive numbers.
    """
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise UserError(f"--sizes has {text!r}, a map is HEIGHTxWIDTH, such as 14x20")
    return int(sides[0]), int(sides[1])


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": demo,
    "models": models,
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "bench": bench,
}

USAGE = """\
botvision: Bottleneck Transformers for visual recognition

  botvision demo                                    the main job on generated data, on any machine
  botvision models [PATTERN]                        every model: parameters, multiply-adds, published beside ours
  botvision train EXPERIMENT [--field VALUE ...]    train (botvision train --help lists the experiments)
  botvision train --resume RUN                      go on with an interrupted run
  botvision eval RUN-or-CHECKPOINT --data DIR       COCO's numbers
  botvision predict RUN-or-CHECKPOINT IMAGE... --out DIR
  botvision bench attention                         the attention layer beside its peers

--help after a command lists its options, --version prints the version, --debug shows tracebacks.
"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and leave with its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        try:
            status = run([word for word in words if word != "--debug"])
        finally:
            sys.stdout.flush()  # here, where a reader that has gone can still be answered
        sys.exit(status)
    except BrokenPipeError:  # as with `botvision models | head -1`: no error of anyone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own last flush
        sys.exit(READER_GONE)
    except (UserError, OSError) as error:  # the system's own errors name the file and what is wrong
        if debug:
            raise
        print(f"botvision: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("botvision: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def run(words: list[str]) -> int:
    """Find the command and run it."""
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        raise UserError(f"unknown command {words[0]!r}{nearest(words[0], list(COMMANDS))}")
    return COMMANDS[words[0]](words[1:])


def report_run(outcome: Outcome, as_json: bool) -> int:
    """Say how a run ended; the exit status is 130 where it was interrupted."""
    if outcome.stopped:
        stderr().print(
            f"stopped after step {outcome.steps}; go on with: botvision train --resume {outcome.folder}",
            highlight=False,
            soft_wrap=True,
        )
        return INTERRUPTED
    if outcome.scores or as_json:
        show_scores(outcome.scores or {}, as_json)
    stderr().print(f"run: {outcome.folder}", highlight=False, soft_wrap=True)
    return 0


def show_scores(scores: dict[str, Any], as_json: bool, classes: bool = False) -> None:
    """Print scores as JSON, or as tables."""
    if not first_process():
        return
    if as_json:
        print(json.dumps(scores))
        return
    tables: list[Table] = [scores_table(scores)] + ([class_table(scores)] if classes else [])
    for table in tables:
        Console(markup=False).print(table)


def stderr() -> Console:
    """Where progress and messages go; of several processes the first alone speaks."""
    return Console(stderr=True, quiet=not first_process(), markup=False)
