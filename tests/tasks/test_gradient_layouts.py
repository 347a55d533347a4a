"""Gradients reach every batch norm in the layout of its map: its backward pass is several times as slow otherwise."""

import pytest
import torch
from torch import nn

from botvision.models import CATALOGUE, create_model
from botvision.tasks.detection.config import DetectorConfig, DetrConfig
from botvision.tasks.detection.detectors import make_detector

TINY = {"depths": (1, 1, 1, 1), "width": 8, "input_size": 64}
RCNN = {**TINY, "fpn_channels": 16, "box_head_width": 32, "mask_head_width": 16, "keypoint_head_width": 16}
DETECTORS = {
    "mask_rcnn": DetectorConfig(**RCNN, head_norm=True),
    "torchvision": DetectorConfig(**RCNN, variant="torchvision"),
    "keypoint_rcnn": DetectorConfig(**RCNN, detector="keypoint_rcnn", head_norm=True),
    "faster_rcnn": DetectorConfig(**RCNN, detector="faster_rcnn", head_norm=True),
    "detr": DetrConfig(depths=(1, 1, 1, 1), width=8, input_size=64, hidden=32, heads=4),
}


def watch(model):
    """Two lists, filled by a backward pass: of the batch norms that it meets, and of those in another layout."""
    seen, wrong = [], []

    def note(name, gradient):
        seen.append(name)
        if not gradient.is_contiguous(memory_format=torch.channels_last):
            wrong.append(name)

    def listen(name, out):
        if out.requires_grad:
            out.grad_fn.register_prehook(lambda gradients: note(name, gradients[0]))

    for name, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.register_forward_hook(lambda norm, given, out, name=name: listen(name, out))
    return seen, wrong


@pytest.mark.parametrize("name", CATALOGUE)
def test_in_classifiers(name):
    model = create_model(name, width=8, depths=(1, 1, 2, 2), num_classes=5).train()
    model = model.to(memory_format=torch.channels_last)
    seen, wrong = watch(model)
    model(torch.randn(2, 3, 96, 80)).square().sum().backward()
    assert set(seen) == {name for name, norm in model.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    assert wrong == []


@pytest.mark.parametrize("name", DETECTORS)
def test_in_detectors(name):
    torch.manual_seed(0)
    model = make_detector(DETECTORS[name], 3, 2).train()
    seen, wrong = watch(model)
    masks = torch.zeros(1, 128, 128)
    masks[:, 20:90, 30:80] = 1
    keypoints = torch.tensor([[[40.0, 40.0, 2.0], [60.0, 70.0, 2.0]]])
    target = {"boxes": torch.tensor([[30.0, 20.0, 80.0, 90.0]]), "labels": torch.tensor([1])}
    images = torch.randint(256, (2, 3, 128, 128), dtype=torch.uint8)
    losses = model(images, targets=[{**target, "masks": masks, "keypoints": keypoints}] * 2)
    sum(loss for loss in losses.values() if loss.requires_grad).backward()
    assert "backbone.fpn.extra_blocks.norms.0" in seen or name in ("torchvision", "detr")
    assert wrong == []
