"""The model card of a trained model: what people should know before they use it, written from its run."""

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

from botvision.checkpoint import read_checkpoint
from botvision.models.counting import count_parameters
from botvision.tasks.base import Trained
from botvision.tasks.evaluated import METRICS, read_table
from botvision.tasks.pixel_config import PixelConfig
from botvision.training.run_folder import read_config

TAGS = ["botvision", "botnet", "bottleneck-transformer"]
"""By which a model is found on the hub."""
NOT_SCORES = {"classes", "most_confused", "images", "skipped", "step"}
"""Of metrics.json."""
NOT_SHARED = {"out", "device", "workers", "log_every", "save_every"}
"""Settings of a run that say nothing of the model."""


def model_card(trained: Trained, name: str, license: str | None = None) -> str:
    """The text of the card, the README.md of a model on the Hugging Face Hub, with what the hub reads at its head.

    Folders and files of the machine that trained it are named by their last part alone.

    Args:
        trained: the model; without its run folder around the checkpoint the card says so.
        name: that ``botvision predict`` takes.
        license: of the weights.
    """
    header = {"library_name": "botvision", "pipeline_tag": trained.pipeline_tag, "tags": TAGS}
    header |= {"license": license} if license else {}
    run = trained.path.absolute().parents[1]
    written = from_run(run, trained.path, name) if (run / "config.yaml").is_file() else NO_RUN
    classes = ", ".join(trained.names)
    return CARD.format(
        header=yaml.safe_dump(header, sort_keys=False).strip(),
        kind=type(trained.model).__name__,
        parameters=f"{count_parameters(trained.model) / 1e6:.2f}",
        count=len(trained.names),
        classes=classes if len(classes) <= MOST_NAMES else f"{classes[:MOST_NAMES]} ... (the rest is in config.json)",
        name=name,
        images=images_of(trained.model.config),
        about=written.strip(),
        license=f"Weights: {license}." if license else NO_LICENSE,
    )


def images_of(pixels: PixelConfig) -> str:
    """What images the model takes, in a sentence."""
    if pixels.in_channels is None:
        return "It takes photographs of every common format, in RGB."
    mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (pixels.mean, pixels.std))
    return (
        f"It takes images of {pixels.in_channels} channels as they are stored (TIFF files and arrays, `.npy`), in the "
        f"unit of its training images: their mean was {mean}, their deviation {std}."
    )


def from_run(run: Path, checkpoint: Path, name: str) -> str:
    """The sections of a card that a run folder tells: data, recipe, scores."""
    record, step = read_config(run), read_checkpoint(checkpoint)["step"]
    settings = {
        part: {key: shared(value) for key, value in values.items() if key not in NOT_SHARED}
        for part, values in record.settings.items()
    }
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    command = " ".join(str(shared(word)) for word in environment["command"])
    scores, how = measured(run, checkpoint, step, name)
    table = "\n".join(f"| {score} | {value:.4f} |" for score, value in scores.items())
    return FROM_RUN.format(
        data=settings["data"]["data"],
        weights=settings["run"]["weights"] or "random weights",
        experiment=record.experiment,
        step=step,
        command=command,
        settings=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).strip(),
        environment=", ".join(f"{package} {environment[package]}" for package in ("botvision", "torch", "python")),
        gpus=", ".join(environment["gpus"]) or "no GPU",
        scores=f"| score | value |\n| --- | --- |\n{table}\n\n{how}" if scores else how,
    )


def measured(run: Path, checkpoint: Path, step: int, name: str) -> tuple[dict[str, float], str]:
    """The scores of a checkpoint, and how to get them again.

    From the last ``botvision eval`` of this checkpoint, else from the evaluation of the training at its step.
    """
    for file in sorted(run.glob(f"eval/*/{METRICS}")):
        content = json.loads(file.read_text(encoding="utf-8"))
        is_same = Path(str(content.get("checkpoint"))).name == checkpoint.name
        if is_same and file.stat().st_mtime >= checkpoint.stat().st_mtime:
            limit, images = content.get("limit"), content.get("images")
            command = f"botvision eval {name} --data {shared(content['data'])} --split {content['split']}"
            command += f" --images {limit}" if limit else ""
            return numbers(content), f"Measured by `{command}`{f', on {images} images' if images else ''}."
    history = read_table(run / "evaluations.csv")
    scores = {column: value for column, points in history.items() for at, value in points if at == step}
    if not scores:
        return {}, "This checkpoint was not evaluated."
    return scores, f"Measured in the training, on its validation split after step {step}."


def numbers(scores: dict[str, Any], before: str = "") -> dict[str, float]:
    """The numbers of metrics.json by their names, those in groups with the name of the group before them."""
    found: dict[str, float] = {}
    for name, value in scores.items():
        if name in NOT_SCORES:
            continue
        if isinstance(value, dict):
            found |= numbers(value, f"{before}{name} ")
        elif isinstance(value, float):
            found[f"{before}{name}"] = value
    return found


def shared(value: Any) -> Any:  # noqa: ANN401 (plain data)
    """A setting or a word of a command for others to read: of absolute paths the last part."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


MOST_NAMES = 2000
"""Letters of the list of classes."""
NO_LICENSE = (
    "The licence of the weights was not stated by who uploaded them; the terms of the data that they were trained on "
    "may bind them."
)
NO_RUN = """
## Training

The model was uploaded from a checkpoint without its run: its data, recipe and scores are not known here.
"""

CARD = dedent(
    """\
    ---
    {header}
    ---

    # {kind}

    A model of botvision: bottleneck transformers for visual recognition
    ([Srinivas et al., CVPR 2021](https://arxiv.org/abs/2101.11605)). {parameters} million parameters, {count} classes:
    {classes}.

    ## Use

    {images}

    ```python
    import botvision

    predictor = botvision.Predictor("{name}")
    found = predictor("photo.jpg")
    found.draw().save("found.png")
    ```

    {about}

    ## Limits

    - It knows the classes above alone, and takes what is none of them for one that it knows.
    - It was trained on the data named above. Images of another kind (other cameras, places, seasons, sizes of objects)
      may give worse results than the scores say: measure it on images of yours, `botvision eval`, before you rely on
      it.
    - Scores are confidences of the network, no calibrated probabilities.
    - It was not tested for fairness, nor against images made to deceive it.

    ## Licence

    {license} Code: botvision, Apache-2.0.
    """
)

FROM_RUN = dedent(
    """\
    ## Data

    `{data}`, as its owner names it. The training started from {weights}.

    ## Recipe

    Experiment `{experiment}`, step {step} of the run, on {gpus}, with {environment}:

        {command}

    ```yaml
    {settings}
    ```

    ## Scores

    {scores}
    """
)
