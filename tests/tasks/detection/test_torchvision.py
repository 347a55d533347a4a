"""Our Mask R-CNN against torchvision's: its weights in, the same features in, the same detections out."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from botvision.data import Category
from botvision.tasks.detection import DetectorConfig, MaskRCNN
from botvision.tasks.detection.results import coco_results, in_original

CLASSES = 7
KINDS = [Category(number, f"kind {number}") for number in range(1, CLASSES + 1)]
CONTENT_SIZES = [(128, 160), (160, 101)]
AS_TORCHVISION = DetectorConfig(
    backbone="resnet50",
    variant="torchvision",
    norm_epsilon=1e-5,
    anchor_ratios=(0.5, 1.0, 2.0),
    proposals_before_nms=(2000, 1000),
    proposals=(2000, 1000),
)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def theirs(images, make_lively):
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES + 1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the running statistics become those of the one batch below
    with torch.no_grad():
        model.backbone.train()(images)
    return make_lively(model, class_strength=0.1)


@pytest.fixture(scope="module")
def ours(theirs):
    model = MaskRCNN(AS_TORCHVISION, CLASSES)
    model.load_state_dict(theirs.state_dict())
    return model.eval()


@pytest.fixture(scope="module")
def features(theirs, images):
    with torch.no_grad():
        return theirs.backbone(images)


def as_ours(features):
    return OrderedDict(zip(("p2", "p3", "p4", "p5", "pool"), features.values(), strict=True))


@pytest.fixture(scope="module")
def detections(theirs, ours, images, features):
    """Of torchvision and of us, for each image, from the same features."""
    batch = ImageList(images, CONTENT_SIZES)
    with torch.no_grad():
        their_proposals, _ = theirs.rpn(batch, features)
        their_detections, _ = theirs.roi_heads(features, their_proposals, CONTENT_SIZES)
        our_proposals, _ = ours.rpn(batch, as_ours(features))
        our_detections, _ = ours.roi_heads(as_ours(features), our_proposals, CONTENT_SIZES)
    return their_detections, our_detections


def test_the_backbone_gives_torchvisions_pyramid(ours, images, features):
    with torch.no_grad():
        pyramid = ours.backbone(images)
    for own, expected in zip(pyramid.values(), features.values(), strict=True):
        assert (own - expected).abs().max() < 1e-3 * expected.abs().max()  # float32 through 50 layers


def test_proposals_are_torchvisions(theirs, ours, images, features, monkeypatch):
    batch, scores, choose = ImageList(images, CONTENT_SIZES), [], theirs.rpn.filter_proposals

    def choose_and_keep(*given):
        boxes, found = choose(*given)
        scores.extend(found)
        return boxes, found

    monkeypatch.setattr(theirs.rpn, "filter_proposals", choose_and_keep)
    with torch.no_grad():
        expected, _ = theirs.rpn(batch, features)
        found, _ = ours.rpn(batch, as_ours(features))
    for own, other, score in zip(found, expected, scores, strict=True):
        assert len(own) == len(other) > 100
        distances = torch.cdist(own.double(), other.double())
        # Those of equal score may change places, as torchvision does not sort them: at each place is the same score.
        like = distances[:50].argmin(dim=1)
        assert torch.equal(score[like], score[:50])
        torch.testing.assert_close(own[:50], other[like], rtol=1e-4, atol=1e-3)
        # Further down, two of nearly equal score may change places.
        assert distances.min(dim=0).values.max() < 0.01
        assert distances.min(dim=1).values.max() < 0.01


def by_place(detected):
    """Detections in the order of their labels and boxes."""
    boxes, labels = detected["boxes"].tolist(), detected["labels"].tolist()
    order = sorted(range(len(boxes)), key=lambda index: (labels[index], boxes[index]))
    return {name: values[order] for name, values in detected.items()}


def test_detections_are_torchvisions(detections):
    for expected, found in zip(*detections, strict=True):
        assert len(expected["boxes"]) > 20
        assert len(expected["labels"].unique()) > 3
        assert expected["scores"].max() - expected["scores"].min() > 0.2
        # Detections of nearly equal score may change places between two orders of summation.
        found, expected = (by_place(detected) for detected in (found, expected))
        assert found["labels"].tolist() == expected["labels"].tolist()
        # What rounding makes of 12 544 products, in pixels and shares.
        torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=0, atol=0.02)
        torch.testing.assert_close(found["scores"], expected["scores"], rtol=0, atol=1e-3)
        torch.testing.assert_close(found["masks"], expected["masks"], rtol=0, atol=0.01)


def test_pixels_are_normalised_as_torchvision_does(lively_model, theirs):
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = []
    with torch.no_grad(), lively_model.backbone.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs)):
        lively_model(pixels)
    torch.testing.assert_close(seen[0], torch.stack([theirs.transform.normalize(image / 255) for image in pixels]))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_moved_to_the_original_image_as_torchvision_moves_them(detections):
    originals = [(250, 333), (411, 260)]
    transform = GeneralizedRCNNTransform(160, 160, [0.0] * 3, [1.0] * 3).eval()
    copies = [dict(found) for found in detections[1]]
    expected = transform.postprocess(copies, CONTENT_SIZES, originals)
    for found, other, content, original in zip(detections[1], expected, CONTENT_SIZES, originals, strict=True):
        moved = in_original(found, content, original)
        masks = [coco_mask.decode(row["segmentation"]) for row in coco_results(moved, 1, KINDS, original)]
        assert sum(mask.any() for mask in masks) > 10
        torch.testing.assert_close(moved["boxes"], other["boxes"])
        assert np.array_equal(np.stack(masks), (other["masks"][:, 0] > 0.5).numpy())
        assert torch.equal(moved["labels"], other["labels"])
        assert torch.equal(moved["scores"], other["scores"])
