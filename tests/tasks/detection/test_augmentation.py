"""What is drawn at random in training, and a known shape from its file to the network's input."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.stats import kstest
from torch import Tensor
from torchvision import tv_tensors

from botvision.data import CocoDetection
from botvision.tasks.detection.transforms import train_transform

DRAWS, HEIGHT, WIDTH, INPUT = 10_000, 24, 512, 256
FARTHEST = 0.025
"""Largest distance of two distribution functions: what 10,000 draws exceed once in 100,000 times, and rounding."""
CORNERS = np.array([[40, 30], [130, 50], [60, 110]])
"""Of a triangle, x and y in pixels."""


def test_scales_crops_and_flips_have_the_distributions_of_their_definition():
    """Seen by two keypoints, the ends of an image: they move with it, also out of the crop."""
    torch.manual_seed(0)
    lowest, highest = 0.1, 2.0  # paper, Table 3
    transform = train_transform(INPUT, (lowest, highest))
    image = tv_tensors.Image(torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes(
        torch.tensor([[0.0, 0, WIDTH, HEIGHT]]), format="XYXY", canvas_size=(HEIGHT, WIDTH)
    )
    ends = torch.tensor([[[0.0, 0, 2], [WIDTH, 0, 2]]])
    target = {"boxes": boxes, "labels": torch.tensor([1]), "keypoints": ends, "keypoint_mirror": torch.tensor([0, 1])}
    drawn = torch.stack([transform(image, target)[1]["keypoints"][0, :, 0] for _ in range(DRAWS)])
    first, last = drawn.double().numpy().T
    scales = abs(last - first) / INPUT  # 1 where the whole image just fits
    assert kstest(scales, "uniform", (lowest, highest - lowest)).statistic < FARTHEST
    flipped, start = first > last, np.minimum(first, last)
    assert flipped.mean() == pytest.approx(0.5, abs=FARTHEST)
    assert kstest(scales[flipped], scales[~flipped]).statistic < 2 * FARTHEST
    cropped = scales > 1.1
    shares = -start[cropped] / (INPUT * (scales[cropped] - 1))  # 0 at the left end, 1 at the right
    assert kstest(shares, "uniform").statistic < 2 * FARTHEST
    assert not start[scales < 1].any()  # padding is at the end


@pytest.fixture(scope="module")
def triangle(tmp_path_factory) -> CocoDetection:
    """A data set of one image, a white triangle on black with its corners as keypoints, in COCO's files."""
    folder = tmp_path_factory.mktemp("triangle")
    (folder / "annotations").mkdir()
    (folder / "train").mkdir()
    picture = Image.new("RGB", (160, 120))
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in CORNERS.tolist()], fill="white")
    picture.save(folder / "train" / "1.png")
    (x1, y1), (x2, y2) = CORNERS.min(axis=0).tolist(), CORNERS.max(axis=0).tolist()
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [x1, y1, x2 + 1 - x1, y2 + 1 - y1],
        "segmentation": [(CORNERS + 0.5).flatten().tolist()],
        "keypoints": [value for corner in CORNERS.tolist() for value in (*corner, 2)],
        "num_keypoints": 3,
        "iscrowd": 0,
    }
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 120, "width": 160}],
        "categories": [{"id": 1, "name": "triangle", "keypoints": ["first", "second", "third"], "skeleton": []}],
        "annotations": [annotation],
    }
    (folder / "annotations" / "person_keypoints_train.json").write_text(json.dumps(content))
    return CocoDetection(folder, "train", train_transform(128, (0.3, 2.0)), masks=True, keypoints=True)


def test_box_mask_and_keypoints_stay_on_a_shape_from_its_file_to_the_network(triangle):
    whole = 0
    for seed in range(60):
        torch.manual_seed(seed)
        image, target = triangle[0]
        height, width = target["content_size"]
        white = image[0, :height, :width] > 127
        if not len(target["boxes"]):
            assert white.sum() <= height + width  # at most an edge of it is seen
            continue
        mask = target["masks"][0, :height, :width].as_subclass(Tensor).bool()
        assert (white ^ mask).sum() <= 0.15 * white.sum() + 12  # the polygon's edge goes through pixels' middles
        y, x = white.nonzero(as_tuple=True)
        seen = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        box, points = target["boxes"][0].as_subclass(Tensor), target["keypoints"][0]
        assert (seen[:2] - box[:2] > -2.5).all()
        assert (box[2:] - seen[2:] > -2.5).all()
        if (points[:, 2] == 2).all():
            whole += 1
            torch.testing.assert_close(box, seen, atol=2.5, rtol=0)
            low, high = points[:, :2].amin(dim=0), points[:, :2].amax(dim=0)
            torch.testing.assert_close(torch.cat([low, high]), seen, atol=2.5, rtol=0)
            for px, py in points[:, :2].tolist():
                around = white[max(int(py) - 2, 0) : int(py) + 3, max(int(px) - 2, 0) : int(px) + 3]
                assert 0 < around.sum() < around.numel()  # a corner: some of what is around is white
    assert whole > 20
