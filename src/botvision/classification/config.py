"""A classifier as data: a network of the catalogue, and the little that recipes change of it."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from botvision.errors import UserError
from botvision.limits import AT_LEAST_1, BELOW_1, check_limits
from botvision.models import NetworkConfig
from botvision.models.catalogue import model_config

Freeze = Literal["none", "stem", "c2", "c3", "c4", "c5"]

LIMITS = {
    "depths": AT_LEAST_1,
    "width": AT_LEAST_1,
    "input_size": AT_LEAST_1,
    "stochastic_depth": BELOW_1,
    "dropout": BELOW_1,
}


@dataclass(frozen=True)
class ClassifierConfig:
    """An image classifier (paper, Sections 4.8 and 4.9)."""

    model: str = "botnet50"
    """Name of a model in `botvision models`."""
    depths: tuple[int, int, int, int] | None = None
    """Blocks in c2 to c5, instead of the named model's own."""
    width: int | None = None
    """Channels of the stem, instead of the named model's own; every stage follows."""
    input_size: int | None = None
    """Height and width, in pixels, of the images to train on, instead of the named model's own."""
    stochastic_depth: float | None = None
    """Chance to skip the last block in training, growing linearly from 0 at the first; by default the model's own."""
    dropout: float | None = None
    """Chance to drop a feature in front of the classifier, in training; by default the model's own."""
    freeze: Freeze = "none"
    """Keep the network up to this stage as it was loaded, its batch norm included; c5 trains the classifier alone."""

    def __post_init__(self) -> None:
        """Refuse numbers that no classifier can be built with."""
        check_limits(self, LIMITS)
        if self.freeze not in get_args(Freeze):
            raise UserError(f"--freeze must be one of {', '.join(get_args(Freeze))}, got {self.freeze!r}")

    def network(self) -> NetworkConfig:
        """The network that this names.

        Raises:
            UserError: an unknown model, or fields that do not go together.
        """
        names = ("depths", "width", "input_size", "stochastic_depth", "dropout")
        given: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return model_config(self.model, **given)

    @property
    def image_size(self) -> int:
        """Height and width of the images to train on, in pixels."""
        size = self.network().input_size
        return size if isinstance(size, int) else max(size)
