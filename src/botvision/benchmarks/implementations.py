"""The implementations of the attention layer that the benchmark compares: whole layers, all with the same weights."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from botvision.attention import backend, figure_4_attention, relative_attention
from botvision.attention.positions import relative_biases
from botvision.layers import MHSA2d

Size = tuple[int, int]
Operator = Callable[..., Tensor]
"""q, k, v (B, heads, H*W, d), rel_height, rel_width and (H, W) -> (B, heads, H*W, d)."""


@dataclass(frozen=True)
class Implementation:
    """One implementation of the layer."""

    build: Callable[[MHSA2d, Size], nn.Module]
    """From our layer and the map's (H, W): a module (B, C, H, W) -> (B, C, H, W) with the same weights."""
    package: str = "torch"
    """The distribution that it comes from."""
    source: str = "pip install 'botvision[bench]'"
    """How to install it."""
    has_positions: bool = True
    """Whether it computes Figure 4."""

    def is_installed(self) -> bool:
        """Whether its package is there, without importing it."""
        return find_spec(self.package.replace("-", "_")) is not None


class OtherOperator(MHSA2d):
    """Our projections around another operator.

    Args:
        layer: whose weights are copied.
        size: (H, W) of the map.
        operator: what attends.
    """

    def __init__(self, layer: MHSA2d, size: Size, operator: Operator) -> None:
        super().__init__(layer.qkv.in_channels, size, layer.heads)
        self.load_state_dict(layer.state_dict())
        self.operator = operator

    def attend(
        self, parts: list[Tensor], size: Size, valid_size: Tensor | None = None, *, pool: bool = False
    ) -> Tensor:
        """[q, k, v] -> (B, heads, H*W, d), of maps without padding; not pooled."""
        return self.operator(*parts, *self.tables(), size)


def figure_4(q: Tensor, k: Tensor, v: Tensor, rel_height: Tensor, rel_width: Tensor, size: Size) -> Tensor:
    """The formula as it is written, with the whole matrix."""
    return figure_4_attention(q, k, v, rel_height, rel_width, size, q.shape[-1] ** -0.5)


def folded(q: Tensor, k: Tensor, v: Tensor, rel_height: Tensor, rel_width: Tensor, size: Size) -> Tensor:
    """The positions as further channels of q and k, through PyTorch's stock kernel."""
    with backend("folded"):
        return relative_attention(q, k, v, rel_height, rel_width, size=size)


def sdpa_mask(q: Tensor, k: Tensor, v: Tensor, rel_height: Tensor, rel_width: Tensor, size: Size) -> Tensor:
    """Both biases added up in the ``attn_mask`` of PyTorch's stock attention, as ViTDet and SAM codes have it."""
    biases = relative_biases(q, rel_height, rel_width, size, size, q.shape[-1] ** -0.5)
    bias_height, bias_width = (bias.to(q.dtype) for bias in biases)
    mask = (bias_height[..., :, None] + bias_width[..., None, :]).flatten(-2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def sam_fast(q: Tensor, k: Tensor, v: Tensor, rel_height: Tensor, rel_width: Tensor, size: Size) -> Tensor:
    """The Triton kernel of segment-anything-fast, for 64x64 maps, heads of 64 and batches; else it takes a mask."""
    from segment_anything_fast.flash_4 import _attention_rel_h_rel_w

    if torch.is_grad_enabled():
        raise NotImplementedError("segment-anything-fast has no backward pass")
    biases = relative_biases(q, rel_height, rel_width, size, size, q.shape[-1] ** -0.5)
    bias_height, bias_width = (bias.to(q.dtype) for bias in biases)
    return _attention_rel_h_rel_w(q, k, v, bias_height.unsqueeze(-1), bias_width.unsqueeze(-2))


def plain(q: Tensor, k: Tensor, v: Tensor, *_: object) -> Tensor:
    """PyTorch's stock kernel without positions, so less work: about the best that exact attention can reach."""
    return F.scaled_dot_product_attention(q, k, v)


def flex(layer: MHSA2d, size: Size) -> nn.Module:
    """FlexAttention, with a score function that looks the two position terms up."""
    # Compiled code serves one map here, and PyTorch keeps only a few before it stops compiling.
    torch.compiler.reset()
    attend = torch.compile(flex_attention, dynamic=False) if can_compile(layer.qkv.weight.device) else flex_attention

    def operator(q: Tensor, k: Tensor, v: Tensor, rel_height: Tensor, rel_width: Tensor, size: Size) -> Tensor:
        if torch.is_grad_enabled() and q.device.type == "cpu":
            # It would say so itself, and leave compiled code behind that is slower in inference.
            raise NotImplementedError("FlexAttention has no backward pass on a processor")
        bias_height, bias_width = relative_biases(q, rel_height, rel_width, size, size, q.shape[-1] ** -0.5)
        width = size[1]

        def score(logit: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            in_column = bias_height[batch, head, query, key // width]
            return logit + in_column + bias_width[batch, head, query, key % width]

        return attend(q, k, v, score_mod=score)

    return OtherOperator(layer, size, operator)


def can_compile(device: torch.device) -> bool:
    """Whether there is a compiler for what PyTorch generates: Triton on a GPU, C++ on a processor."""
    if device.type == "cuda":
        return find_spec("triton") is not None
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def timm_layer(layer: MHSA2d, size: Size) -> nn.Module:
    """timm's BottleneckAttn, which scales q before the content term alone: its tables hold the scale instead."""
    from timm.layers.bottleneck_attn import BottleneckAttn

    peer = BottleneckAttn(layer.qkv.in_channels, feat_size=size, num_heads=layer.heads, dim_head=layer.head_width)
    tables = [table * layer.head_width**-0.5 for table in layer.tables()]
    names = ("qkv.weight", "pos_embed.height_rel", "pos_embed.width_rel")
    peer.load_state_dict(dict(zip(names, (layer.qkv.weight, *tables), strict=True)))
    return peer


def bottleneck_transformer_pytorch(layer: MHSA2d, size: Size) -> nn.Module:
    """The attention layer of the package bottleneck-transformer-pytorch, with its relative positions."""
    from bottleneck_transformer_pytorch.bottleneck_transformer_pytorch import Attention

    width = layer.head_width
    peer = Attention(dim=layer.qkv.in_channels, fmap_size=size, heads=layer.heads, dim_head=width, rel_pos_emb=True)
    names = ("to_qkv.weight", "pos_emb.rel_height", "pos_emb.rel_width")
    peer.load_state_dict(dict(zip(names, (layer.qkv.weight, *layer.tables()), strict=True)))
    return peer


OURS = "botvision"
IMPLEMENTATIONS = {
    OURS: Implementation(lambda layer, size: layer),
    "figure-4": Implementation(partial(OtherOperator, operator=figure_4)),
    "folded": Implementation(partial(OtherOperator, operator=folded)),
    "sdpa_mask": Implementation(partial(OtherOperator, operator=sdpa_mask)),
    "timm": Implementation(timm_layer, "timm"),
    "bt-pytorch": Implementation(bottleneck_transformer_pytorch, "bottleneck-transformer-pytorch"),
    "flex": Implementation(flex),
    "sam-fast": Implementation(
        partial(OtherOperator, operator=sam_fast),
        "segment-anything-fast",
        "from github.com/pytorch-labs/segment-anything-fast: the package of this name in the index is another one",
    ),
    "plain": Implementation(partial(OtherOperator, operator=plain), has_positions=False),
}
"""By the names that the command line takes."""
