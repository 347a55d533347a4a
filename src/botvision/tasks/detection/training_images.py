"""Training images as the losses take them: with objects of other images pasted in, and masks cut out at their boxes."""

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes

from botvision.data import CocoDetection
from botvision.tasks.detection.mask_targets import crop_masks
from botvision.tasks.detection.transforms import RemoveInvisible, Target

PASTED = 0.5
"""Share of the other image's objects that is pasted, on average."""


class TrainingImages(Dataset):
    """The last steps of a training image, after scaling and cropping.

    Args:
        dataset: gives images (3, S, S) uint8 and targets in their pixels, see ``train_transform``.
        copy_paste: probability that objects of another image are pasted over an image, see :func:`paste`.
        objects: most objects of an image.
    """

    def __init__(self, dataset: CocoDetection, copy_paste: float, objects: int) -> None:
        self.dataset = dataset
        self.copy_paste = copy_paste
        self.objects = objects

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """The image and its target, whose "masks", where there are any, are (N, 112, 112), see ``crop_masks``."""
        image, target = self.dataset[index]
        if torch.rand(()) < self.copy_paste:
            other = self.dataset[int(torch.randint(len(self), ()))]
            image, target = RemoveInvisible(self.objects)(*paste(image, target, *other))
        if "masks" in target:
            boxes = target["boxes"].as_subclass(Tensor)
            target = {**target, "masks": crop_masks(target["masks"].as_subclass(Tensor), boxes)}
        return image, target


def paste(
    image: tv_tensors.Image, target: Target, other_image: tv_tensors.Image, other: Target
) -> tuple[tv_tensors.Image, Target]:
    """Copy-paste (Ghiasi et al. 2020, arXiv 2012.07177): some objects of another image, where they lie there.

    Objects lose what is pasted over them; the box of one that lost pixels shrinks to what is left. Each object of the
    other image whose mask is known is pasted with probability 1/2. Edges are not blended, which made no difference in
    that paper.

    Args:
        image, other_image: (3, S, S), uint8.
        target, other: with "boxes", "labels", "masks" (N, S, S), "has_mask" and "content_size"; "keypoints" optional.
    """
    chosen = (torch.rand(len(other["labels"])) < PASTED) & other["has_mask"]
    pasted = other["masks"].as_subclass(Tensor)[chosen]
    if not len(pasted):
        return image, target
    covered = pasted.amax(dim=0) > 0
    masks, boxes = target["masks"].as_subclass(Tensor), target["boxes"].as_subclass(Tensor).clone()
    left = masks * ~covered
    areas, before = left.sum(dim=(1, 2)), masks.sum(dim=(1, 2))
    cut = (areas > 0) & (areas < before)
    boxes[cut] = masks_to_boxes(left[cut]) + boxes.new_tensor([0, 0, 1, 1])  # whose last pixel counts as width 0
    merged = dict(target)
    merged["boxes"] = tv_tensors.wrap(torch.cat([boxes, other["boxes"][chosen]]), like=target["boxes"])
    merged["masks"] = tv_tensors.Mask(torch.cat([left, pasted]))
    for name in {"labels", "has_mask", "keypoints"} & target.keys():
        merged[name] = torch.cat([target[name], other[name][chosen]])
    sizes = zip(target["content_size"], other["content_size"], strict=True)
    merged["content_size"] = tuple(max(sides) for sides in sizes)
    return tv_tensors.wrap(torch.where(covered, other_image, image), like=image), merged
