"""Networks: configuration, builder, the catalogue of named models, counting, and weights from files."""

from typing import TYPE_CHECKING

from botvision.lazy import lazy_names
from botvision.models.catalogue import CATALOGUE, create_model, list_models, model_config
from botvision.models.config import NetworkConfig

if TYPE_CHECKING:
    from botvision.models.folding import fold
    from botvision.models.network import Network
    from botvision.models.saving import load, save
    from botvision.models.weights import LoadReport, load_weights, read_state_dict

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Network": "network",
        "fold": "folding",
        **dict.fromkeys(("load", "save"), "saving"),
        **dict.fromkeys(("LoadReport", "load_weights", "read_state_dict"), "weights"),
    },
)

__all__ = [
    "CATALOGUE",
    "LoadReport",
    "Network",
    "NetworkConfig",
    "create_model",
    "fold",
    "list_models",
    "load",
    "load_weights",
    "model_config",
    "read_state_dict",
    "save",
]
