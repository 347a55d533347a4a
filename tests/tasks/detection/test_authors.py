"""The parts that the authors' detection code makes differently from torchvision, against explicit sums."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection.image_list import ImageList

from botvision.tasks.detection import DetectorConfig, MaskRCNN
from botvision.tasks.detection.backbone import PyramidBackbone
from botvision.tasks.detection.mask_targets import crop_masks
from botvision.tasks.detection.proposals import CentredAnchors
from botvision.tasks.detection.transforms import RemoveInvisible

SMALL = DetectorConfig(
    depths=(1, 1, 1, 1), width=8, input_size=64, fpn_channels=16, box_head_width=32, mask_head_width=16
)
STRIDES = (4, 8, 16, 32, 64)


def test_the_pyramid_has_a_strided_p6_and_a_norm_on_each_level():
    """Laterals and 3x3 convolutions with bias and nothing between; p6 is made of p5 before its norm."""
    torch.manual_seed(0)
    backbone = PyramidBackbone(SMALL).double().eval()
    for layer in backbone.fpn.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.bias)
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight, layer.running_mean):
                nn.init.normal_(values)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    images = torch.randn(2, 3, 64, 128, dtype=torch.float64)
    state = backbone.fpn.state_dict()
    merged, levels = None, []
    with torch.no_grad():
        for level, features in reversed(list(enumerate(backbone.body(images)))):
            lateral = F.conv2d(features, state[f"inner_blocks.{level}.0.weight"], state[f"inner_blocks.{level}.0.bias"])
            merged = lateral if merged is None else lateral + merged.repeat_interleave(2, 2).repeat_interleave(2, 3)
            weight, bias = state[f"layer_blocks.{level}.0.weight"], state[f"layer_blocks.{level}.0.bias"]
            levels.insert(0, F.conv2d(merged, weight, bias, padding=1))
        p6 = F.conv2d(levels[-1], state["extra_blocks.p6.weight"], state["extra_blocks.p6.bias"], stride=2, padding=1)
        found = backbone(images)
    assert list(found) == ["p2", "p3", "p4", "p5", "p6"]
    for index, (own, level) in enumerate(zip(found.values(), [*levels, p6], strict=True)):
        norm = {name: state[f"extra_blocks.norms.{index}.{name}"][:, None, None] for name in ("weight", "bias")}
        mean, variance = (
            state[f"extra_blocks.norms.{index}.running_{name}"][:, None, None] for name in ("mean", "var")
        )
        epsilon = backbone.fpn.extra_blocks.norms[index].eps
        torch.testing.assert_close(own, (level - mean) / (variance + epsilon).sqrt() * norm["weight"] + norm["bias"])


def test_anchors_lie_around_the_centres_of_cells():
    maps = [torch.zeros(1, 1, -(-70 // stride), -(-200 // stride)) for stride in STRIDES]
    batch = ImageList(torch.zeros(2, 3, 70, 200), [(70, 200), (50, 60)])
    expected = []
    for stride, level in zip(STRIDES, maps, strict=True):
        for row in range(level.shape[2]):
            for column in range(level.shape[3]):
                for ratio in (1, 2, 1 / 2):
                    x, y, side = (column + 0.5) * stride, (row + 0.5) * stride, 8 * stride
                    width, height = side / math.sqrt(ratio), side * math.sqrt(ratio)
                    expected.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    found = CentredAnchors(DetectorConfig(), STRIDES)(batch, maps)
    assert len(found) == 2
    for own in found:
        torch.testing.assert_close(own, torch.tensor(expected), rtol=0, atol=1e-3)


def test_a_region_is_pooled_at_the_centres_of_its_cells():
    """One bilinear sample each; a map of 5 x + 3 y has the value of that point."""
    heads = MaskRCNN(SMALL, 2).roi_heads
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    features = {
        f"p{level}": (5 * x + 3 * y)[None, None, :: 2 ** (level - 2), :: 2 ** (level - 2)] for level in (2, 3, 4, 5)
    }
    box = torch.tensor([[20.0, 40.0, 76.0, 110.0]])  # in pixels; its level is p2, of stride 4
    pooled = heads.box_roi_pool(features, [box], [(256, 256)])[0, 0]
    for row in range(7):
        for column in range(7):
            point_x, point_y = (20 + (column + 0.5) * 56 / 7) / 4, (40 + (row + 0.5) * 70 / 7) / 4
            assert pooled[row, column].item() == pytest.approx(5 * point_x + 3 * point_y, abs=1e-3)


def test_heads_have_no_norm_unless_they_are_asked_for_it(shapes):
    def norms(model: MaskRCNN) -> dict[str, int]:
        parts = {"rpn": model.rpn.head, "box": model.roi_heads.box_head, "mask": model.roi_heads.mask_head}
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
        return {name: sum(isinstance(module, kinds) for module in part.modules()) for name, part in parts.items()}

    assert norms(MaskRCNN(SMALL, 2)) == {"rpn": 0, "box": 0, "mask": 0}
    model = MaskRCNN(SMALL.replace(head_norm=True), 2)
    assert norms(model) == {"rpn": 5, "box": 2, "mask": 4}
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    masks[:, 8:40, 8:40] = 1
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1]), "masks": masks}
    target["masks"] = crop_masks(masks, target["boxes"])
    losses = model.train()(images, None, [target, target])
    sum(losses.values()).backward()
    for part in (model.rpn.head, model.roi_heads.box_head, model.roi_heads.mask_head):
        assert all(parameter.grad is not None for parameter in part.parameters())
    epsilons = {module.eps for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)}
    assert epsilons == {1e-4}


def test_the_first_hundred_objects_stay():
    target = {"boxes": torch.tensor([[0.0, 0, 5, 5]] * 130), "labels": torch.arange(130)}
    target["boxes"][3, 2] = 0.5  # too narrow, so that the hundredth that can be seen is number 100
    _, kept = RemoveInvisible(100)(None, target)
    assert kept["labels"].tolist() == [0, 1, 2, *range(4, 101)]
