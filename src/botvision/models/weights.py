"""Loading weights into networks: tensors that fit are loaded, all others are reported by name."""

import logging
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from botvision.checksum import damage_of
from botvision.errors import UserError
from botvision.files import why_unreadable
from botvision.layers.tables import can_adapt
from botvision.models.named_weights import is_name_of_weights, published_state_dict

logger = logging.getLogger("botvision")

CLASSIFIERS = ("fc", "cls_score", "bbox_pred", "mask_fcn_logits")
"""Layers of a network or a detector with one output for each class. Only these may have another number of outputs."""
RGB = 3
"""Channels."""
AVERAGES = ("ema_state_dict", "state_dict_ema", "model_ema", "ema", "shadow", "shadow_params")
"""Where a checkpoint has an average of its weights; the last two are inside the objects that keep it."""
WRAPPERS = (*AVERAGES, "state_dict", "model_state_dict", "model", "module")
"""Where a checkpoint has its state dict; the average of the weights, if there is one, is preferred, as in tests."""
DEEPEST = 4
"""Wrappers inside each other."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""Of names of tensors: of DataParallel and of averages, of torch.compile, and of Lightning and other programs."""


@dataclass
class LoadReport:
    """What became of each tensor, by name: of the network's tensors, and of those in the file that are not used."""

    loaded: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    """Position tables that were made for another size, and the first convolution of images with other channels."""
    at_random: list[str] = field(default_factory=list)
    """In the network but not in the file, or made for another number of classes: left as initialised."""
    unused: list[str] = field(default_factory=list)
    """In the file but not in the network."""

    def __str__(self) -> str:
        """A summary of a few lines."""
        others = {
            "adapted to another size or other channels": self.adapted,
            "left at random": self.at_random,
            "in the file, not used": self.unused,
        }
        lines = [f"{what}: {len(names)} ({shorten(names)})" for what, names in others.items() if names]
        return "\n".join([f"loaded {len(self.loaded)} tensors", *lines])


def shorten(names: list[str], show: int = 6) -> str:
    """The first few names, and how many more there are."""
    more = f", and {len(names) - show} more" if len(names) > show else ""
    return ", ".join(names[:show]) + more


def read_state_dict(source: str | Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file or a PyTorch state dict (``weights_only``: no code is run).

    The state dict may be inside a checkpoint (:data:`WRAPPERS`), and of a network inside a wrapper (:data:`PREFIXES`).
    An average of the weights that has a part of the tensors alone, such as no running statistics, is completed by the
    others of the checkpoint; one that has no tensors by name is passed over with a warning.

    Args:
        source: a file, or ``torchvision/NAME`` or ``timm/NAME`` for weights that these libraries download.

    Raises:
        UserError: the file does not exist, cannot be read, or does not hold tensors by name; the library is not
            installed or has no such weights.
    """
    path = Path(source)
    if not path.is_file():
        if is_name_of_weights(str(source)):
            return published_state_dict(str(source))
        raise UserError(f"weights file {path} does not exist")
    damage = damage_of(path)
    if damage:
        raise UserError(f"{path} is damaged: {damage}")
    try:
        with torch.serialization.safe_globals([Namespace]):  # plain data: torchvision's recipes store their arguments
            state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # whatever the two readers raise on a damaged, malicious or foreign file
        raise UserError(f"{path} is not a readable weights file: {why_unreadable(error)}") from error
    return unwrapped(state, path)


def unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    """The state dict inside the containers in which programs keep it, beside an optimiser and other things.

    Args:
        content: of a file.
        path: for messages.

    Raises:
        UserError: there is none.
    """
    found = [(place, without_prefixes(state)) for place, state in state_dicts(content)]
    if not found:
        raise UserError(f"{path} does not hold a state dict (tensors by name)")
    (place, state), *others = found
    wrapper = place.partition(".")[0]
    given = content if isinstance(content, dict) and wrapper not in AVERAGES else {}
    for name in AVERAGES:
        if isinstance(given.get(name), dict | list) and given[name]:
            logger.warning("%s: its '%s' holds no tensors by name; the weights are those of '%s'", path, name, wrapper)
    for other_place, other in others:
        if wrapper in AVERAGES and state.keys() < other.keys():
            missing = [name for name in other if name not in state]
            logger.info("%s: '%s' lacks %s; they are those of '%s'", path, place, shorten(missing, 3), other_place)
            return {**other, **state}
    return state


def state_dicts(content: object, place: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every state dict in a file, the preferred one first, with its place, such as "ema.shadow"."""
    if not isinstance(content, dict) or place.count(".") >= DEEPEST:
        return
    if content and all(isinstance(value, Tensor) for value in content.values()):
        if any(value.ndim for value in content.values()):  # else they are counters
            yield place, content
        return
    for name in WRAPPERS:
        yield from state_dicts(content.get(name), f"{place}.{name}".removeprefix("."))


def without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the network inside its wrappers, whose names of tensors start with those of the wrappers."""
    while prefix := next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in state)), ""):
        inside = {name.removeprefix(prefix): value for name, value in state.items()}
        if len(inside) < len(state):  # two tensors would have one name
            break
        state = inside
    return state


def load_weights(model: nn.Module, state: dict[str, Tensor]) -> LoadReport:
    """Copy every tensor that fits by name and shape.

    Position tables made for another size are adapted, and so is a first convolution of RGB images where the model takes
    images of other channels (:func:`adapt_colours`).

    Used for fine-tuning: ImageNet to detection, ResNet to BoTNet, where the attention layers start at random and all
    others from the ResNet (paper, footnote 6). A classifier for another number of classes stays at random too.

    Args:
        model: changed in place.
        state: tensors by name, in this project's or torchvision's naming.

    Returns:
        What was loaded, adapted, left at random and not used.

    Raises:
        UserError: no tensor fits, or one has another shape than the model's; the model is then unchanged.
    """
    wanted = model.state_dict()
    actions = {name: compare(name, own, state.get(name)) for name, own in wanted.items()}
    loaded, adapted, at_random, misfits = (
        [name for name, action in actions.items() if action == which]
        for which in ("loaded", "adapted", "at random", "misfit")
    )
    if misfits:
        shapes = [f"{n} is {tuple(state[n].shape)} and should be {tuple(wanted[n].shape)}" for n in misfits]
        raise UserError(f"weights of another shape: {shorten(shapes, show=5)}")
    if not loaded and not adapted:
        raise UserError(f"no tensor of these weights fits the model; they hold {shorten(sorted(state))}")
    fitting = {name: adapt_colours(state[name], wanted[name]) for name in (*loaded, *adapted)}
    model.load_state_dict(fitting, strict=False)  # layers adapt their own position tables, and log it
    return LoadReport(loaded, adapted, at_random, unused=[name for name in state if name not in fitting])


def compare(name: str, own: Tensor, given: Tensor | None) -> str:
    """What to do with one tensor of a model: "loaded", "adapted", "at random" or "misfit"."""
    if given is None:
        return "at random"
    if given.shape == own.shape:
        return "loaded"
    if can_adapt(name, given, own) or (name.endswith("conv1.weight") and adapt_colours(given, own).shape == own.shape):
        return "adapted"
    has_other_classes = f".{name}".split(".")[-2] in CLASSIFIERS and given.shape[1:] == own.shape[1:]
    return "at random" if has_other_classes and given.ndim == own.ndim else "misfit"


def adapt_colours(given: Tensor, own: Tensor) -> Tensor:
    """The kernel (out, 3, h, w) of a convolution of RGB images for images of C channels, as timm adapts it.

    One channel gets the sum of the three; more get them in turn, times 3/C, so that a grey image is answered the same.
    Another tensor is given back as it is.

    Args:
        given: from a file.
        own: the model's, (out, C, h, w).
    """
    if given.ndim != 4 or own.ndim != 4 or given.shape[1] != RGB or own.shape[1] == RGB:
        return given
    channels = own.shape[1]
    if channels == 1:
        return given.sum(dim=1, keepdim=True)
    return given.repeat(1, -(-channels // RGB), 1, 1)[:, :channels] * (RGB / channels)
