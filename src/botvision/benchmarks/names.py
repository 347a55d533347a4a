"""What the command line says of the benchmarks before it runs one. Without PyTorch."""

WAYS = ("botvision", "figure-4", "folded", "sdpa_mask", "timm", "bt-pytorch", "flex", "sam-fast", "plain")
"""Names of the implementations of the attention layer, see ``implementations.py``."""
TORCHVISION = "torchvision"
"""Name of the detector that the others are compared with: torchvision's ``maskrcnn_resnet50_fpn``."""
WITH_PEERS = ("resnet50", "botnet50")
"""Models whose prediction is timed beside timm's networks, see ``inference.py``."""
BATCH = 32
"""Images in a batch of the input pipelines for classification."""
