"""The last steps of a training image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors

from botvision.configuration import FieldError
from botvision.data.loading import RunBatches, training_loader
from botvision.tasks.detection.config import DetectionExperiment
from botvision.tasks.detection.mask_targets import crop_masks
from botvision.tasks.detection.training_images import TrainingImages, paste

SIDE = 40


def sample(colour: int, boxes: list[tuple[int, int, int, int]], first_label: int = 1):
    """An image of one colour with rectangles whose grey value is their label."""
    image = torch.full((3, SIDE, SIDE), colour, dtype=torch.uint8)
    masks = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.uint8)
    labels = torch.arange(first_label, first_label + len(boxes))
    for mask, label, (x1, y1, x2, y2) in zip(masks, labels, boxes, strict=True):
        masks[:, y1:y2, x1:x2] = 0  # what is drawn later lies on top
        mask[y1:y2, x1:x2] = 1
        image[:, y1:y2, x1:x2] = label
    box = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return tv_tensors.Image(image), {
        "boxes": tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=(SIDE, SIDE)),
        "labels": labels,
        "masks": tv_tensors.Mask(masks),
        "has_mask": torch.ones(len(boxes), dtype=torch.bool),
        "content_size": (SIDE, SIDE),
    }


corner = st.integers(0, SIDE - 2)
box = st.tuples(corner, corner, st.integers(2, SIDE), st.integers(2, SIDE)).map(
    lambda b: (b[0], b[1], max(b[2], b[0] + 2), max(b[3], b[1] + 2))
)
boxes = st.lists(box, max_size=4)


@settings(max_examples=60, deadline=None)
@given(boxes, boxes, st.integers(0, 1000))
def test_every_pixel_belongs_to_the_object_that_is_seen_there(own, others, seed):
    """The grey value of a pixel is the label of the object whose mask has it, before and after pasting."""
    torch.manual_seed(seed)
    image, target = paste(*sample(200, own), *sample(220, others, first_label=101))
    pixels = image[0].as_subclass(torch.Tensor)
    assert target["masks"].amax(0).max() <= 1 if len(target["masks"]) else True
    for mask, label, (x1, y1, x2, y2) in zip(
        target["masks"].bool(), target["labels"], target["boxes"].int().tolist(), strict=True
    ):
        assert (pixels[mask] == label).all()
        assert mask.sum() == (pixels == label).sum()
        if label < 100 and mask.any():
            assert mask[y1:y2, x1:x2].sum() == mask.sum()  # nothing of it is outside of its box
    assert {int(value) for value in pixels.unique()} <= {200, *target["labels"].tolist()}


def test_the_box_of_what_is_partly_hidden_shrinks_and_what_is_hidden_goes():
    own = sample(200, [(5, 5, 25, 15), (30, 30, 34, 34)])
    other = sample(220, [(15, 0, 40, 20), (28, 28, 38, 38)], first_label=101)
    for seed in range(30):
        torch.manual_seed(seed)
        dataset = [own, other]
        image, target = TrainingImages(dataset, 1.0, 100)[0]
        if target["labels"].tolist() == [1, 101, 102]:
            break
    assert target["boxes"].tolist() == [[5, 5, 15, 15], [15, 0, 40, 20], [28, 28, 38, 38]]
    assert target["masks"].shape == (3, 112, 112)
    assert target["masks"].min() > 0.999
    assert image[0, 10, 20] == 101


def test_without_pasting_masks_are_cut_out_and_all_else_stays():
    image, target = sample(200, [(5, 5, 25, 15), (10, 8, 34, 34)])
    found_image, found = TrainingImages([(image, target)], 0.0, 100)[0]
    assert torch.equal(found_image, image)
    assert found.keys() == target.keys()
    assert torch.equal(found["masks"], crop_masks(target["masks"], target["boxes"]))


def test_what_is_pasted_follows_from_the_seed_and_the_place():
    dataset = TrainingImages([sample(200, [(5, 5, 25, 15)]), sample(220, [(15, 0, 40, 20)], 101)], 0.5, 100)
    batches = [
        [batch["images"] for batch in training_loader(dataset, RunBatches(2, 2, 6, seed=3, start=start), 0)]
        for start in (0, 0, 3)
    ]
    assert all(map(torch.equal, batches[0], batches[1]))
    assert all(map(torch.equal, batches[0][3:], batches[2]))
    assert not all(torch.equal(images, batches[0][0]) for images in batches[0])


@pytest.mark.parametrize("detector", ["faster_rcnn", "keypoint_rcnn"])
def test_pasting_needs_masks(detector):
    experiment = DetectionExperiment()
    with pytest.raises(FieldError, match=f"copy_paste.*{detector}"):
        experiment.replace(
            model=experiment.model.replace(detector=detector), data=experiment.data.replace(copy_paste=0.5)
        )
