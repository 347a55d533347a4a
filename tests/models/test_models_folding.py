"""Batch norm folded into convolutions: the same outputs, and nothing lost."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torchvision.ops import FrozenBatchNorm2d

import botvision
from botvision.errors import UserError
from botvision.models import CATALOGUE
from botvision.tasks.detection.config import DetectorConfig, DetrConfig
from botvision.tasks.detection.detectors import make_detector

SMALL = {"width": 8, "depths": (1, 1, 2, 2), "num_classes": 5}
KINDS = {
    **{name: {} for name in CATALOGUE},
    "frozen": {"norm": "frozen"},
    "lambda": {"spatial": {"c4": "lambda", "c5": "lambda_global"}},
    "dilated": {"output_stride": 8},
}
TINY = {"depths": (1, 1, 1, 1), "width": 8, "input_size": 64, "score_threshold": 0.0}
RCNN = {**TINY, "fpn_channels": 16, "box_head_width": 32, "mask_head_width": 16, "keypoint_head_width": 16}
DETECTORS = {
    "authors": DetectorConfig(**RCNN),
    "torchvision": DetectorConfig(**RCNN, variant="torchvision"),
    "head_norm": DetectorConfig(**RCNN, head_norm=True),
    "keypoints": DetectorConfig(**RCNN, detector="keypoint_rcnn"),
    "frozen": DetectorConfig(**RCNN, backbone_norm="frozen"),
    "detr": DetrConfig(depths=(1, 1, 1, 1), width=8, input_size=64, hidden=32, heads=4),
}


def awake(model):
    """In double precision, with numbers of their own in every norm, so that no branch of a new network is silent."""
    torch.manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm | FrozenBatchNorm2d):
            for tensor, start in ((norm.weight, 0.5), (norm.bias, -0.5), (norm.running_mean, -0.5)):
                tensor.detach().uniform_(start, start + 1)
            norm.running_var.uniform_(0.5, 1.5)
    return model.double().eval()


def norms_in(model):
    return [name for name, module in model.named_modules() if type(module) in (nn.BatchNorm2d, FrozenBatchNorm2d)]


def assert_same(found, wanted, largest):
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() <= largest * other.abs().max()


@pytest.mark.parametrize("name", KINDS)
def test_a_folded_network_gives_the_same(name):
    model = awake(botvision.create_model(name if name in CATALOGUE else "botnet50", **SMALL, **KINDS[name]))
    images = torch.randn(2, 3, 75, 97, dtype=torch.float64)
    with torch.no_grad():
        wanted = model(images)
        assert_same([botvision.fold(model)(images)], [wanted], 1e-10)
        assert_same([botvision.fold(model.float())(images.float())], [wanted], 1e-4)


@pytest.mark.parametrize("name", ["resnet50", "botnet50", "senet_s1", "resnet50_nl_c4"])
def test_only_norms_that_follow_no_convolution_stay(name):
    left = norms_in(botvision.fold(botvision.create_model(name, **SMALL)))
    assert left == (["layer4.0.bn2", "layer4.1.bn2"] if name == "botnet50" else [])


def test_maps_that_are_asked_for_stay_the_same():
    model = awake(botvision.create_model("botnet50", width=8, features_only=True, out_indices=(0, 1, 2, 3, 4)))
    images = torch.randn(1, 3, 64, 80, dtype=torch.float64)
    with torch.no_grad():
        assert_same(botvision.fold(model)(images), model(images), 1e-10)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_folded_detector_finds_the_same(name):
    torch.manual_seed(0)
    model = awake(make_detector(DETECTORS[name], 3, 2)).float()
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        wanted, found = model(images), botvision.fold(model)(images)
    assert all(len(one["scores"]) for one in wanted)
    for own, other in zip(found, wanted, strict=True):
        assert_same([own["scores"]], [other["scores"]], 1e-4)


@pytest.mark.parametrize("name", [name for name in DETECTORS if name != "detr"])
def test_the_pyramid_and_the_mask_head_of_a_folded_detector_give_the_same(name):
    torch.manual_seed(0)
    model = awake(make_detector(DETECTORS[name], 3, 2))
    folded = botvision.fold(model)
    images, regions = torch.randn(1, 3, 65, 97).double(), torch.randn(3, 16, 14, 14).double()
    with torch.no_grad():
        assert_same(folded.backbone(images).values(), model.backbone(images).values(), 1e-10)
        if model.roi_heads.mask_head is not None:
            assert_same([folded.roi_heads.mask_head(regions)], [model.roi_heads.mask_head(regions)], 1e-10)
    pyramid = [norm for norm in norms_in(folded) if norm.startswith(("backbone.fpn", "roi_heads"))]
    # p6 is made of p5 as it is in front of its norm.
    assert pyramid == ([] if name == "torchvision" else ["backbone.fpn.extra_blocks.norms.3"])


def test_the_model_stays_as_it_was_and_the_copy_asks_for_no_gradients():
    model = botvision.create_model("botnet50", **SMALL).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = botvision.fold(model)
    assert model.training
    assert not folded.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert not folded(torch.randn(1, 3, 64, 64)).requires_grad
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_what_cannot_be_folded_stays():
    class NormAndActivation(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    convolutions = [nn.Conv2d(4, 4, 1) for _ in range(4)]
    prune.random_unstructured(convolutions[3], "weight", 0.5)
    norms = [nn.GroupNorm(2, 4), nn.BatchNorm2d(4, track_running_stats=False), NormAndActivation(4), nn.BatchNorm2d(4)]
    layers = [layer for pair in zip(convolutions, norms, strict=True) for layer in pair]
    model = nn.Sequential(*layers).double().eval()
    images = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        wanted = model(images)
        folded = botvision.fold(model)
        assert [type(layer) for layer in folded[1::2]] == [type(layer) for layer in norms]
        torch.testing.assert_close(folded(images), wanted)


def test_a_folded_network_is_refused_by_save(tmp_path):
    folded = botvision.fold(botvision.create_model("resnet50", **SMALL))
    with pytest.raises(UserError, match="folded"):
        botvision.save(folded, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_folded_network_exports_and_compiles():
    torch.manual_seed(0)
    folded = botvision.fold(awake(botvision.create_model("botnet50", **SMALL)))
    images = torch.randn(1, 3, 97, 130, dtype=torch.float64)
    wanted = folded(images)
    torch.testing.assert_close(torch.export.export(folded, (images,)).module()(images), wanted)
    compiled = torch.compile(folded, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), wanted)
