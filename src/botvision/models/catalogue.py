"""The named models as one table, and ``create_model``, which builds any of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import TYPE_CHECKING, Any

from botvision.configuration import FieldError
from botvision.errors import UserError, nearest
from botvision.models.config import C2_TO_C5, NetworkConfig

if TYPE_CHECKING:
    from botvision.models.network import Network


@dataclass(frozen=True)
class Published:
    """The cost of a model at one input size, as the paper prints it."""

    input_size: int
    """Image height and width, in pixels."""
    params: float | None
    """Million parameters."""
    madds: float | None
    """Billion multiply-adds of one image."""
    source: str
    """Table, figure or footnote."""
    why: str = ""
    """Why the count of the network that the paper's text defines differs; empty where it does not."""


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue: the network, and all that the paper publishes about its cost."""

    config: NetworkConfig
    published: tuple[Published, ...] = ()

    @property
    def input_size(self) -> int:
        """Image side, in pixels, at which the model is shown: the first published figure's, or its tables'."""
        return self.published[0].input_size if self.published else self.config.image_size[0]


LONGER = "Figure 5, longer version"
STRIDE_IN_1X1 = "Table 9 counts a stride in the first 1x1 convolution; Table 1, and this network, have it in the 3x3"
FOOTNOTE_10 = "Table 1 prints 102.98 G for the same network and size: positions as q times the full relative tables"
STRIDED_C5 = "4.27 G is less than a c5 of stride 1 throughout takes, as the text defines it and T3-T7 confirm"
SE_IN_BOT = "the printed parameters include squeeze-and-excitation in BoT blocks; the text has it in convolutional ones"

R50, R101, R152, R200, R350 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3), (3, 24, 36, 3), (4, 36, 72, 4)


def resnet(depths: tuple[int, int, int, int], **fields: Any) -> NetworkConfig:  # noqa: ANN401
    """A network of these depths, with other fields as given."""
    return NetworkConfig(depths=depths, **fields)


botnet = partial(resnet, attention_in=("c5",))
senet = partial(resnet, se_ratio=1 / 16, activation="silu")
scaled = partial(botnet, c5_stride=1, se_ratio=1 / 16, activation="silu")

CATALOGUE: dict[str, Entry] = {
    "resnet50": Entry(
        resnet(R50),
        (Published(1024, 25.5, 85.4, "Table 1"), Published(224, 25.5, 3.86, "Table 9", STRIDE_IN_1X1)),
    ),
    "resnet101": Entry(resnet(R101), (Published(1024, None, 162.99, "footnote 10"),)),
    "resnet152": Entry(resnet(R152), (Published(1024, None, 240.56, "footnote 10"),)),
    "resnet200": Entry(resnet(R200)),
    "botnet50": Entry(
        botnet(R50),
        (
            Published(1024, 20.8, 102.98, "Table 1"),
            Published(1024, None, 121, "footnote 10", FOOTNOTE_10),
            Published(224, 20.8, 3.79, "Table 9", STRIDE_IN_1X1),
        ),
    ),
    "botnet101": Entry(botnet(R101)),
    "botnet152": Entry(botnet(R152)),
    "botnet200": Entry(botnet(R200)),
    "botnet50_s1": Entry(botnet(R50, c5_stride=1), (Published(224, 20.8, 4.27, "Table 9", STRIDED_C5),)),
    "botnet_t3": Entry(scaled((3, 4, 6, 6)), (Published(224, 33.5, 7.3, LONGER, SE_IN_BOT),)),
    "botnet_t4": Entry(scaled((3, 4, 23, 6)), (Published(224, 54.7, 10.9, LONGER, SE_IN_BOT),)),
    "botnet_t5": Entry(scaled((3, 4, 23, 12), input_size=256), (Published(256, 75.1, 19.3, LONGER, SE_IN_BOT),)),
    "botnet_t6": Entry(scaled((3, 4, 6, 12), input_size=320), (Published(320, 53.9, 23.3, LONGER, SE_IN_BOT),)),
    "botnet_t7": Entry(scaled((3, 4, 23, 12), input_size=384), (Published(384, 75.1, 45.8, LONGER, SE_IN_BOT),)),
    "senet_s1": Entry(senet(R50)),
    "senet_s2": Entry(senet(R101)),
    "senet_s3": Entry(senet(R152)),
    "senet_s4": Entry(senet(R200, input_size=256)),
    "senet_s5": Entry(senet(R350, input_size=384)),
    "resnet50_nl_c4": Entry(resnet(R50, insert_in=("c4",), insert="nonlocal")),
    "resnet50_bot_c4": Entry(resnet(R50, insert_in=("c4",))),
    "resnet50_bot_c4c5": Entry(resnet(R50, insert_in=("c4", "c5"))),
}
"""Every named model: its configuration, and what is published about it."""


TIMM_NAMES = {
    "in_chans": "in_channels",
    "img_size": "input_size",
    "drop_rate": "dropout",
    "drop_path_rate": "stochastic_depth",
}
"""What timm calls fields of ours."""
ARGUMENTS = ("num_classes", "features_only", "out_indices")
"""Of :func:`create_model`, which are no fields."""


def create_model(
    name: str,
    *,
    pretrained: bool = False,
    num_classes: int = 1000,
    features_only: bool = False,
    out_indices: Sequence[int] = C2_TO_C5,
    **overrides: Any,  # noqa: ANN401
) -> "Network":
    """Build a named model with random weights.

    Args:
        name: an entry of the catalogue, such as "botnet50"; :func:`list_models` lists them.
        pretrained: there are no published weights of these networks, so True is an error that says what to do.
        num_classes: width of the classifier; 0 gives pooled features (B, channels of c5).
        features_only: give the maps [c2, c3, c4, c5] of strides 4, 8, 16, 32 instead of logits; ``feature_info``
            of the model tells their channels and strides.
        out_indices: give these maps instead, counted as timm does: 0 is the stem's, 1 to 4 are c2 to c5.
        overrides: fields of :class:`~botvision.models.config.NetworkConfig`, such as ``input_size=640`` or
            ``(480, 640)``, ``depths=(1, 1, 1, 1)``, ``attention="qk+qr_absolute"``, ``norm="frozen"`` or
            ``spatial={"c5": "lambda"}``; or by timm's names: ``in_chans``, ``img_size``, ``drop_rate`` and
            ``drop_path_rate``.

    Returns:
        A module from normalised images (B, 3, H, W), any H and W, to logits (B, num_classes) or the maps.

    Raises:
        UserError: unknown name (the nearest ones are named), unknown field, or a value that cannot be built.
    """
    if pretrained:
        raise FieldError(
            ("pretrained",),
            "should be False: no weights of these networks are published; load_weights(model, 'torchvision/resnet50') "
            "takes those of torchvision's ResNet-50, of which attention layers get none",
        )
    from botvision.models.network import Network  # here, as it imports PyTorch

    return Network(model_config(name, **overrides), num_classes, features_only, out_indices)


def list_models(pattern: str = "") -> list[str]:
    """The names of the catalogue that contain a text, or match one with wildcards, such as ``botnet_t*``."""
    return [name for name in CATALOGUE if pattern in name or fnmatch(name, pattern)]


def model_config(name: str, **overrides: Any) -> NetworkConfig:  # noqa: ANN401
    """The configuration of a named model with some fields replaced; errors as in :func:`create_model`."""
    if not isinstance(name, str) or name not in CATALOGUE:
        raise UserError(f"unknown model {name!r}{nearest(str(name), list(CATALOGUE))}")
    for theirs, ours in TIMM_NAMES.items():
        if theirs in overrides:
            if ours in overrides:
                raise FieldError((theirs,), f"and {ours} are one field; give one of them")
            overrides[ours] = overrides.pop(theirs)
    for field in overrides:
        if field not in NetworkConfig.model_fields:
            problem = f"is not a field of a model{nearest(field, [*NetworkConfig.model_fields, *ARGUMENTS])}"
            raise FieldError((field,), problem)
    return CATALOGUE[name].config.replace(**overrides)
