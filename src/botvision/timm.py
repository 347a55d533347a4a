"""The catalogue in timm, and timm's own BoTNets with our attention layer.

import botvision.timm                                                        # registers botvision_botnet50 and others
backbone = timm.create_model("botvision_botnet50", features_only=True, out_indices=(2, 3, 4))
model = botvision.timm.convert(timm.create_model("botnet26t_256"))           # the same outputs, and any image size
"""

from functools import partial
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import create_classifier
from timm.layers.bottleneck_attn import BottleneckAttn
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.layers import MHSA2d
from botvision.layers.costs import shrink
from botvision.layers.tables import ABSOLUTE, RELATIVE
from botvision.models import CATALOGUE, Network, NetworkConfig, model_config
from botvision.models.network import MODULES, check_classes, check_images

__all__ = ["TimmNetwork", "convert"]

PREFIX = "botvision_"
LAST_OF_STAGE = 999


class TimmNetwork(Network):
    """A network with the arguments and methods that timm expects of a model.

    Args:
        name: an entry of the catalogue.
        num_classes, in_chans, global_pool, drop_rate, drop_path_rate, img_size: what timm means by them.
        overrides: other fields of :class:`~botvision.models.config.NetworkConfig`.

    Raises:
        UserError: as :func:`~botvision.models.catalogue.model_config` does.
    """

    global_pool: Any  # timm's SelectAdaptivePool2d
    feature_info: Any  # a list of dictionaries, of which timm makes its own

    def __init__(
        self,
        name: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        img_size: int | tuple[int, int] | None = None,
        **overrides: Any,  # noqa: ANN401
    ) -> None:
        if img_size is not None:
            overrides["input_size"] = img_size
        config = model_config(
            name, in_channels=in_chans, dropout=drop_rate, stochastic_depth=drop_path_rate, **overrides
        )
        super().__init__(config, num_classes=0)
        # With features_only timm calls the layers one by one and not forward_maps, which checks the images.
        self.conv1.register_forward_pre_hook(partial(check_layer_input, config))
        # With gradient checkpointing, timm up to 1.0.30 keeps the input of this layer for the backward pass.
        self.relu.inplace = False
        self.num_features = config.channels[-1]
        # The maps that timm can take: the stem of stride 2, then c2 to c5.
        maps = zip((config.width, *config.channels), (2, *config.reductions), MODULES, strict=True)
        self.feature_info = [{"num_chs": width, "reduction": stride, "module": name} for width, stride, name in maps]
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a new classifier, at random, and another pooling if one is named."""
        check_classes(num_classes)
        self.num_classes = num_classes
        if global_pool is None:
            global_pool = self.global_pool.pool_type
        self.global_pool, fc = create_classifier(self.num_features, num_classes, pool_type=global_pool)
        self.fc = fc.to(self.conv1.weight)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last layer, or its name."""
        return "fc" if name_only else self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) -> the map c5, (B, num_features, H', W')."""
        return self.forward_maps(x)[-1]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of ``feature_info`` at ``indices`` (an int: the last so many; None: all), as timm's networks do.

        There is no norm to apply, the only format is NCHW, and the network always runs to its end.

        Raises:
            FieldError: another ``output_fmt``.
            IndexError: an index that there is no map for.
        """
        if output_fmt != "NCHW":
            raise FieldError(("output_fmt",), f"should be NCHW, got {output_fmt!r}")
        every = range(len(self.feature_info))
        last = len(every) if indices is None else indices
        wanted = every[-last:] if isinstance(last, int) else [every[index] for index in last]
        stem: list[Tensor] = []
        with self.maxpool.register_forward_pre_hook(lambda _, inputs: stem.append(inputs[0])):
            c2_to_c5 = self.forward_maps(x)
        maps = [map_ for index, map_ in enumerate([*stem, *c2_to_c5]) if index in wanted]
        return maps if intermediates_only else (c2_to_c5[-1], maps)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The map c5 -> logits (B, num_classes), or what goes into the classifier."""
        x = self.dropout(self.global_pool(x))
        return x if pre_logits else self.fc(x)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's patterns for layer-wise learning rates; an inserted block is the last of its stage."""
        fine = [(r"^layer(\d+)\.inserted", (LAST_OF_STAGE,)), (r"^layer(\d+)\.(\d+)", None)]
        return {"stem": r"^conv1|bn1", "blocks": r"^layer(\d+)" if coarse else fine}

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimisers leave without decay: the position tables."""
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[2] in (*RELATIVE, *ABSOLUTE)}


def check_layer_input(config: NetworkConfig, _layer: nn.Module, inputs: tuple[Tensor]) -> None:
    """:func:`check_images` as a hook of the first layer."""
    check_images(config, *inputs)


def register(name: str) -> None:
    """Register one entry of the catalogue as a timm model, named with ``botvision_`` in front."""

    def build(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ANN401
        return build_model_with_cfg(partial(TimmNetwork, name), PREFIX + name, pretrained, **arguments)

    build.__name__ = PREFIX + name
    build.__doc__ = f"{name} of botvision, see TimmNetwork."
    register_model(build)


def description(config: NetworkConfig) -> dict[str, Any]:
    """timm's ``pretrained_cfg`` of an untrained network."""
    least = config.reductions[-1]
    return {
        "num_classes": 1000,
        "input_size": (3, *config.image_size),
        "min_input_size": (3, least, least),
        "pool_size": shrink(config.image_size, least),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "apache-2.0",
    }


default_cfgs = generate_default_cfgs(
    {f"{PREFIX}{name}.untrained": description(entry.config) for name, entry in CATALOGUE.items()}
)
for _name in CATALOGUE:
    register(_name)


def convert(model: nn.Module) -> nn.Module:
    """Replace every ``BottleneckAttn`` in a timm model by our layer with its weights.

    Outputs stay the same at the size that the model was made for; after that it takes images of any size.

    Args:
        model: such as ``botnet26t_256``, ``botnet50ts_256``, ``sebotnet33ts_256`` or ``eca_botnext26ts_256``;
            changed in place.

    Returns:
        The model.

    Raises:
        UserError: the model has no such layer inside; one that is itself such a layer cannot be replaced in place.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, BottleneckAttn) and name}
    if not layers:
        raise UserError(f"convert takes a model that has BottleneckAttn inside, got a {type(model).__name__}")
    for name, layer in layers.items():
        model.set_submodule(name, convert_attention(layer))
    return model


def convert_attention(layer: BottleneckAttn) -> MHSA2d:
    """Our attention layer, with the stride and the weights of timm's."""
    positions: Any = layer.pos_embed
    attention = MHSA2d(
        layer.qkv.in_channels,
        (positions.height, positions.width),
        layer.num_heads,
        out_channels=layer.dim_out_v,
        head_width=layer.dim_head_qk,
        bias=layer.qkv.bias is not None,
        stride=2 if isinstance(layer.pool, nn.AvgPool2d) else 1,
    ).to(layer.qkv.weight)
    attention.qkv.load_state_dict(layer.qkv.state_dict())
    # timm scales q before the content term alone unless told otherwise; we scale it before both.
    undo = 1.0 if layer.scale_pos_embed else 1.0 / layer.scale
    with torch.no_grad():
        for table, given in zip(attention.tables(), (positions.height_rel, positions.width_rel), strict=True):
            table.copy_(given * undo)
    return attention.train(layer.training)
