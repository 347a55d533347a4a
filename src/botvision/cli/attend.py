"""`botvision attend`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from botvision.cli.output import say
from botvision.configuration import Count
from botvision.device import pick_device


def attend(
    model: str,
    image: Path,
    /,
    *,
    at: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)],
    out: Path,
    block: str | None = None,
    input_size: Count | None = None,
    device: str = "auto",
) -> int:
    """Draw where points of a photograph attend: every head of an attention block as a heat map over it.

    Args:
        model: A checkpoint, a run folder (its best checkpoint), or a model in `botvision models`, with random weights.
        image: The photograph, at most 16 times as long as wide.
        at: X Y [X Y ...]: points, in whole pixels of the photograph from its upper left corner; a picture for each.
        out: Folder for the pictures.
        block: The attention block, such as layer4.2; the last one by default.
        input_size: Pixels of the shorter side (detectors: of the longer) as the network sees it; by default the
            model's own.
        device: auto, cpu or cuda.
    """
    from botvision.tasks.attend import attend_file, attention_source

    source = attention_source(model, pick_device(device))
    pictures = attend_file(source, image, list(at), out, block=block, input_size=input_size)
    if not source.is_trained:
        say(f"{model} is not trained: its weights are random")
    for picture in pictures:
        say(f"picture: {picture}")
    return 0
