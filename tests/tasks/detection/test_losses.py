"""The losses against their definitions, computed once more in plain Python and numpy."""

import math

import numpy as np
import pytest
import torch
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import box_convert

from botvision.tasks.detection import DetectorConfig, MaskRCNN
from botvision.tasks.detection.mask_targets import crop_masks
from botvision.tasks.detection.proposals import ProposalNetwork, proposal_recall
from botvision.tasks.detection.regions import RegionHeads, box_heads

SIZE = (64, 64)


def huber(errors, delta) -> float:
    terms = [e * e / 2 if abs(e) <= delta else delta * (abs(e) - delta / 2) for e in errors]
    return sum(terms) / len(terms)


def binary_cross_entropy(logit: float, label: float) -> float:
    return math.log1p(math.exp(-logit)) if label else math.log1p(math.exp(logit))


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 15 + 34 * torch.rand(count, 2, generator=generator)
    sides = 10 + 15 * torch.rand(count, 2, generator=generator)
    return box_convert(torch.cat([centres, sides], dim=1), "cxcywh", "xyxy")


def a_target(boxes: torch.Tensor, labels: list[int]) -> dict[str, torch.Tensor]:
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), "masks": crop_masks(masks, boxes)}


def no_objects() -> dict[str, torch.Tensor]:
    return a_target(torch.zeros(0, 4), [])


# --- proposals ---


def test_proposal_losses_are_those_of_the_definition():
    network = ProposalNetwork(
        DetectorConfig(fpn_channels=8, rpn_samples=1000, rpn_huber_delta=0.3, rpn_box_weight=2.0),
        strides=(4, 8, 16, 32, 64),
    )
    rng = np.random.default_rng(0)
    levels = [20, 12, 6, 3, 1]
    scores, deltas, wanted = rng.normal(size=(2, 42)), rng.normal(size=(2, 42, 4)), rng.normal(size=(2, 42, 4))
    labels = rng.choice([1, 0, -1], size=(2, 42), p=[0.3, 0.5, 0.2])
    labels[:, 38:] = 0  # a level without foreground adds nothing
    found = network.losses(
        torch.tensor(scores).reshape(-1, 1),
        torch.tensor(deltas).reshape(-1, 4),
        [torch.tensor(row, dtype=torch.float64) for row in labels],
        tuple(torch.tensor(row) for row in wanted),
        levels,
    )
    sampled = [binary_cross_entropy(s, y) for s, y in zip(scores.flat, labels.flat, strict=True) if y >= 0]
    assert found["objectness"].item() == pytest.approx(sum(sampled) / len(sampled), rel=1e-12)
    ends = np.cumsum(levels)
    box = 0.0
    for level in (range(end - count, end) for end, count in zip(ends, levels, strict=True)):
        errors = [(deltas - wanted)[i, a, c] for i in range(2) for a in level if labels[i, a] == 1 for c in range(4)]
        box += huber(errors, 0.3) if errors else 0.0
    assert found["proposal_box"].item() == pytest.approx(2.0 * box, rel=1e-12)


def test_at_most_half_of_the_sampled_anchors_are_objects():
    network = ProposalNetwork(DetectorConfig(rpn_samples=10), strides=(4, 8, 16, 32, 64))
    labels = torch.tensor([1.0] * 30 + [0.0] * 30 + [-1.0] * 30)
    scores = torch.tensor([2.0] * 30 + [-5.0] * 30 + [100.0] * 30).reshape(-1, 1)
    losses = network.losses(scores, torch.zeros(90, 4), [labels], (torch.zeros(90, 4),), [90])
    expected = (5 * binary_cross_entropy(2.0, 1) + 5 * binary_cross_entropy(-5.0, 0)) / 10
    assert losses["objectness"].item() == pytest.approx(expected, rel=1e-6)


def test_without_a_positive_anchor_the_box_loss_is_zero_and_has_a_gradient():
    network = ProposalNetwork(DetectorConfig(rpn_samples=10), strides=(4, 8, 16, 32, 64))
    deltas = torch.randn(6, 4, requires_grad=True)
    losses = network.losses(torch.zeros(6, 1), deltas, [torch.zeros(6)], (torch.zeros(6, 4),), [4, 2])
    assert losses["proposal_box"].item() == 0
    losses["proposal_box"].backward()
    assert torch.equal(deltas.grad, torch.zeros(6, 4))


# --- regions ---

CLASSES = 3


def region_heads(**settings) -> RegionHeads:
    torch.manual_seed(0)
    config = DetectorConfig(
        variant="torchvision", fpn_channels=8, box_head_width=16, mask_head_width=8, mask_head_depth=1, **settings
    )
    heads = RegionHeads(
        config,
        **box_heads(config, CLASSES),
        mask_head=MaskRCNNHeads(8, (8,), dilation=1),
        mask_predictor=MaskRCNNPredictor(8, 8, CLASSES + 1),
    )
    torch.nn.init.normal_(heads.box_predictor.cls_score.weight)
    torch.nn.init.normal_(heads.box_predictor.bbox_pred.weight)
    torch.nn.init.normal_(heads.mask_predictor.mask_fcn_logits.weight)
    return heads.double()


def a_pyramid(images: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(images, 8, side, side, generator=generator, dtype=torch.float64)
        for name, side in (("p2", 16), ("p3", 8), ("p4", 4), ("p5", 2), ("pool", 1))
    }


def overlap(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def right_deltas(region, box) -> list[float]:
    """What the head should say to turn the region into the box (Girshick et al. 2014), weights 10, 10, 5, 5."""
    width, height = region[2] - region[0], region[3] - region[1]
    return [
        10 * ((box[0] + box[2]) - (region[0] + region[2])) / 2 / width,
        10 * ((box[1] + box[3]) - (region[1] + region[3])) / 2 / height,
        5 * math.log((box[2] - box[0]) / width),
        5 * math.log((box[3] - box[1]) / height),
    ]


def test_class_and_box_losses_are_those_of_the_definition():
    heads = region_heads(roi_samples=1000, roi_foreground=1.0, roi_huber_delta=0.5)
    targets = [a_target(random_boxes(3, seed=i).double(), labels) for i, labels in enumerate(([1, 2, 3], [3, 3, 1]))]
    jittered = [target["boxes"].repeat(6, 1) + 3 * torch.randn(18, 4).double() for target in targets]
    proposals = [torch.cat([near, random_boxes(9, seed=7).double()]) for near in jittered]
    found = heads.losses(a_pyramid(2), proposals, targets)

    regions = [torch.cat([p, t["boxes"]]) for p, t in zip(proposals, targets, strict=True)]  # objects are regions too
    logits, deltas = heads.classify(a_pyramid(2), regions)
    logits, deltas = logits.double().tolist(), deltas.double().tolist()
    entropies, errors, row = [], [], 0
    for own_regions, target in zip(regions, targets, strict=True):
        for region in own_regions.tolist():
            overlaps = [overlap(region, box) for box in target["boxes"].tolist()]
            best = max(range(len(overlaps)), key=overlaps.__getitem__)
            label = int(target["labels"][best]) if overlaps[best] >= 0.5 else 0
            entropies.append(math.log(sum(map(math.exp, logits[row]))) - logits[row][label])
            if label:
                right = right_deltas(region, target["boxes"][best].tolist())
                errors += [d - r for d, r in zip(deltas[row][4 * label : 4 * label + 4], right, strict=True)]
            row += 1
    assert len(errors) > 40
    assert len(entropies) > len(errors) / 4 + 5
    assert found["class"].item() == pytest.approx(sum(entropies) / len(entropies), rel=1e-5)
    assert found["box"].item() == pytest.approx(huber(errors, 0.5), rel=1e-5)


def test_mask_loss_is_the_cross_entropy_of_the_objects_own_class():
    heads = region_heads(roi_samples=1000)
    target = a_target(torch.tensor([[8.0, 8.0, 40.0, 40.0]]).double(), [2])
    target["masks"][:] = 1  # every pixel of every region belongs to the object
    found = heads.losses(a_pyramid(1), [target["boxes"]], [target])
    logits = heads.segment(a_pyramid(1), [target["boxes"]])[0, 2]
    expected = np.mean([binary_cross_entropy(logit, 1) for logit in logits.flatten().tolist()])
    assert found["mask"].item() == pytest.approx(expected, rel=1e-6)


def test_an_object_whose_mask_is_not_known_teaches_class_and_box_alone():
    heads = region_heads(roi_samples=1000)
    known, unknown = torch.tensor([[8.0, 8.0, 40.0, 40.0]]).double(), torch.tensor([[44.0, 4.0, 60.0, 60.0]]).double()
    target = a_target(torch.cat([known, unknown]), [2, 3])
    target["masks"][1] = 0
    target["has_mask"] = torch.tensor([True, False])
    nobody = {**no_objects(), "has_mask": torch.zeros(0, dtype=torch.bool)}
    found = heads.losses(a_pyramid(2), [target["boxes"], random_boxes(3, seed=0).double()], [target, nobody])
    alone = heads.losses(a_pyramid(2), [known, random_boxes(3, seed=0).double()], [a_target(known, [2]), no_objects()])
    assert found["mask"].item() == pytest.approx(alone["mask"].item(), rel=1e-9)
    both = heads.losses(
        a_pyramid(2),
        [target["boxes"], random_boxes(3, seed=0).double()],
        [{name: target[name] for name in ("boxes", "labels", "masks")}, no_objects()],
    )
    assert found["class"].item() == both["class"].item()
    assert found["box"].item() == both["box"].item()
    assert found["mask"].item() != both["mask"].item()


def test_without_an_object_box_and_mask_losses_are_zero_and_have_gradients():
    heads = region_heads()
    losses = heads.losses(a_pyramid(1), [random_boxes(5, seed=0).double()], [no_objects()])
    assert losses["box"].item() == losses["mask"].item() == 0
    (losses["box"] + losses["mask"]).backward()
    assert not heads.box_predictor.bbox_pred.weight.grad.any()
    assert not heads.mask_predictor.mask_fcn_logits.weight.grad.any()


def test_the_recall_of_proposals_counts_the_objects_of_all_images_that_one_overlaps_by_half():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]])
    near = torch.tensor([[0.0, 0, 10, 6], [0, 0, 10, 10], [20, 20, 30, 24], [25, 20, 35, 30]])
    targets = [{"boxes": boxes[:2]}, {"boxes": boxes}, {"boxes": boxes[:0]}]
    assert proposal_recall([near, boxes[2:], near], targets).item() == pytest.approx(2 / 5)
    assert proposal_recall([near[:0], near, near], targets).item() == pytest.approx(1 / 5)


# --- the whole detector ---


def test_images_without_objects_train(tiny):
    torch.manual_seed(0)
    model = MaskRCNN(tiny, CLASSES)
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    losses = model(images, [SIZE, SIZE], [no_objects(), no_objects()])
    assert list(losses) == ["objectness", "proposal_box", "class", "box", "mask", "proposal_recall"]
    assert losses["proposal_recall"] == 1  # nothing was missed
    sum(losses.values()).backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []  # with several processes, each must have a gradient for each parameter
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_training_needs_targets(tiny):
    with pytest.raises(ValueError, match="targets"):
        MaskRCNN(tiny, CLASSES)(torch.zeros(1, 3, *SIZE))
