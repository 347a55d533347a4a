"""What a step of training changes and what it leaves, in which precision, and that it learns."""

import pytest
import torch

from botvision.data import CocoDetection
from botvision.data.loading import collate
from botvision.tasks.detection import DetectorConfig, MaskRCNN
from botvision.tasks.detection.evaluate import evaluate_detector
from botvision.tasks.detection.training_images import TrainingImages
from botvision.tasks.detection.transforms import eval_transform, train_transform
from botvision.training.schedule import sgd


@pytest.fixture(scope="module")
def batch(shapes, tiny):
    dataset = TrainingImages(CocoDetection(shapes, "train", train_transform(tiny.input_size, (1.0, 1.0))), 0.0, 100)
    return collate([dataset[index] for index in range(4)])


def arguments(batch):
    return batch["images"], [target["content_size"] for target in batch["targets"]], batch["targets"]


def train(model: MaskRCNN, batch, steps: int, lr: float = 0.1) -> None:
    optimizer = sgd(model, lr=lr, batch_size=64, reference_batch=64, momentum=0.9, weight_decay=1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(model(*arguments(batch)).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()


IDLE = {f"backbone.fpn.extra_blocks.{name}" for name in ("p6.bias", "norms.4.weight", "norms.4.bias")}
"""A norm takes the bias before it off again; anchors of p6 are much larger than these images, so that none is drawn."""


def changed_by_training(config: DetectorConfig, batch) -> tuple[set[str], set[str]]:
    """Names of the tensors, running statistics included, that training changed and that it left as they were."""
    torch.manual_seed(0)
    model = MaskRCNN(config, 6).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, batch, steps=3)
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    return before.keys() - same, same


def test_freeze_stem_keeps_stem_and_c2_and_their_statistics_bit_for_bit_and_moves_all_else(tiny, batch):
    changed, same = changed_by_training(tiny.replace(freeze_stem=True), batch)
    assert {name.split(".")[2] for name in same - IDLE} == {"conv1", "bn1", "layer1"}
    assert not {name for name in changed if name.startswith(("backbone.body.layer1", "backbone.body.bn1"))}
    assert "backbone.body.layer2.0.bn1.running_mean" in changed


def test_without_freeze_stem_everything_moves(tiny, batch):
    assert changed_by_training(tiny, batch)[1] <= IDLE


def test_a_frozen_norm_of_the_backbone_stays_and_the_rest_moves(tiny, batch):
    changed, same = changed_by_training(tiny.replace(backbone_norm="frozen"), batch)
    norms = {"bn1", "bn2", "bn3", "1"}  # the last one in the shortcuts
    assert {name.split(".")[-2] for name in same if ".body." in name} == norms
    assert not norms & {name.split(".")[-2] for name in changed if ".body." in name}


def test_every_batch_norm_has_the_momentum_and_epsilon_of_the_detector(tiny):
    model = MaskRCNN(tiny.replace(norm_momentum=0.25, norm_epsilon=0.5, head_norm=True), 6)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.25, 0.5)}
    parts = {name.split(".")[0] for name, module in model.named_modules() if module in norms}
    assert parts == {"backbone", "rpn", "roi_heads"}


def test_under_bfloat16_losses_are_finite_and_in_float32(tiny, batch):
    torch.manual_seed(0)
    model = MaskRCNN(tiny, 6).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*arguments(batch))
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())


def test_under_bfloat16_boxes_are_computed_in_float32(lively_model, batch):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        detections = lively_model(*arguments(batch)[:2])
    for found in detections:
        inside = found["boxes"][(found["boxes"] > 0) & (found["boxes"] < 48)]
        assert found["boxes"].dtype == found["scores"].dtype == found["masks"].dtype == torch.float32
        assert (inside != inside.bfloat16().float()).float().mean() > 0.5  # 0 if computed in bfloat16


@pytest.mark.slow
def test_a_small_detector_learns_four_images_by_heart(shapes):
    config = DetectorConfig(
        depths=(1, 1, 1, 1),
        width=16,
        input_size=64,
        norm_momentum=0.1,
        anchor_scale=4.0,
        fpn_channels=32,
        proposals_before_nms=(200, 200),
        proposals=(100, 100),
        roi_samples=64,
        box_head_width=128,
        mask_head_width=32,
        mask_head_depth=2,
    )
    torch.manual_seed(0)
    model = MaskRCNN(config, 6).train()
    images = CocoDetection(shapes, "train", eval_transform(64), limit=4)
    train(model, collate(list(TrainingImages(images, 0.0, 100))), steps=110, lr=0.05)
    scores = evaluate_detector(model, images, batch_size=4).scores
    assert scores["box"]["ap50"] > 0.9
    assert scores["mask"]["ap50"] > 0.8
