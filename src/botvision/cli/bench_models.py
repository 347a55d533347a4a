"""`botvision bench step`, `inference`, `pareto` and `growth`: whole models."""

import json as json_format
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from botvision.benchmarks.names import WITH_PEERS
from botvision.cli.fields import flags, with_flags
from botvision.cli.output import print_results, say
from botvision.configuration import Config, Count, FieldError
from botvision.device import pick_device
from botvision.files import whole_file, write_text

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from botvision.benchmarks.model_step import ModelSetting
    from botvision.benchmarks.operators import OperatorTime

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Sizes = Annotated[tuple[Count, ...], Field(min_length=2)]


class Measuring(Config):
    """How models are timed."""

    batch: Count = 32
    """Images at once, or as many as the largest power of two that fits in memory; the paper has 32."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """float32, or bfloat16 by autocast."""
    compile: bool = False
    """Compile the models."""
    inference: bool = False
    """Time a forward pass in evaluation mode instead of a training step."""
    repeats: Count = 5
    """Turns of each model; medians are printed."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def setting(self) -> "ModelSetting":
        """What every model is given.

        Raises:
            FieldError: what this machine cannot do.
        """
        from botvision.benchmarks.model_step import ModelSetting

        device, dtype = able(self.device, self.dtype, compile=self.compile)
        return ModelSetting(self.batch, device, dtype, self.compile, self.inference)


def able(device: str, dtype: str, *, compile: bool) -> "tuple[torch.device, torch.dtype]":
    """The device and the dtype of their names.

    Raises:
        FieldError: what this machine cannot do.
    """
    import torch

    from botvision.benchmarks.implementations import can_compile

    place = pick_device(device)
    if compile and not can_compile(place):
        raise FieldError(("compile",), "there is no compiler here, Triton for a GPU or C++ for a processor")
    if dtype == "bfloat16" and place.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise FieldError(("dtype",), "this GPU has no bfloat16; choose float32")
    return place, getattr(torch, dtype)


def check_folder(out: Path | None) -> None:
    """Refuse a folder for results that is a file, before anything is measured.

    Raises:
        FieldError: it is one.
    """
    if out and out.exists() and not out.is_dir():
        raise FieldError(("out",), f"{out} is a file; give a folder")


def step(
    *,
    models: Names = ("resnet50", "botnet50"),
    size: Count | None = None,
    out: Path | None = None,
    profiled: bool = False,
    json: bool = False,
    **given: Any,  # noqa: ANN401 (of Measuring)
) -> int:
    """Time a training step of whole models (forward and backward pass), or a prediction, in interleaved runs.

    Args:
        models: Names, or patterns such as 'botnet_t*' and 'efficientnet_*'; '*' is all of them.
        size: Image height and width, in pixels; each model's own by default. Table 1 of the paper has 1024.
        out: File for the times, such as step.json, which bench pareto reads; it is written anew after each turn.
        profiled: Print which operators each model spends its time in, instead.
        json: Print the times as JSON.
    """
    from botvision.benchmarks.model_step import bench_models, profile_models
    from botvision.benchmarks.step_report import header, notes, step_table, write_times
    from botvision.benchmarks.timed_models import named, size_of
    from botvision.experiments.speed import ratios

    measuring = Measuring(**given)
    subjects = [(name, size_of(name, size)) for name in named(models)]
    if out and (profiled or out.is_dir()):
        raise FieldError(
            ("out",), "is for times, not for --profiled" if profiled else f"{out} is a folder; give a file"
        )
    if profiled:
        print_profiles(profile_models(subjects, measuring.setting()), json)
        return 0
    keep = {"keep": partial(write_times, file=out)} if out else {}
    report = bench_models(subjects, measuring.setting(), measuring.repeats, say, **keep)
    published = [ratio.line(report) for ratio in ratios()]
    tables = [header(report), step_table(report), *notes(report, measuring.batch), *published]
    print_results(report.plain(), tables, as_json=json)
    return 0


def pareto(
    *,
    times: tuple[Path, ...] = (),
    out: Path | None = None,
    json: bool = False,
    **given: Any,  # noqa: ANN401 (of Measuring)
) -> int:
    """Draw the paper's Figure 5 with times of this machine: published accuracy against the time of an image.

    Without --times all of its models are measured, which takes long on a processor.

    Args:
        times: Files that bench step --out wrote, of the same machine; of a model in two of them the last one counts.
        out: Folder for pareto.json and pareto.png, which are written anew after each turn.
        json: Print the points as JSON.
    """
    from botvision.benchmarks.model_step import bench_models
    from botvision.benchmarks.pareto import Point, draw_pareto, missing, pareto_table, points
    from botvision.benchmarks.step_report import StepReport, header, read_times
    from botvision.benchmarks.timed_models import size_of
    from botvision.experiments.speed import accuracies, ratios

    check_folder(out)
    published = accuracies()
    if times and given:
        raise FieldError((next(iter(given)),), "does not go together with --times, whose models were measured before")

    def keep(report: StepReport) -> tuple[list[Point], dict[str, Any]]:
        found = points(published, report)
        content = {"conditions": report.conditions.plain(), "points": [asdict(point) for point in found]}
        if out:
            write_both(out / "pareto", content, draw_pareto(found, report))
        return found, content

    if times:
        report = read_times(times)
    else:
        measuring = Measuring(**given)
        subjects = [(name, size_of(name, None)) for name in published]
        report = bench_models(subjects, measuring.setting(), measuring.repeats, say, keep)
    found, content = keep(report)
    lines = [*missing(found), *(ratio.line(report) for ratio in ratios())]
    print_results(content, [header(report), pareto_table(found), *lines], as_json=json)
    return 0


def growth(
    *,
    models: Names = ("resnet50", "botnet50"),
    sizes: Sizes = (256, 512, 1024),
    maps: Sizes = (16, 32, 64),
    out: Path | None = None,
    json: bool = False,
    **given: Any,  # noqa: ANN401 (of Measuring)
) -> int:
    """Show how time and memory grow with the map of the attention layer and with the image of whole models.

    Args:
        models: Names or patterns, as in bench step.
        sizes: Heights and widths of the images, in pixels.
        maps: Heights and widths of the maps, in positions.
        out: Folder for growth.json and growth.png.
        json: Print the costs as JSON.
    """
    from botvision.benchmarks.growth import draw_growth, grow, growth_table
    from botvision.benchmarks.timed_models import named, size_of

    check_folder(out)
    measuring = Measuring(**given)
    names = named(models)
    for name in names:
        for size in sizes:
            size_of(name, size, "sizes")
    setting = measuring.setting()
    found, remarks = grow(maps, names, sizes, setting, measuring.repeats, say)
    conditions = setting.conditions()
    costs = [{**asdict(one), "slope": one.slope, "expected": one.expected} for one in found]
    content = {"conditions": conditions.plain(), "batch": measuring.batch, "costs": costs}
    if out:
        write_both(out / "growth", content, draw_growth(found, conditions.device))
    print_results(content, [growth_table(found), *remarks], as_json=json)
    return 0


def inference(
    *,
    models: Names = WITH_PEERS,
    size: Count = 224,
    batch: Count = 1,
    repeats: Count = 11,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Time prediction by ResNet-50 and BoTNet-50 as they are, folded, compiled and exported, beside timm's networks.

    Args:
        models: resnet50, botnet50, or both.
        size: Image height and width, in pixels; a multiple of 32.
        batch: Images at once.
        repeats: Turns of each; medians are printed.
        device: auto, cpu or cuda.
        json: Print the times as JSON.
    """
    import torch

    from botvision.benchmarks.attention_report import device_name
    from botvision.benchmarks.inference import bench_inference, inference_table
    from botvision.benchmarks.timed_models import MODELS, PEER, size_of

    for name in models:
        if name not in WITH_PEERS:
            raise FieldError(("models",), f"{name!r} is not one of {', '.join(WITH_PEERS)}")
    if not MODELS[PEER].is_installed():
        raise FieldError(("models",), "timm is not installed (pip install 'botvision[bench]')")
    place = pick_device(device)
    found = bench_inference(list(models), size_of(PEER, size), batch, place, repeats, say)
    title = f"{device_name(place)}, {torch.get_num_threads()} threads, {batch} x {size} x {size}, float32; medians"
    print_results([asdict(one) for one in found], [title, inference_table(found)], as_json=json)
    return 0


def print_profiles(found: "dict[str, list[OperatorTime]]", as_json: bool) -> None:
    """Print the operators of each model."""
    from botvision.benchmarks.operators import profile_table

    content = {title: [asdict(one) for one in operators] for title, operators in found.items()}
    print_results(content, [profile_table(*one) for one in found.items()], as_json=as_json)


def write_both(name: Path, content: dict[str, Any], figure: "Figure") -> None:
    """Write a JSON file and a picture of the same name."""
    write_text(name.with_suffix(".json"), json_format.dumps(content, indent=1) + "\n")
    with whole_file(name.with_suffix(".png")) as temporary:
        figure.savefig(temporary, dpi=90)


for command in (step, pareto, growth):
    with_flags(command, flags(Measuring, "Measuring"))
