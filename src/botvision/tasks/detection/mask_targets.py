"""What a mask head learns: masks cut out at their boxes by the data pipeline, and from these at each region.

The authors' code does the same (github.com/tensorflow/tpu, models/official/detection/dataloader/maskrcnn_parser.py,
mask_crop_size): 20 masks of a 1024-pixel image take 1 MB instead of 20 on their way to the loss.
"""

import torch
from torch import Tensor
from torchvision.ops import roi_align

CROP_SIDE = 112
"""Cells a side of a mask inside its box."""
TARGET_SIDE = 28
"""Cells a side of a mask inside a region."""


def crop_masks(masks: Tensor, boxes: Tensor) -> Tensor:
    """The part of each mask in its box.

    Args:
        masks: (N, H, W) of 0 and 1.
        boxes: (N, 4) as x1, y1, x2, y2 in pixels, inside the masks.

    Returns:
        (N, 112, 112), float32: the share of each cell that is mask.
    """
    crops = masks.new_zeros((len(masks), CROP_SIDE, CROP_SIDE), dtype=torch.float32)
    for crop, mask, box in zip(crops, masks, boxes.float(), strict=True):
        left, top = box[:2].floor().int().tolist()
        right, bottom = box[2:].ceil().int().tolist()
        part = mask[top:bottom, left:right].float()[None, None]
        corners = box - box.new_tensor([left, top, left, top])
        crop.copy_(roi_align(part, [corners[None]], CROP_SIDE, aligned=True)[0, 0])
    return crops


def mask_targets(crops: Tensor, boxes: Tensor, regions: Tensor) -> Tensor:
    """The part of each mask in a region that is more or less its box.

    Args:
        crops: (R, 112, 112), see :func:`crop_masks`.
        boxes: (R, 4), their boxes, as x1, y1, x2, y2 in pixels.
        regions: (R, 4) in pixels; outside of its box a mask is 0.

    Returns:
        (R, 28, 28), float32, between 0 and 1.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    corners = (regions - boxes[:, :2].repeat(1, 2)) * (CROP_SIDE / sides).repeat(1, 2)
    numbers = torch.arange(len(crops), device=crops.device)
    placed = torch.cat([numbers[:, None], corners], dim=1).to(crops.dtype)
    return roi_align(crops[:, None], placed, TARGET_SIDE, aligned=True)[:, 0]
