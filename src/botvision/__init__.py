"""BoTNet: bottleneck transformers for visual recognition (Srinivas et al., CVPR 2021).

model = botvision.create_model("botnet50", num_classes=80, input_size=640)   # logits
backbone = botvision.create_model("botnet50", features_only=True)            # [c2, c3, c4, c5]
out = botvision.relative_attention(q, k, v, rel_height, rel_width, size=(h, w))
out = botvision.biased_attention(q, k, v, bias_height, bias_width)
botvision.save(model, "model.safetensors"); model = botvision.load("model.safetensors")
found = botvision.Predictor("runs/coco-botnet50")("photo.jpg"); found.draw().save("found.png")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from botvision.version import __version__

if TYPE_CHECKING:
    from botvision.attention import biased_attention, relative_attention
    from botvision.models import create_model, fold, list_models, load_weights, read_state_dict, save
    from botvision.tasks.predictor import Predictor, load

ROOMS = {
    "Predictor": "tasks.predictor",
    "biased_attention": "attention",
    "relative_attention": "attention",
    "create_model": "models",
    "fold": "models",
    "list_models": "models",
    "load": "tasks.predictor",
    "load_weights": "models",
    "read_state_dict": "models",
    "save": "models",
}
"""Where what is asked for here is."""
PACKAGES = ("attention", "layers", "models")
"""That can be asked for too."""

__all__ = [
    "Predictor",
    "__version__",
    "biased_attention",
    "create_model",
    "fold",
    "list_models",
    "load",
    "load_weights",
    "read_state_dict",
    "relative_attention",
    "save",
]


def __dir__() -> list[str]:
    """What there is to ask for."""
    return [*__all__, *PACKAGES]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import what is asked for only then: `botvision --version` and an early Ctrl-C need not wait for PyTorch."""
    if name in ROOMS:
        return getattr(import_module(f"botvision.{ROOMS[name]}"), name)
    if name in PACKAGES:
        return import_module(f"botvision.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
