"""Networks: configuration, builder, the catalogue of named models, counting, and weights from files."""

from botvision.models.catalogue import CATALOGUE, create_model, list_models, model_config
from botvision.models.config import NetworkConfig
from botvision.models.folding import fold
from botvision.models.network import Network
from botvision.models.saving import load, save
from botvision.models.weights import LoadReport, load_weights, read_state_dict

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
