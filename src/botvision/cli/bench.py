"""`botvision bench`: attention, detector, data, scale, evaluation, blocks; whole models are in bench_models.py."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App
from pydantic import Field

from botvision.benchmarks.names import BATCH, TORCHVISION, WAYS
from botvision.cli.bench_models import able, check_folder, growth, inference, pareto, print_profiles, step
from botvision.cli.examples import examples
from botvision.cli.output import print_results, say
from botvision.configuration import Count, CountOrZero, FieldError, NotNegative, Positive
from botvision.device import pick_device
from botvision.errors import nearest
from botvision.models import model_config

bench = App(name="bench", help="Time and memory beside other implementations.", help_epilogue=examples("bench"))
for command in (step, inference, pareto, growth):
    bench.command(command, help_epilogue=examples(f"bench {command.__name__}"))


@bench.command(help_epilogue=examples("bench attention"))
def attention(
    *,
    sizes: Annotated[tuple[str, ...], Field(min_length=1)] = ("14x14", "32x32", "40x100", "64x64", "80x80"),
    ways: Annotated[tuple[str, ...], Field(min_length=1)] = WAYS,
    batch: Count = 1,
    heads: Count = 4,
    head_width: Count = 128,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    repeats: Count = 5,
    device: str = "auto",
    threads: Count | None = None,
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Time and memory of the attention layer beside its peers, in interleaved runs.

    Args:
        sizes: Maps, as HEIGHTxWIDTH.
        ways: The implementations to compare; one whose package is not installed is left out, with a message.
        batch: Maps at once.
        heads: Attention heads.
        head_width: Width of a head.
        dtype: Of weights and maps.
        repeats: Turns of each implementation; medians are printed.
        device: auto, cpu or cuda.
        threads: Of the processor; as many as PyTorch takes by default.
        out: Folder for attention.json and attention.png.
        json: Print JSON.
    """
    import torch

    from botvision import benchmarks

    check_folder(out)
    for way in ways:
        if way not in WAYS:
            raise FieldError(("ways",), f"{way!r} is unknown{nearest(way, WAYS)}")
    maps = [map_size(text, "sizes") for text in sizes]
    setting = benchmarks.Setting(batch, heads, head_width, getattr(torch, dtype), pick_device(device))
    if threads:
        torch.set_num_threads(threads)
    facts = benchmarks.about(setting, list(ways))
    rows = benchmarks.bench_attention(maps, list(ways), setting, repeats, say)
    if out:
        benchmarks.write_report(out, facts, rows)
    tables = [benchmarks.header(facts), benchmarks.attention_table(facts, rows), *benchmarks.notes(rows)]
    print_results(benchmarks.as_data(facts, rows), tables, as_json=json)
    return 0


def map_size(text: str, field: str) -> tuple[int, int]:
    """(14, 20) of "14x20".

    Raises:
        FieldError: not two positive numbers.
    """
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise FieldError((field,), f"should be HEIGHTxWIDTH, such as 14x20, got {text!r}")
    return int(sides[0]), int(sides[1])


@bench.command(help_epilogue=examples("bench detector"))
def detector(
    *,
    models: Annotated[tuple[str, ...], Field(min_length=1)] = (TORCHVISION, "resnet50", "botnet50"),
    size: str = "1024x1024",
    inference_size: str = "800x1200",
    batch: Count = 1,
    dtype: Literal["float32", "bfloat16"] = "float32",
    repeats: Count = 5,
    device: str = "auto",
    compile: bool = False,
    profiled: bool = False,
    json: bool = False,
) -> int:
    """Time a training step and a prediction of Mask R-CNN beside torchvision's, in interleaved runs.

    All get the same image, objects and proposals, of which a step samples 512.

    Args:
        models: Backbones of ours, and torchvision for its maskrcnn_resnet50_fpn; ratios are to the first.
        size: Image of a training step, as HEIGHTxWIDTH.
        inference_size: Image of a prediction.
        batch: Images at once.
        dtype: float32, or bfloat16 by autocast.
        repeats: Turns of each detector; medians are printed.
        device: auto, cpu or cuda.
        compile: Compile the backbone of ours in training.
        profiled: Print which operators a training step of each spends its time in, instead.
        json: Print the times as JSON.
    """
    from botvision.benchmarks.detector_step import StepSetting, bench_steps, steps_table, training_step
    from botvision.benchmarks.operators import profile

    for model in models:
        if model != TORCHVISION:
            model_config(model)  # refuses an unknown name
    images = map_size(size, "size"), map_size(inference_size, "inference_size")
    setting = StepSetting(*images, batch, *able(device, dtype, compile=compile), compile)
    if profiled:
        print_profiles({model: profile(training_step(model, setting), setting.device) for model in models}, json)
        return 0
    times = bench_steps(list(models), setting, repeats, say)
    print_results([one.plain() for one in times], [steps_table(times, setting)], as_json=json)
    return 0


@bench.command(help_epilogue=examples("bench data"))
def data(
    *,
    task: Literal["classification", "detection"] = "classification",
    data: Path | None = None,
    images: Annotated[int, Field(ge=BATCH)] | None = None,
    size: Count | None = None,
    workers: CountOrZero = 0,
    repeats: Count = 5,
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Time the input pipeline of a task beside torchvision's, in interleaved runs.

    Args:
        task: classification, or detection with masks.
        data: Folder of images, one folder a class, or for detection in COCO's layout; drawn ones by default.
        images: Images in a turn, rounded down to whole batches of 32, for detection of 8; by default 640 or 128.
        size: Height and width of what comes out, in pixels; by default 224, for detection 1024.
        workers: Processes that read; 0 reads in one process.
        repeats: Turns of each pipeline; medians are printed.
        out: Picture to draw, such as data.png.
        json: Print the throughputs as JSON.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    from botvision.benchmarks.data import bench_data, draw_throughput, drawn_images, throughput_table
    from botvision.benchmarks.detection_data import bench_detection_data, drawn_objects

    layout, drawn, measure, standard_size, standard_images = (
        ("in COCO's layout", drawn_objects, bench_detection_data, 1024, 128)
        if task == "detection"
        else ("of images, one folder a class", drawn_images, bench_data, 224, 640)
    )
    if data and not data.is_dir():
        raise FieldError(("data",), f"there is no folder {data}; give one {layout}")
    if out and (out.is_dir() or out.suffix.removeprefix(".") not in FigureCanvasBase.filetypes):
        raise FieldError(("out",), f"should be the file of a picture, such as data.png, got {out}")
    with nullcontext(data) if data else drawn() as folder:
        found = measure(
            folder, size=size or standard_size, images=images or standard_images, workers=workers, repeats=repeats
        )
    if out:
        draw_throughput(found, out)
    print_results([asdict(one) for one in found], [throughput_table(found)], as_json=json)
    return 0


@bench.command(help_epilogue=examples("bench evaluation"))
def evaluation(*, images: Count = 5000, repeats: Count = 1, json: bool = False) -> int:
    """Time COCO's numbers of made-up detections, 100 an image, beside pycocotools and faster-coco-eval.

    Peers that are not installed are left out. pycocotools takes minutes on 5000 images.

    Args:
        images: Images with made-up objects and detections.
        repeats: Turns of each implementation; medians are printed.
        json: Print the times and numbers as JSON.
    """
    from botvision.benchmarks.evaluation import MadeUpData, bench_evaluation, timing_table

    found = bench_evaluation(MadeUpData(images), repeats)
    print_results([asdict(one) for one in found], [timing_table(found)], as_json=json)
    return 0


@bench.command(help_epilogue=examples("bench blocks"))
def blocks(
    *,
    sizes: Annotated[tuple[str, ...], Field(min_length=1)] = ("32x32", "64x64"),
    head_widths: Annotated[tuple[Count, ...], Field(min_length=1)] = (64, 128),
    batch: Count = 8,
    heads: Count = 4,
    dtype: Literal["bfloat16", "float16"] = "bfloat16",
    json: bool = False,
) -> int:
    """Time the Triton programs of attention with other block sizes, on an NVIDIA card.

    Args:
        sizes: Maps, as HEIGHTxWIDTH.
        head_widths: Widths of a head.
        batch: Maps at once.
        heads: Attention heads.
        dtype: Of queries, keys and values.
        json: Print JSON.
    """
    import torch

    from botvision.benchmarks.attention_blocks import blocks_table, tune

    device = pick_device("cuda")
    maps = [map_size(text, "sizes") for text in sizes]
    setting = {"batch": batch, "heads": heads, "dtype": getattr(torch, dtype), "say": say}
    times = [one for width in head_widths for size in maps for one in tune(size, head_width=width, **setting)]
    name = torch.cuda.get_device_name(device)
    print_results([asdict(one) for one in times], [f"{name}, {dtype}", blocks_table(times)], as_json=json)
    return 0


@bench.command(help_epilogue=examples("bench scale"))
def scale(
    *,
    model: str = "botnet50",
    size: Count = 224,
    batch: Count = 4,
    step_ms: Positive | None = None,
    processes: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 32, 64),
    per_machine: Count = 8,
    inside: Positive = 200.0,
    between: Positive = 25.0,
    latency: NotNegative = 20.0,
    check: bool = False,
    repeats: Count = 5,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Say what a training step of a classifier costs on many processes, from its time on one; docs/scale.md explains.

    Args:
        model: A model in `botvision models`.
        size: Height and width of the images, in pixels.
        batch: Images of one process.
        step_ms: Time of a step of one process, in milliseconds; measured here by default.
        processes: Numbers of processes to say it for.
        per_machine: Processes on a machine, one a GPU.
        inside: Gigabytes a second between GPUs of a machine.
        between: Gigabytes a second between machines.
        latency: Microseconds of the smallest message between two processes, of one machine or of two.
        check: Measure two processes on this machine's processor too, beside what the model says of them.
        repeats: Steps that are timed; medians count.
        device: auto, cpu or cuda.
        json: Print JSON.
    """
    from botvision.benchmarks import scale as scaling

    model_config(model)  # refuses an unknown name
    work = scaling.Work(model, size, batch)
    if step_ms is None:
        step = scaling.measure_step(work, pick_device(device), repeats)
    else:
        step = scaling.step_of(work, step_ms / 1e3)
    network = scaling.Network(1e9 * inside, 1e9 * between, 1e-6 * latency, per_machine)
    rows = [scaling.scaled(step, network, number) for number in processes]
    checked = scaling.check_two(work, repeats) if check else None
    print_results(scaling.as_data(step, network, rows, checked), scaling.scale_table(step, rows, checked), as_json=json)
    return 0
