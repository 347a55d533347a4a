"""The image encoder of Segment Anything (SAM), as timm has it, through botvision's operator: the same outputs.

    pip install '.[timm]'
    python examples/sam_relative_attention.py    # prints what its two kinds of attention layers take, before and after

In a program of your own: ``replace_attention(timm.create_model("samvit_base_patch16", pretrained=True))``.
"""

import copy
from functools import partial

import timm
import torch
from timm.models.vision_transformer_sam import Attention
from torch import Tensor, nn

import botvision
from botvision.benchmarks.attention_layer import Trial, infer, train
from botvision.benchmarks.peak_memory import freed_at_once

TURNS = 5


class RelativeAttention(Attention):
    """timm's layer with another way to compute it."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        # SAM's tables begin with the key farthest after the query, below it or right of it; ours end with it. And SAM's
        # are multiplied with q as it is, ours with q times the scale.
        tables = [table.flip(0) / self.scale for table in (self.rel_pos_h, self.rel_pos_w)]
        size = (height, width)
        out = botvision.relative_attention(self.q_norm(q), self.k_norm(k), v, *tables, size=size, scale=self.scale)
        return self.proj_drop(self.proj(out.transpose(1, 2).reshape(batch, height, width, channels)))


def replace_attention(model: nn.Module) -> nn.Module:
    """Have every attention layer of a ``samvit_*`` model computed by botvision; its weights stay where they are.

    At the image size that the model is made for; to another one timm and botvision fit the tables differently.

    Args:
        model: changed in place.

    Returns:
        The model.

    Raises:
        ValueError: dropout of attention weights, which the operator has not.
    """
    for layer in model.modules():
        if type(layer) is Attention and layer.use_rel_pos:
            if layer.attn_drop.p:
                raise ValueError(f"attn_drop is {layer.attn_drop.p}, it must be 0")
            layer.__class__ = RelativeAttention  # the same module, names and parameters, another forward
    return model


def measure(layers: dict[str, tuple[nn.Module, Tensor]]) -> dict[str, list[Trial]]:
    """Inference and training of every layer, in turns.

    Args:
        layers: each with its input.
    """
    trials = {}
    for name, (layer, x) in layers.items():
        steps = (partial(infer, layer, x), partial(train, layer, x, torch.randn_like(x)))
        trials[name] = [Trial(step, x.device) for step in steps]
    every = [trial for pair in trials.values() for trial in pair]
    with freed_at_once():
        for trial in every:
            trial.call()  # what libraries keep for good is no memory of the layer
        for trial in every:
            trial.measure_memory()
    for _ in range(TURNS):
        for trial in every:
            trial.measure_time()
    return trials


def main() -> None:
    """Print time and memory of both kinds of layers at SAM's own size, 1024 pixels."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = timm.create_model("samvit_base_patch16", depth=2, global_attn_indexes=(1,)).to(device)
    inputs = {"25 windows of 14x14": torch.randn(25, 14, 14, 768), "64x64": torch.randn(1, 64, 64, 768)}
    layers: dict[str, tuple[nn.Module, Tensor]] = {}
    attention = [layer for layer in model.modules() if isinstance(layer, Attention)]
    for (name, x), layer in zip(inputs.items(), attention, strict=True):
        x = x.to(device).requires_grad_()
        layers[f"{name}, timm"] = (layer, x)
        layers[f"{name}, botvision"] = (replace_attention(copy.deepcopy(layer)), x)
    trials = measure(layers)
    for name in inputs:
        for index, step in enumerate(("inference", "training")):
            theirs, ours = (trials[f"{name}, {way}"][index] for way in ("timm", "botvision"))
            print(f"{name}, {step}: {change(theirs.ms(), ours.ms())} ms, {change(theirs.mib(), ours.mib())} MiB")


def change(before: float | None, after: float | None) -> str:
    """Two numbers and their ratio; the memory of some systems is not known."""
    return f"{before:.0f} -> {after:.0f} ({after / before:.2f})" if before and after else "-"


if __name__ == "__main__":
    main()
