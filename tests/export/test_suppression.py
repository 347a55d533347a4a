"""Suppression in batches, of boxes in crowds: as torchvision's operator does it in each group of each image alone."""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torchvision.ops import nms

from botvision.tasks.detection.suppression import ABSENT, as_one_operator, suppressed

GROUPS, THRESHOLD = 7, 0.5003


def crowd(batch: int, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes with whole numbers up to 1024, so that float32 has their areas exactly; a quarter of them is absent."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 20, (batch, count, 2), generator=generator) * 4
    sides = torch.randint(20, 64, (batch, count, 2), generator=generator)
    scores = torch.rand(batch, count, generator=generator)
    scores[torch.rand(batch, count, generator=generator) < 0.25] = ABSENT
    groups = torch.randint(0, GROUPS, (batch, count), generator=generator)
    return torch.cat([corners, corners + sides], dim=2).float(), scores, groups


def one_by_one(boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
    """The scores of what torchvision keeps, group by group and image by image."""
    kept = torch.full_like(scores, ABSENT)
    for image in range(len(boxes)):
        for group in range(GROUPS):
            own = ((groups[image] == group) & (scores[image] > ABSENT)).nonzero()[:, 0]
            chosen = own[nms(boxes[image, own], scores[image, own], THRESHOLD)]
            kept[image, chosen] = scores[image, chosen]
    return kept


class Suppression(nn.Module):
    def forward(self, boxes, scores, groups):
        return suppressed(boxes, scores, groups, GROUPS, THRESHOLD)


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_one_call_is_what_torchvision_keeps_in_each_group(batch):
    given = crowd(batch, 200, seed=batch)
    expected = one_by_one(*given)
    assert 0.1 < (expected > ABSENT).float().mean() < 0.7
    assert torch.equal(suppressed(*given, GROUPS, THRESHOLD), expected)


def test_where_nothing_is_there_nothing_is_kept():
    boxes, scores, groups = crowd(2, 5, seed=0)
    assert (suppressed(boxes, torch.full_like(scores, ABSENT), groups, GROUPS, THRESHOLD) == ABSENT).all()


def test_onnx_keeps_the_same_for_any_batch(session, tmp_path):
    from botvision.export.onnx_operators import suppressed as translation

    batch, count = Dim("batch", max=1024), Dim("count", max=4096)
    with as_one_operator():
        shapes = ({0: batch, 1: count},) * 3
        program = torch.export.export(Suppression(), crowd(2, 9, seed=0), dynamic_shapes=shapes)
    table = {torch.ops.botvision.suppressed.default: translation}
    path = tmp_path / "suppression.onnx"
    torch.onnx.export(program, (), dynamo=True, verbose=False, custom_translation_table=table).save(path)
    run = session(path)
    for size, seed in ((1, 1), (64, 2)):
        boxes, scores, groups = crowd(size, 150, seed)
        (found,) = run(boxes=boxes.numpy(), scores=scores.numpy(), groups=groups.numpy()).values()
        assert torch.equal(torch.from_numpy(found), one_by_one(boxes, scores, groups))
