"""`botvision attend`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from botvision.classification.attend import Point, attend_file, attention_source
from botvision.commands.report import stderr
from botvision.errors import UserError
from botvision.flags import parse
from botvision.training.config import at_least
from botvision.training.processes import pick_device


@dataclass
class AttendArguments:
    """Where points of a photograph attend: every head of an attention block as a heat map over it."""

    model: Positional[str]
    """A checkpoint, a run folder (its best checkpoint), or a model in `botvision models`, with random weights."""
    image: Positional[Path]
    """The photograph, at most 16 times as long as wide."""
    at: Annotated[tuple[str, ...], arg(metavar="X Y [X Y ...]")]
    """Points, in whole pixels of the photograph from its upper left corner; a picture for each."""
    out: Path
    """Folder for the pictures."""
    block: str | None = None
    """The attention block, such as layer4.2; the last one by default."""
    input_size: int | None = None
    """Pixels of the shorter side (detectors: of the longer) as the network sees it; by default the model's own."""
    device: str = "auto"
    """auto, cpu or cuda."""


def attend(argv: Sequence[str]) -> int:
    """`botvision attend RUN-or-CHECKPOINT-or-MODEL IMAGE --at X Y --out DIR`."""
    arguments = parse(AttendArguments, "attend", argv)
    at_least(1, {"--input-size": arguments.input_size})
    points = read_points(arguments.at)
    source = attention_source(arguments.model, pick_device(arguments.device))
    pictures = attend_file(
        source,
        arguments.image,
        points,
        arguments.out,
        block=arguments.block,
        input_size=arguments.input_size,
    )
    if not source.is_trained:
        stderr().print(f"{arguments.model} is not trained: its weights are random", highlight=False, soft_wrap=True)
    for picture in pictures:
        stderr().print(f"picture: {picture}", highlight=False, soft_wrap=True)
    return 0


def read_points(words: Sequence[str]) -> list[Point]:
    """Points as the user wrote them, x y [x y ...].

    Raises:
        UserError: not whole numbers, or not two of them for each point.
    """
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        numbers = []
    if not numbers or len(numbers) % 2:
        given = " ".join(words) or "nothing"
        raise UserError(f"--at must be x and y in whole pixels, once or several times, such as 120 80, got {given}")
    return list(zip(numbers[::2], numbers[1::2], strict=True))
