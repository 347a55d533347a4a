"""Weights from files into networks: what fits is loaded, and the rest is named."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from botvision.attention import adapt_relative_table
from botvision.errors import UserError


@dataclass
class LoadReport:
    """What became of a state dict: names of the network's own tensors, and of the file's that found no place."""

    loaded: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    """Relative tables that were made for another size."""
    at_random: list[str] = field(default_factory=list)
    """In the network, not in the file (or of another shape): left as they were initialised."""
    unused: list[str] = field(default_factory=list)
    """In the file, not in the network."""

    def __str__(self) -> str:
        """A few lines for a person."""
        lines = [f"loaded {len(self.loaded)} tensors"]
        for what, names in {
            "adapted to another size": self.adapted,
            "left at random": self.at_random,
            "in the file, not used": self.unused,
        }.items():
            if names:
                lines.append(f"{what}: {len(names)} ({shorten(names)})")
        return "\n".join(lines)


def shorten(names: list[str], show: int = 6) -> str:
    """The first few names, and how many more there are."""
    more = f", and {len(names) - show} more" if len(names) > show else ""
    return ", ".join(names[:show]) + more


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file or a PyTorch state dict (``weights_only``: no code is run).

    Raises:
        UserError: the file is not there, cannot be read, or holds something else than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights file {path} is not there")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # whatever the two readers raise on a damaged or foreign file
        raise UserError(f"{path} is no readable weights file: {str(error).splitlines()[0][:200]}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state dict (tensors by name)")
    return state


def load_weights(model: nn.Module, state: dict[str, Tensor]) -> LoadReport:
    """Copy every tensor that fits by name and shape; relative tables made for another size are adapted.

    Used to start from other weights: ImageNet to detection, ResNet to BoTNet (paper, footnote 6: "the replacement
    layers are randomly initialised, the remaining ones come from the ResNet").

    Args:
        model: changed in place.
        state: tensors by name, in this project's or torchvision's naming.

    Returns:
        What was loaded, adapted, left at random and not used.

    Raises:
        UserError: not one tensor fits.
    """
    report = LoadReport()
    fitting: dict[str, Tensor] = {}
    for name, own in model.state_dict().items():
        given = state.get(name)
        if given is None:
            report.at_random.append(name)
        elif given.shape == own.shape:
            fitting[name] = given
            report.loaded.append(name)
        elif is_relative_table(name) and given.ndim == 2 and given.shape[1] == own.shape[1]:
            fitting[name] = adapt_relative_table(given, (own.shape[0] + 1) // 2)
            report.adapted.append(name)
        else:
            report.at_random.append(name)
    report.unused = [name for name in state if name not in fitting]
    if not fitting:
        raise UserError(f"no tensor of these weights fits the model; they hold {shorten(sorted(state))}")
    model.load_state_dict(fitting, strict=False)
    return report


def is_relative_table(name: str) -> bool:
    """Whether a tensor of this name holds vectors of relative distances."""
    return name.endswith((".rel_height", ".rel_width"))
