"""From stored images of any size to the square input of a detector, and back."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

# ImageNet's mean colour: padding becomes zero when the model normalises its input.
PADDING_COLOUR = (124.0, 116.0, 104.0)

Target = dict[str, Any]


def train_transform(
    input_size: int,
    jitter: tuple[float, float],
    flip: float = 0.5,
    objects: int = 100,
    padding: Sequence[float] = PADDING_COLOUR,
) -> v2.Transform:
    """Random flip, scale and crop to `(C, input_size, input_size)`, padded at the bottom and right.

    Instances that the crop leaves with a box under one pixel or an empty mask are removed. The target gains
    `content_size`, the (h, w) in pixels that hold image.

    Args:
        input_size: side of the square, in pixels.
        jitter: smallest and largest scale, as multiples of the scale at which the whole image just fits.
        flip: probability of a horizontal flip.
        objects: of the instances that are left, so many stay, the first ones.
        padding: value of each channel beside the image.
    """
    return v2.Compose(
        [
            RandomFlip(flip),  # first, where the image has the fewest pixels
            ScaleAndCrop(input_size, jitter),
            RemoveInvisible(objects),
            PadToSquare(input_size, padding),
        ]
    )


def eval_transform(input_size: int, padding: Sequence[float] = PADDING_COLOUR) -> v2.Transform:
    """Longer side to `input_size` pixels, aspect kept, padded at the bottom and right to a square.

    The target, which may be an empty dict, gains `content_size`, the (h, w) in pixels that hold image.
    """
    return v2.Compose([ScaleAndCrop(input_size, (1.0, 1.0)), PadToSquare(input_size, padding)])


def points_to_original(points: Tensor, content_size: tuple[int, int], original_size: tuple[int, int]) -> Tensor:
    """Keypoints (N, K, 3), x and y and a third number, brought back as by `to_original`, but not clipped."""
    (height, width), (input_height, input_width) = original_size, content_size
    return points * points.new_tensor([width / input_width, height / input_height, 1])


def to_original(boxes: Tensor, content_size: tuple[int, int], original_size: tuple[int, int]) -> Tensor:
    """Boxes of the input frame of `eval_transform`, brought back to the stored image and clipped to it.

    Args:
        boxes: (N, 4), x1 y1 x2 y2 in pixels of the input.
        content_size: (h, w) in pixels that hold image, from the target.
        original_size: (H, W) of the stored image, from the target.
    """
    height, width = original_size
    scale_y, scale_x = height / content_size[0], width / content_size[1]
    limits = boxes.new_tensor([width, height, width, height])
    return (boxes * boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])).clamp(min=0).minimum(limits)


class RandomFlip(v2.Transform):
    """Mirror the image and all that is in it, with some probability; what was on the left is then on the right."""

    def __init__(self, probability: float) -> None:
        """See `train_transform`."""
        super().__init__()
        self.probability = probability

    def forward(self, image: tv_tensors.Image, target: Target) -> tuple[tv_tensors.Image, Target]:
        """`boxes`, `masks` and `keypoints`, where present, stay on the image; left keypoints become right ones."""
        if torch.rand(()) >= self.probability:
            return image, target
        target = dict(target)
        for name in {"boxes", "masks"} & target.keys():
            target[name] = F.horizontal_flip(target[name])
        if "keypoints" in target:
            x, y, visibility = target["keypoints"][:, target["keypoint_mirror"]].unbind(dim=2)
            target["keypoints"] = torch.stack([image.shape[-1] - x, y, visibility], dim=2)
        return F.horizontal_flip(image), target


class ScaleAndCrop(v2.Transform):
    """Scale the image by a random factor, then cut a random window where it is larger than the square.

    The window is cut before scaling, to a whole number of stored pixels: the same picture for much less work.
    """

    def __init__(self, input_size: int, jitter: tuple[float, float]) -> None:
        """See `train_transform`."""
        super().__init__()
        self.input_size = input_size
        self.jitter = jitter

    def forward(self, image: tv_tensors.Image, target: Target) -> tuple[tv_tensors.Image, Target]:
        """Image (C, H, W) to (C, h, w), h and w at most `input_size`; `boxes`, `masks` and `keypoints` alike.

        Keypoints outside the window lose their visibility.
        """
        height, width = image.shape[-2:]
        factor = float(torch.empty(()).uniform_(*self.jitter))
        scale = self.input_size / max(height, width) * factor
        top, crop_height, new_height = self._window(height, scale)
        left, crop_width, new_width = self._window(width, scale)
        window, size = (top, left, crop_height, crop_width), [new_height, new_width]
        # Laid out by pixel: three times faster than planes, which PyTorch also resizes wrongly to a width of 1.
        pixels = F.crop(image, *window).permute(1, 2, 0).contiguous().permute(2, 0, 1)
        image = tv_tensors.Image(F.resize(pixels, size, antialias=True))
        target = dict(target)
        if "boxes" in target:
            boxes = F.resize(F.crop(target["boxes"], *window), size)
            target["boxes"] = F.clamp_bounding_boxes(boxes)
        if "masks" in target:
            # The exact kind of nearest neighbour: the plain one shifts masks by up to half a pixel.
            masks = F.crop(target["masks"], *window).unsqueeze(1)
            target["masks"] = tv_tensors.Mask(interpolate(masks, size=size, mode="nearest-exact").squeeze(1))
        if "keypoints" in target:
            x, y, visibility = target["keypoints"].unbind(dim=2)
            x, y = (x - left) * (new_width / crop_width), (y - top) * (new_height / crop_height)
            inside = (x >= 0) & (x <= new_width) & (y >= 0) & (y <= new_height)
            target["keypoints"] = torch.stack([x, y, visibility * inside], dim=2)
        return image, target

    def _window(self, length: int, scale: float) -> tuple[int, int, int]:
        """Along one side: where the window starts, how many stored pixels it has, and how many after scaling."""
        scaled = max(1, round(length * scale))
        if scaled <= self.input_size:
            return 0, length, scaled
        crop = min(length, max(1, round(self.input_size / scale)))
        return int(torch.randint(length - crop + 1, ())), crop, self.input_size


class RemoveInvisible(v2.Transform):
    """Remove instances with a box under one pixel wide or high, or a mask that is known and has become empty.

    Of the others only the first ones stay, as many as are wanted.
    """

    def __init__(self, objects: int) -> None:
        """See `train_transform`."""
        super().__init__()
        self.objects = objects

    def forward(self, image: tv_tensors.Image, target: Target) -> tuple[tv_tensors.Image, Target]:
        """`boxes` (N, 4), `labels` (N,) and, where present, `masks`, `has_mask` and `keypoints` keep the same."""
        sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
        keep = (sides >= 1).all(dim=1).as_subclass(Tensor)
        if "masks" in target:
            visible = target["masks"].as_subclass(Tensor).amax(dim=(1, 2)) > 0
            keep &= visible | ~target["has_mask"] if "has_mask" in target else visible
        keep &= keep.cumsum(0) <= self.objects
        if keep.all():  # the usual case; copying masks takes long
            return image, target
        kept = dict(target)
        for name in {"boxes", "labels", "masks", "has_mask", "keypoints"} & target.keys():
            kept[name] = tv_tensors.wrap(target[name][keep], like=target[name])
        return image, kept


class PadToSquare(v2.Transform):
    """Pad at the bottom and right to a square; `content_size` of the target says which part is image."""

    def __init__(self, input_size: int, padding: Sequence[float]) -> None:
        """Side of the square in pixels, at least the image's longer side, and the value of each channel beside it."""
        super().__init__()
        self.input_size = input_size
        self.padding = list(padding)

    def forward(self, image: tv_tensors.Image, target: Target) -> tuple[tv_tensors.Image, Target]:
        """Image (C, h, w) to (C, S, S), filled with the mean; masks (N, h, w) to (N, S, S), filled with 0."""
        height, width = image.shape[-2:]
        padding = [0, 0, self.input_size - width, self.input_size - height]
        target = dict(target, content_size=(height, width))
        for name in {"boxes", "masks"} & target.keys():
            target[name] = F.pad(target[name], padding)
        return F.pad(image, padding, fill=self.padding), target
