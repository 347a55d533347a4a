"""What must hold of every transform, on images and instances of any size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors

from botvision.data import CocoDetection
from botvision.tasks.detection.transforms import eval_transform, points_to_original, to_original, train_transform

MEAN_COLOUR = torch.tensor([124, 116, 104], dtype=torch.uint8)


def item(height: int, width: int, boxes: list[tuple[int, int, int, int]], with_masks: bool = True):
    """An image that is white inside the boxes and black elsewhere, whose masks fill their boxes."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    image = 255 * masks.amax(0).expand(3, -1, -1) if boxes else torch.zeros(3, height, width, dtype=torch.uint8)
    target = {
        "boxes": tv_tensors.BoundingBoxes(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), format="XYXY", canvas_size=(height, width)
        ),
        "labels": torch.arange(1, len(boxes) + 1),
        "image_id": 3,
        "original_size": (height, width),
    }
    if with_masks:
        target["masks"] = tv_tensors.Mask(masks)
    return tv_tensors.Image(image), target


@st.composite
def items(draw):
    height, width = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))))
    return item(height, width, boxes)


@st.composite
def train_transforms(draw):
    smallest = draw(st.floats(0.05, 2.0))
    jitter = (smallest, smallest * draw(st.floats(1, 10)))
    torch.manual_seed(draw(st.integers(0, 1000)))
    return train_transform(draw(st.integers(8, 96)), jitter, draw(st.sampled_from([0.0, 0.5, 1.0])))


def check_square(image, target, size: int, rounding: float = 0.51) -> None:
    assert image.shape == (3, size, size)
    assert image.dtype == torch.uint8
    height, width = target["content_size"]
    assert 1 <= min(height, width) <= max(height, width) <= size
    boxes, masks = target["boxes"], target["masks"]
    assert len(boxes) == len(masks) == len(target["labels"])
    assert boxes.canvas_size == (size, size)
    assert masks.shape[1:] == (size, size)
    assert masks.dtype == torch.uint8
    assert (boxes >= 0).all()
    assert (boxes[:, 0::2] <= width).all()
    assert (boxes[:, 1::2] <= height).all()
    assert not masks[:, height:].any()
    assert not masks[:, :, width:].any()
    for padding in (image[:, height:], image[:, :, width:]):
        assert (padding == MEAN_COLOUR[:, None, None]).all()
    for box, mask in zip(boxes, masks, strict=True):
        y, x = mask.nonzero(as_tuple=True)
        if len(x):  # a pixel spans from its index to the next
            found = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
            assert (found[:2] >= box[:2] - rounding).all()
            assert (found[2:] <= box[2:] + rounding).all()


@given(items(), train_transforms())
@settings(max_examples=300, deadline=None)
def test_training_items_are_consistent(sample, transform):
    image, target = transform(*sample)
    check_square(image, target, image.shape[-1])
    assert (target["boxes"][:, 2:] - target["boxes"][:, :2] >= 1).all()
    assert all(mask.any() for mask in target["masks"])
    assert (target["image_id"], target["original_size"]) == (3, sample[1]["original_size"])


@given(items(), st.integers(8, 96))
@settings(max_examples=200, deadline=None)
def test_evaluation_items_are_consistent_and_go_back_to_the_original(sample, size):
    image, target = eval_transform(size)(*sample)
    check_square(image, target, size)
    assert max(target["content_size"]) == size
    assert torch.equal(target["labels"], sample[1]["labels"])
    back = to_original(target["boxes"], target["content_size"], target["original_size"])
    torch.testing.assert_close(back, sample[1]["boxes"].as_subclass(torch.Tensor), rtol=1e-4, atol=1e-3)


def test_boxes_beyond_the_content_are_clipped_to_the_original():
    boxes = torch.tensor([[-3.0, 10.0, 200.0, 64.0]])
    assert to_original(boxes, (32, 64), (100, 200)).tolist() == [[0, 31.25, 200, 100]]


@given(st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_image_and_masks_stay_on_each_other(seed):
    torch.manual_seed(seed)
    image, target = train_transform(64, (0.5, 3.0))(*item(50, 70, [(10, 5, 60, 45)]))
    height, width = target["content_size"]
    white = image[0, :height, :width] > 127
    mask = target["masks"][0, :height, :width].bool() if len(target["masks"]) else torch.zeros_like(white)
    assert (white ^ mask).sum() <= 2 * (height + width)  # half a pixel along the border


@given(items(), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_two_flips_change_nothing_and_one_mirrors(sample, side):
    boxes = [(0, 0, side, 1), (side // 2, side // 3, side, side)]
    image, target = item(side, side, boxes)
    noise = tv_tensors.Image(torch.randint(0, 256, image.shape, dtype=torch.uint8))
    flip = train_transform(side, (1.0, 1.0), flip=1.0)
    once, target_once = flip(noise, target)
    assert torch.equal(once, noise.flip(-1))
    assert torch.equal(target_once["masks"], target["masks"].flip(-1))
    assert target_once["boxes"][0].tolist() == [0, 0, side, 1]
    twice, target_twice = flip(once, target_once)
    assert torch.equal(twice, noise)
    assert torch.equal(target_twice["masks"], target["masks"])
    assert torch.equal(target_twice["boxes"], target["boxes"])


def test_a_factor_of_one_without_flip_fits_the_whole_image():
    sample = item(40, 60, [(10, 10, 30, 30)])
    trained, evaluated = train_transform(30, (1.0, 1.0), flip=0.0)(*sample), eval_transform(30)(*sample)
    assert torch.equal(trained[0], evaluated[0])
    assert evaluated[1]["content_size"] == (20, 30)
    assert evaluated[1]["boxes"].tolist() == [[5, 5, 15, 15]]


def test_the_scale_covers_the_range_asked_for():
    sizes = []
    transform = train_transform(100, (0.2, 0.8))
    torch.manual_seed(0)
    for _ in range(200):
        height, width = transform(*item(50, 100, []))[1]["content_size"]
        assert width == pytest.approx(2 * height, abs=1)
        sizes.append(width)
    assert 20 <= min(sizes) < 25
    assert 75 < max(sizes) <= 80


def test_crops_come_from_everywhere():
    image, target = item(10, 100, [])
    image[0] = torch.arange(100, dtype=torch.uint8)
    torch.manual_seed(0)
    lefts = {int(train_transform(20, (5.0, 5.0), flip=0.0)(image, target)[0][0, 0, 0]) for _ in range(600)}
    assert {0, 40, 80} <= {left for left in lefts if left <= 80}
    assert max(lefts) <= 80


def test_instances_too_small_to_see_are_removed_in_training_alone():
    sample = item(100, 100, [(0, 0, 2, 50), (20, 20, 80, 80)])
    keypoints = torch.tensor([[[1.0, 5, 2]], [[50, 30, 1]]])
    trained = train_transform(20, (1.0, 1.0))(sample[0], sample[1] | {"keypoints": keypoints, "keypoint_mirror": [0]})[
        1
    ]
    assert trained["labels"].tolist() == [2]
    assert trained["keypoints"].tolist() == [[[10, 6, 1]]]
    assert eval_transform(20)(*sample)[1]["labels"].tolist() == [1, 2]
    sample[1]["masks"][1] = 0
    assert train_transform(20, (1.0, 1.0))(*sample)[1]["masks"].shape == (0, 20, 20)


def test_targets_without_masks_or_without_anything():
    image, target = item(40, 60, [(10, 10, 30, 30)], with_masks=False)
    _, target = train_transform(30, (1.0, 1.0))(image, target)
    assert "masks" not in target
    assert len(target["boxes"]) == 1
    assert eval_transform(30)(image, {})[1] == {"content_size": (20, 30)}


@pytest.mark.parametrize("jitter", [(0.1, 2.0), (0.8, 1.25)])
def test_images_of_a_data_set_stay_consistent(shapes, jitter):
    torch.manual_seed(0)
    dataset = CocoDetection(shapes, "train", train_transform(160, jitter))
    kept = 0
    for image, target in map(dataset.__getitem__, range(len(dataset))):
        check_square(image, target, 160)
        kept += len(target["labels"])
    assert kept > len(dataset)


def test_an_object_whose_mask_is_not_known_stays():
    boxes = tv_tensors.BoundingBoxes(
        torch.tensor([[2.0, 2, 30, 30], [4, 4, 20, 20], [8, 8, 8.5, 20]]), format="XYXY", canvas_size=(40, 40)
    )
    masks = torch.zeros(3, 40, 40, dtype=torch.uint8)
    target = {"boxes": boxes, "labels": torch.arange(1, 4), "masks": tv_tensors.Mask(masks)}
    target["has_mask"] = torch.tensor([False, True, False])
    image = tv_tensors.Image(torch.zeros(3, 40, 40, dtype=torch.uint8))
    _, kept = train_transform(40, (1.0, 1.0), flip=0.0)(image, target)
    assert kept["labels"].tolist() == [1]  # the second became invisible, the third is too narrow
    assert kept["has_mask"].tolist() == [False]
    assert kept["masks"].shape == (1, 40, 40)


@given(seed=st.integers(0, 10_000), flip=st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_keypoints_stay_on_the_dots_that_they_mark(draw_figure, seed, flip):
    torch.manual_seed(seed)
    picture, annotation = draw_figure(np.random.default_rng(seed), side=90, dot=4)
    x, y, width, height = annotation["bbox"]
    _, target = item(90, 90, [(x, y, x + width, y + height)])
    keypoints = torch.tensor(annotation["keypoints"], dtype=torch.float32).reshape(1, 3, 3)
    target |= {"keypoints": keypoints + torch.tensor([0.5, 0.5, 0]), "keypoint_mirror": torch.tensor([0, 2, 1])}
    image = tv_tensors.Image(torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1))
    image, target = train_transform(100, (0.5, 2.5), flip)(image, target)
    if not len(target["boxes"]):
        assert target["keypoints"].shape == (0, 3, 3)
        return
    height, width = target["content_size"]
    colours = (0, 2, 1) if flip else (0, 1, 2)  # the left hand is green, in a mirrored image the right one
    for colour, (x, y, visibility) in zip(colours, target["keypoints"][0].tolist(), strict=True):
        assert visibility == 2 * (0 <= x <= width and 0 <= y <= height)
        others = image.float().sum(dim=0) - image[colour]
        rows, columns = ((image[colour] > 200) & (others < 60)).nonzero(as_tuple=True)
        inside = (rows > 0) & (rows < height - 1) & (columns > 0) & (columns < width - 1)
        if len(inside) and inside.all():  # the dot is not cut by the border
            assert x == pytest.approx(float(columns.float().mean()) + 0.5, abs=0.8)
            assert y == pytest.approx(float(rows.float().mean()) + 0.5, abs=0.8)
            assert target["boxes"][0, 0] - 0.1 <= x <= target["boxes"][0, 2] + 0.1


@given(st.integers(0, 10_000), st.integers(8, 300))
@settings(max_examples=30, deadline=None)
def test_keypoints_of_evaluation_go_back_to_the_file(seed, size):
    torch.manual_seed(seed)
    image, target = item(50, 120, [(10, 10, 100, 40)])
    keypoints = torch.rand(1, 5, 3) * torch.tensor([120, 50, 1])
    _, made = eval_transform(size)(image, target | {"keypoints": keypoints, "keypoint_mirror": torch.arange(5)})
    back = points_to_original(made["keypoints"], made["content_size"], made["original_size"])
    torch.testing.assert_close(back, keypoints, rtol=1e-5, atol=1e-4)
