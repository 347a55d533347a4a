"""`botvision bench detector` from end to end, on small images."""

import json

import torch

from botvision.benchmarks import detector_step
from botvision.benchmarks.detector_step import PROPOSALS, StepSetting, work

SMALL = ("--size", "64x96", "--inference-size", "64x64", "--repeats", 1, "--device", "cpu")


def test_detectors_are_timed_beside_torchvisions(run, monkeypatch):
    monkeypatch.setattr(detector_step, "OBJECTS", 2)
    monkeypatch.setattr(detector_step, "PROPOSALS", 8)
    monkeypatch.setattr(detector_step, "DETECTIONS", 4)
    status, out, _ = run("bench", "detector", "--models", "torchvision", "resnet50", *SMALL, "--json")
    assert status == 0
    found = json.loads(out)
    assert [one["detector"] for one in found] == ["torchvision", "resnet50"]
    assert all(one[f"{what}_ms"] > 0 for one in found for what in ("training", "inference"))


def test_where_the_time_goes_is_printed_as_data_too(run, monkeypatch):
    monkeypatch.setattr(detector_step, "OBJECTS", 2)
    monkeypatch.setattr(detector_step, "PROPOSALS", 8)
    status, out, _ = run("bench", "detector", "--models", "resnet50", *SMALL, "--profiled", "--json")
    assert status == 0
    operators = json.loads(out)["resnet50"]
    assert any("conv" in one["name"] for one in operators)
    assert 0.5 < sum(one["share"] for one in operators) <= 1


def test_a_wrong_name_or_size_is_refused(refusal):
    assert "resnet5" in refusal("bench", "detector", "--models", "resnet5")
    assert "--inference-size" in refusal("bench", "detector", "--inference-size", "64")


def test_the_work_lies_inside_the_image_and_half_of_it_near_objects():
    size = height, width = 200, 400  # lower than the largest boxes
    setting = StepSetting(size, size, 2, torch.device("cpu"), torch.float32)
    images, targets, proposals = work(size, setting)
    assert images.shape == (2, 3, *size)
    for target, boxes in zip(targets, proposals, strict=True):
        assert len(boxes) == PROPOSALS
        for given in (boxes, target["boxes"]):
            assert (given >= 0).all()
            assert (given <= torch.tensor([width, height] * 2)).all()
        sides = target["boxes"][:, 2:].int() - target["boxes"][:, :2].int()
        assert torch.equal(target["masks"].sum(dim=(1, 2)), sides.prod(dim=1))  # the whole box
