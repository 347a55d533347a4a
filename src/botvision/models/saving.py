"""A network in one file: safetensors, with the configuration in the file's own metadata."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from botvision.errors import UserError
from botvision.files import whole_file
from botvision.models.config import C2_TO_C5, NetworkConfig
from botvision.models.network import Network

METADATA_KEY = "botvision"


def save(model: Network, path: str | Path) -> None:
    """Write a network, weights and configuration, as one safetensors file, which is complete or not written at all.

    Args:
        model: what :func:`~botvision.models.catalogue.create_model` or :func:`load` returned, trained or not.
        path: of the file; its folder is created if it is missing.

    Raises:
        UserError: a module that is no such network; one made through timm with another pooling than the average, which
            the file cannot store; or one without batch norms, from :func:`~botvision.models.folding.fold`.
    """
    if not isinstance(model, Network):
        raise UserError(f"should be a network of create_model or load, got {type(model).__name__}")
    if isinstance(model.bn1, nn.Identity):
        raise UserError("a folded network cannot be saved: save the network that it was made of, and fold it again")
    pooling = getattr(getattr(model, "global_pool", None), "pool_type", "avg")
    if pooling != "avg":
        raise UserError(f"a network with global_pool={pooling!r} cannot be saved, it would come back with 'avg'")
    description = {
        "config": model.config.plain(),
        "num_classes": model.num_classes,
        "features_only": model.features_only,
        "out_indices": model.out_indices,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with whole_file(Path(path)) as temporary:
        save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(description)})


def load(path: str | Path) -> Network:
    """Read a network from a file that :func:`save` wrote; nothing else is needed, and no code in the file is run.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        UserError: the file does not exist, cannot be read, or has no configuration that this version knows.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"model file {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    except SafetensorError as error:
        raise UserError(f"{path} is not a readable weights file: {str(error).splitlines()[0]}") from error
    try:
        description = json.loads(metadata[METADATA_KEY])
        config = NetworkConfig(**description["config"])
        out_indices = description.get("out_indices", C2_TO_C5)  # which earlier versions did not write
        model = Network(config, description["num_classes"], description["features_only"], out_indices)
    except (KeyError, TypeError, json.JSONDecodeError, UserError) as error:
        raise UserError(
            f"{path} has no configuration of this version inside ({error}); build the model with create_model and use "
            "load_weights"
        ) from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path} holds weights that do not fit its own configuration") from error
    return model.eval()
