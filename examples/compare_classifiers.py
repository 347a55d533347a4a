"""Train ResNet-50, BoTNet-50 and BoTNet-S1-50 by one recipe on the same images, and write down what comes out.

    python examples/compare_classifiers.py --out docs/results/classification \\
        --data tiny-imagenet=tiny-a.tar.gz --data tiny-imagenet=tiny-b.tar.gz --data cifar10=cifar10.tar.gz

Each archive holds NAME/{train,val or test}/<class>/<image>. The defaults are for two processor cores and under an
hour: a quarter of the networks' width, few classes. On a GPU give --width 64 --classes 100 --images 500 --epochs 100
--seeds 0 1 2 --jobs 1. Written are results.json (settings, environment, every evaluation of every run), README.md (the
table) and curves.png; runs that are complete in --work are not run again, interrupted ones go on.
"""

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import matplotlib.pyplot as plt
import yaml

from botvision.files import whole_file, write_text

MODELS = ("resnet50", "botnet50", "botnet50_s1")


def main() -> None:
    """Unpack, train, write down."""
    options = arguments()
    folders = {name: unpack(name, archives, options) for name, archives in by_name(options.data).items()}
    options.classes_of = {name: len(list((folder / "train").iterdir())) for name, folder in folders.items()}
    runs = [
        (name, model, seed, options.work / "runs" / f"{name}-{model}-seed{seed}")
        for name in folders
        for seed in options.seeds
        for model in MODELS
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda run: train(run[1], folders[run[0]], run[2], run[3], options), runs))
    results = [collect(*run) for run in runs]
    report(results, options)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, metavar="NAME=ARCHIVE", help="a .tar.gz of images")
    parser.add_argument("--out", type=Path, required=True, help="folder for the table, the numbers and the curves")
    parser.add_argument("--work", type=Path, default=Path("runs/compare"), help="folder for images and runs")
    parser.add_argument("--classes", type=int, default=20, help="the first so many classes of each data set")
    parser.add_argument("--images", type=int, default=500, help="the first so many training images of a class")
    parser.add_argument("--val-images", type=int, default=100, help="the first so many other images of a class")
    parser.add_argument("--width", type=int, default=16, help="channels of the stem; 64 in the paper")
    parser.add_argument("--input-size", type=int, default=96, help="pixels that the images are scaled to")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one processor core")
    return parser.parse_args()


def by_name(given: list[str]) -> dict[str, list[Path]]:
    """Archives by the name of their data set."""
    archives = defaultdict(list)
    for word in given:
        name, _, path = word.partition("=")
        archives[name].append(Path(path))
    return archives


def unpack(name: str, archives: list[Path], options: argparse.Namespace) -> Path:
    """Take the first classes and images out of archives: a folder with train/ and val/."""
    folder = options.work / "data" / f"{name}-{options.classes}x{options.images}x{options.val_images}"
    if folder.exists():
        return folder
    members = defaultdict(list)  # by split and class
    opened = [tarfile.open(path) for path in archives]  # noqa: SIM115 (closed below, when all images are out)
    for archive in opened:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if member.isfile() and len(parts) == 4:
                split = "val" if parts[1] == "test" else parts[1]
                members[parts[2], split].append((archive, member))
    classes = sorted({label for label, _ in members})[: options.classes]
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for label in classes:
        for split, most in (("train", options.images), ("val", options.val_images)):
            target = partial / split / label
            target.mkdir(parents=True)
            for archive, member in sorted(members[label, split], key=lambda pair: pair[1].name)[:most]:
                content = archive.extractfile(member)
                assert content is not None  # a file, by the check above
                (target / PurePosixPath(member.name).name).write_bytes(content.read())
    for archive in opened:
        archive.close()
    return partial.rename(folder)


def train(model: str, data: Path, seed: int, run: Path, options: argparse.Namespace) -> None:
    """Train one model in a process of its own; a run that is there goes on, or is complete already."""
    start = ["--resume", str(run)]
    if not run.exists():
        start = [f"imagenet/{model}", "--data", str(data), "--out", str(run), "--seed", str(seed), *recipe(options)]
    print(f"botvision train {' '.join(start)}", flush=True)
    run.parent.mkdir(parents=True, exist_ok=True)
    with run.with_suffix(".log").open("a") as log:
        command = [sys.executable, "-m", "botvision", "train", *start]
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)


def recipe(options: argparse.Namespace) -> list[str]:
    """Table 9's recipe, with what short runs in small batches need: larger steps, milder crops, a shorter warm-up."""
    return [
        *("--recipe", "regular", "--width", str(options.width), "--input-size", str(options.input_size)),
        *("--epochs", str(options.epochs), "--batch-size", "64", "--lr", "0.4", "--warmup-epochs", "1"),
        *("--crop-scale", "0.35", "1.0", "--threads", "1", "--workers", "0", "--precision", "float32"),
    ]


def collect(name: str, model: str, seed: int, run: Path) -> dict[str, Any]:
    """What a run wrote: its settings, where it ran, its scores and its curve. No paths: they are of one machine."""
    with (run / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    config = yaml.safe_load((run / "config.yaml").read_text())
    environment = json.loads((run / "environment.json").read_text())
    scores = json.loads((run / "eval" / "metrics.json").read_text())
    del config["data"]["data"], config["run"]["out"], environment["command"]
    return {
        "data": name,
        "model": model,
        "seed": seed,
        "scores": {key: scores[key] for key in ("top1", "top5", "loss", "ece", "images", "skipped")},
        "curve": [{"step": int(row["step"]), "top1": float(row["val_top1"])} for row in rows if row["val_top1"]],
        "config": config,
        "environment": environment,
    }


def report(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Write results.json, the table and the curves."""
    write_text(options.out / "results.json", json.dumps(results, indent=1) + "\n")
    write_text(options.out / "README.md", page(results, options))
    names = sorted({result["data"] for result in results})
    figure, axes = plt.subplots(1, len(names), figsize=(5.5 * len(names), 4), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for result in (one for one in results if one["data"] == name):
            steps = [point["step"] for point in result["curve"]]
            top1 = [100 * point["top1"] for point in result["curve"]]
            color = f"C{MODELS.index(result['model'])}"
            axis.plot(steps, top1, color=color, label=f"{result['model']}, seed {result['seed']}")
        axis.axhline(100 / options.classes_of[name], color="grey", linestyle=":", label="chance")
        axis.set(title=name, xlabel="step", ylabel="top-1 (%)", ylim=(0, None))
        axis.legend()
    figure.tight_layout()
    with whole_file(options.out / "curves.png") as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def page(results: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """The table as Markdown, with everything that it depends on."""
    where = results[0]["environment"]
    device = ", ".join(where["gpus"]) or f"{options.jobs} runs at a time, each on one of {where['processors']} cores"
    lines = [
        "# Three backbones under one recipe",
        "",
        f"Width {options.width} of the stem (64 in the paper), {options.input_size} x {options.input_size} pixels, "
        f"{options.epochs} epochs; at most {options.images} training and {options.val_images} other images of a class, "
        f"at most {options.classes} classes; a short run, no reproduction of the paper. Made by",
        f"`examples/compare_classifiers.py`, whose `recipe` says the rest, with {shown(options)}.",
        "",
        f"Where: {device}; {where['platform']}; torch {where['torch']}, torchvision {where['torchvision']}, "
        f"Python {where['python']}. Settings, environment and every evaluation: [results.json](results.json).",
        "",
        "| data | classes | model | seeds | images scored | top-1 (%) | top-5 (%) | calibration error |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups = defaultdict(list)
    for result in results:
        groups[result["data"], result["model"]].append(result)
    for (name, model), runs in groups.items():
        top1, top5 = (spread([100 * run["scores"][key] for run in runs]) for key in ("top1", "top5"))
        ece = spread([run["scores"]["ece"] for run in runs], digits=3)
        count = runs[0]["scores"]["images"]
        seeds = ", ".join(str(run["seed"]) for run in runs)
        lines.append(f"| {name} | {options.classes_of[name]} | {model} | {seeds} | {count} | {top1} | {top5} | {ece} |")
    chances = ", ".join(f"{100 / count:g} % on {name}" for name, count in options.classes_of.items())
    errors = ", ".join(f"{standard_error(results, name):.1f} points on {name}" for name in options.classes_of)
    closing = (
        f"Chance is {chances}. Which images are scored is itself a draw: one standard error of a run's top-1 is "
        f"{errors}. Differences of that size say nothing."
    )
    return "\n".join([*lines, "", closing, "", "![top-1 by step](curves.png)", ""])


def standard_error(results: list[dict[str, Any]], name: str) -> float:
    """Of a top-1 on this data set's images, in percent points: the largest of all runs."""
    scores = [result["scores"] for result in results if result["data"] == name]
    return max(100 * (score["top1"] * (1 - score["top1"]) / score["images"]) ** 0.5 for score in scores)


def shown(options: argparse.Namespace) -> str:
    """The options that say what was run, as they were given or by default."""
    names = ("classes", "images", "val_images", "width", "input_size", "epochs")
    flags = [f"--{name.replace('_', '-')} {getattr(options, name)}" for name in names]
    return f"`{' '.join([*flags, '--seeds', *map(str, options.seeds)])}`"


def spread(numbers: list[float], digits: int = 1) -> str:
    """Mean, and deviation where there are several."""
    mean = f"{statistics.mean(numbers):.{digits}f}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):.{digits}f}"


if __name__ == "__main__":
    main()
