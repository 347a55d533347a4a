"""Masks on their way to the loss: cut out at their boxes, and at regions."""

import torch
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import masks_to_boxes

from botvision.tasks.detection.mask_targets import crop_masks, mask_targets


def ellipses(count: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (N, S, S) of tilted ellipses, and their boxes."""
    draw = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    masks = []
    for centre_x, centre_y, a, b, turn in torch.rand(count, 5, generator=draw).tolist():
        dx, dy = x - side * (0.3 + 0.4 * centre_x), y - side * (0.3 + 0.4 * centre_y)
        angle = torch.tensor(3.14 * turn)
        along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
        masks.append((along / (side * (0.05 + 0.15 * a))) ** 2 + (across / (side * (0.05 + 0.15 * b))) ** 2 < 1)
    masks = torch.stack(masks)
    return masks.to(torch.uint8), masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])


def test_targets_are_those_of_the_whole_masks():
    masks, boxes = ellipses(20, 400)
    shifts = 0.2 * (torch.rand(20, 4, generator=torch.Generator().manual_seed(1)) - 0.5)
    regions = boxes + shifts * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    found = mask_targets(crop_masks(masks, boxes), boxes, regions)
    # torchvision takes the middle of pixel 0 for the place 0, half a pixel from where it is.
    expected = project_masks_on_boxes(masks, regions - 0.5, torch.arange(20), 28)
    assert (found.flatten(1).mean(1) > 0.2).all()
    assert (found - expected).abs().mean() < 0.005
    assert ((found > 0.5) == (expected > 0.5)).float().mean() > 0.99


def test_a_full_mask_is_full_and_nothing_lies_outside_of_its_box():
    masks = torch.zeros(1, 50, 60, dtype=torch.uint8)
    masks[0, 10:40, 20:30] = 1
    box = torch.tensor([[20.0, 10.0, 30.0, 40.0]])
    crops = crop_masks(masks, box)
    torch.testing.assert_close(crops, torch.ones(1, 112, 112))
    torch.testing.assert_close(mask_targets(crops, box, box), torch.ones(1, 28, 28))
    doubled = mask_targets(crops, box, torch.tensor([[15.0, 10.0, 35.0, 40.0]]))  # twice as wide
    assert doubled[0, :, 8:20].min() > 0.999
    assert doubled[0, :, [*range(6), *range(22, 28)]].max() == 0


def test_crops_are_shares_of_area():
    """A thin line stays, however large the box is."""
    masks = torch.zeros(1, 1120, 1120, dtype=torch.uint8)
    masks[0, :, 555] = 1
    crop = crop_masks(masks, torch.tensor([[0.0, 0.0, 1120.0, 1120.0]]))[0]
    torch.testing.assert_close(crop.sum(dim=1), torch.full((112,), 0.1), rtol=0, atol=1e-4)


def test_without_objects_there_is_nothing():
    nothing = torch.zeros(0, 4)
    assert crop_masks(torch.zeros(0, 9, 9, dtype=torch.uint8), nothing).shape == (0, 112, 112)
    assert mask_targets(torch.zeros(0, 112, 112), nothing, nothing).shape == (0, 28, 28)
