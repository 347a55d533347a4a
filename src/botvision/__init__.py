"""BoTNet: bottleneck transformers for visual recognition (Srinivas et al., CVPR 2021).

model = botvision.create_model("botnet50", num_classes=80, input_size=640)   # logits
backbone = botvision.create_model("botnet50", features_only=True)            # [c2, c3, c4, c5]
out = botvision.relative_attention(q, k, v, rel_height, rel_width, size=(h, w))
botvision.save(model, "model.safetensors"); model = botvision.load("model.safetensors")
"""

from botvision.attention import relative_attention
from botvision.models import create_model, load, save
from botvision.version import __version__

__all__ = ["__version__", "create_model", "load", "relative_attention", "save"]
