"""Networks of ours inside torchvision's detectors and segmentation, as torchvision takes its own ResNets."""

import pytest
import torch
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.segmentation import DeepLabV3
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from botvision.models import create_model

SMALL = {"width": 8, "depths": (1, 1, 2, 1)}
CLASSES = 3


def pyramid(name):
    """torchvision's own pyramid around our network: it needs our names and the order of our modules, no adapter."""
    body = create_model(name, num_classes=0, **SMALL)
    layers = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    return BackboneWithFPN(body, layers, list(body.config.channels), out_channels=32)


def images_and_targets():
    images = [torch.rand(3, 70, 97), torch.rand(3, 90, 64)]
    boxes = torch.tensor([[5.0, 8.0, 40.0, 50.0], [10.0, 20.0, 30.0, 60.0]])
    return images, [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in images]


@pytest.mark.parametrize(
    ("detector", "name"),
    [(FasterRCNN, "botnet50"), (RetinaNet, "botnet50"), (FCOS, "botnet50"), (FasterRCNN, "resnet50_nl_c4")],
)
def test_detectors_train_and_predict(detector, name):
    torch.manual_seed(0)
    model = detector(pyramid(name), CLASSES, min_size=64, max_size=128)
    images, targets = images_and_targets()
    loss = sum(model(images, targets).values())
    loss.backward()
    assert loss.isfinite()
    body = model.backbone.body
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in body.parameters())
    with torch.no_grad():
        found = model.eval()(images)
    assert [set(image) >= {"boxes", "labels", "scores"} for image in found] == [True, True]
    for image, result in zip(images, found, strict=True):
        height, width = image.shape[1:]
        assert (result["boxes"] >= 0).all() and (result["boxes"][:, 2::4] <= width).all()
        assert (result["boxes"][:, 3::4] <= height).all()


@pytest.mark.parametrize("output_stride", [32, 8])
def test_deeplab_trains_and_predicts(output_stride):
    torch.manual_seed(0)
    body = create_model("botnet50", output_stride=output_stride, **SMALL)
    model = DeepLabV3(IntermediateLayerGetter(body, {"layer4": "out"}), DeepLabHead(body.config.channels[-1], CLASSES))
    x = torch.randn(2, 3, 70, 97)
    out = model(x)["out"]
    assert out.shape == (2, CLASSES, 70, 97)
    out.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    assert body.layer4[0].bn3.weight.grad.abs().sum() > 0
    assert model.backbone(x)["out"].shape[2:] == (-(-70 // output_stride), -(-97 // output_stride))


def test_the_pyramid_sees_the_maps_of_features_only():
    torch.manual_seed(0)
    model = create_model("botnet_t3", features_only=True, **SMALL).eval()
    getter = IntermediateLayerGetter(model, {f"layer{number}": f"c{number + 1}" for number in (1, 2, 3, 4)})
    x = torch.randn(1, 3, 70, 97)
    for ours, theirs in zip(model(x), getter(x).values(), strict=True):
        torch.testing.assert_close(ours, theirs)
