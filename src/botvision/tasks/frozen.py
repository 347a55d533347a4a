"""Parts of a network that stay as they were loaded."""

from collections.abc import Iterable

from torch import nn

from botvision.models import LoadReport

STAGES = {"stem": ("conv1", "bn1"), "c2": ("layer1",), "c3": ("layer2",), "c4": ("layer3",), "c5": ("layer4",)}
"""Parts of a network by the stages of the paper's Table 1, from the image on."""


def parts_up_to(stage: str) -> tuple[str, ...]:
    """Names of the parts of a network up to a stage, this one included; of "none" there are none."""
    names = list(STAGES)
    frozen = names[: names.index(stage) + 1] if stage != "none" else []
    return tuple(part for name in frozen for part in STAGES[name])


def keep_in_test_mode(network: nn.Module, stage: str) -> None:
    """Put the frozen parts in test mode, so that the statistics of their batch norms stay too."""
    for part in parts_up_to(stage):
        getattr(network, part).eval()


def freeze(network: nn.Module, stage: str) -> None:
    """Exclude a network up to a stage from training."""
    for part in parts_up_to(stage):
        getattr(network, part).requires_grad_(False)


def first_random(report: LoadReport, parts: Iterable[str]) -> str | None:
    """The first tensor of some parts of a network that was not loaded; the counters of batch norms do not matter."""
    starts = tuple(f"{part}." for part in parts)
    names = (name for name in report.at_random if not name.endswith("num_batches_tracked"))
    return next((name for name in names if name.startswith(starts)), None)
