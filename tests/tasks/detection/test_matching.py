"""DETR's matching against every permutation, and its losses against sums in plain Python."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from botvision.tasks.detection.matching import Objects, match, set_losses


def random_boxes(*shape: int) -> torch.Tensor:
    return 0.1 + 0.3 * torch.rand(*shape, 4, dtype=torch.float64)


def case(seed: int, layers: int, queries: int, counts: tuple[int, ...], classes: int = 3):
    """Logits, boxes and objects of some images, in float64."""
    torch.manual_seed(seed)
    logits = torch.randn(layers, len(counts), queries, classes + 1, dtype=torch.float64)
    objects = [Objects(torch.randint(1, classes + 1, (n,)), random_boxes(n)) for n in counts]
    return logits, random_boxes(layers, len(counts), queries), objects


def generalised_iou(a: list[float], b: list[float]) -> float:
    """Of two boxes given by centre and size (Rezatofighi et al. 2019)."""
    a, b = ((x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (a, b))
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    sides = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    hull = math.prod(max(a[i + 2], b[i + 2]) - min(a[i], b[i]) for i in (0, 1))
    inside = math.prod(sides)
    union = sum(area) - inside
    return inside / union - (hull - union) / hull


def pair_cost(logits: list[float], box: list[float], label: int, wanted: list[float]) -> float:
    probability = math.exp(logits[label]) / sum(map(math.exp, logits))
    distance = sum(abs(a - b) for a, b in zip(box, wanted, strict=True))
    return 5 * distance - 2 * generalised_iou(box, wanted) - probability


def cheapest(logits, boxes, target) -> list[tuple[int, int]]:
    """The pairs of one layer and image that cost the least, found by trying all."""
    labels, wanted = target.labels.tolist(), target.boxes.tolist()
    logits, boxes = logits.tolist(), boxes.tolist()
    few = min(len(boxes), len(labels))
    choices = [
        list(zip(queries, objects, strict=True))
        for queries in itertools.combinations(range(len(boxes)), few)
        for objects in itertools.permutations(range(len(labels)), few)
    ]
    return min(choices, key=lambda c: sum(pair_cost(logits[q], boxes[q], labels[n], wanted[n]) for q, n in c))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), queries=st.integers(1, 4), count=st.integers(0, 4))
def test_the_matching_is_the_cheapest_of_all(seed, queries, count):
    logits, boxes, (target,) = case(seed, 2, queries, (count,))
    found = match(logits[:, 0], boxes[:, 0], target)
    assert found[0].shape == found[1].shape == (2, min(queries, count))
    for layer in range(2):
        pairs = list(zip(found[0][layer].tolist(), found[1][layer].tolist(), strict=True))
        assert sorted(pairs) == sorted(cheapest(logits[layer, 0], boxes[layer, 0], target))


def test_the_losses_are_sums_over_layers_each_with_its_own_matching():
    logits, boxes, targets = case(0, 3, 4, (2, 0, 5))  # more objects than queries in the last image
    expected = dict.fromkeys(("class", "box", "giou"), 0.0)
    for layer in range(3):
        entropy = weights = 0.0
        for image, target in enumerate(targets):
            pairs = dict(cheapest(logits[layer, image], boxes[layer, image], target))
            for query, row in enumerate(logits[layer, image].tolist()):
                label = int(target.labels[pairs[query]]) if query in pairs else 0
                weight = 1.0 if label else 0.1
                entropy += weight * (math.log(sum(map(math.exp, row))) - row[label])
                weights += weight
            for query, number in pairs.items():
                box, wanted = boxes[layer, image, query].tolist(), target.boxes[number].tolist()
                expected["box"] += 5 * sum(abs(a - b) for a, b in zip(box, wanted, strict=True)) / 7
                expected["giou"] += 2 * (1 - generalised_iou(box, wanted)) / 7
        expected["class"] += entropy / weights
    found = set_losses(logits, boxes, targets)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected)


def test_images_without_objects_teach_the_class_alone():
    logits, boxes, targets = case(0, 2, 3, (0, 0))
    logits.requires_grad_(), boxes.requires_grad_()
    losses = set_losses(logits, boxes, targets)
    assert losses["box"] == losses["giou"] == 0
    sum(losses.values()).backward()
    assert logits.grad.abs().sum() > 0
    assert not boxes.grad.any()


def test_numbers_that_have_blown_up_reach_the_loss():
    logits, boxes, targets = case(0, 1, 3, (2,))
    assert set_losses(logits * torch.nan, boxes, targets)["class"].isnan()
    assert set_losses(logits, boxes * torch.nan, targets)["box"].isnan()
