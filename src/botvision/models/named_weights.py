"""Pretrained weights by name; the libraries that publish them download and cache them."""

from collections.abc import Callable

from torch import Tensor

from botvision.errors import UserError


def torchvision_state_dict(name: str) -> dict[str, Tensor]:
    """The pretrained tensors of a torchvision model: of resnet50 the newest, of resnet50.IMAGENET1K_V1 these."""
    from torchvision.models import get_model_weights

    model, _, which = name.partition(".")
    return get_model_weights(model)[which or "DEFAULT"].get_state_dict(progress=False, check_hash=True)


def timm_state_dict(name: str) -> dict[str, Tensor]:
    """The pretrained tensors of a timm model; its ResNets and SE-ResNets with a 7x7 stem have our names and layers."""
    import timm

    return timm.create_model(name, pretrained=True).state_dict()


LIBRARIES: dict[str, Callable[[str], dict[str, Tensor]]] = {
    "torchvision": torchvision_state_dict,
    "timm": timm_state_dict,
}
"""Who publishes weights: the first part of a name such as torchvision/resnet50."""


def is_name_of_weights(source: str) -> bool:
    """Whether a text names published weights, as LIBRARY/MODEL."""
    library, _, model = source.partition("/")
    return library in LIBRARIES and bool(model)


def published_state_dict(source: str) -> dict[str, Tensor]:
    """Tensors by name of published weights.

    Args:
        source: ``torchvision/NAME`` or ``timm/NAME``.

    Raises:
        UserError: the library is not installed, has no such weights, or cannot download them.
    """
    library, _, name = source.partition("/")
    try:
        return LIBRARIES[library](name)
    except ImportError as error:
        raise UserError(f"{source} needs {library}: pip install 'botvision[{library}]'") from error
    except Exception as error:  # an unknown name, no weights, no network: each raises its own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{library} gives no weights for {name!r}: {reason}") from error
