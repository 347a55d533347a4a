"""Running a detector over a data set."""

import pytest
import torch

from botvision.data import CocoDetection
from botvision.tasks.detection.coco import coco_scores
from botvision.tasks.detection.evaluate import evaluate_detector
from botvision.tasks.detection.results import coco_results, in_original
from botvision.tasks.detection.transforms import eval_transform


@pytest.fixture
def images(shapes, tiny) -> CocoDetection:
    return CocoDetection(shapes, "val", eval_transform(tiny.input_size))


def by_image(results: list[dict]) -> dict[int, list[dict]]:
    ordered: dict[int, list[dict]] = {}
    for result in results:
        ordered.setdefault(result["image_id"], []).append(result)
    return ordered


def assert_same_detections(found, expected):
    found, expected = by_image(found), by_image(expected)
    assert found.keys() == expected.keys()
    for image in expected:
        assert [r["category_id"] for r in found[image]] == [r["category_id"] for r in expected[image]]
        for own, other in zip(found[image], expected[image], strict=True):
            assert own["bbox"] == pytest.approx(other["bbox"], abs=0.02)
            assert own["score"] == pytest.approx(other["score"], abs=1e-4)


@pytest.fixture
def one_by_one(lively_model, images) -> list[dict]:
    results = evaluate_detector(lively_model, images, batch_size=1).results
    assert len(results) > 200
    return results


@pytest.mark.parametrize(("batch_size", "workers"), [(2, 0), (3, 0), (4, 1)])
def test_detections_do_not_depend_on_batch_size_or_workers(lively_model, images, one_by_one, batch_size, workers):
    results = evaluate_detector(lively_model, images, batch_size=batch_size, workers=workers).results
    assert_same_detections(results, one_by_one)


def test_detections_do_not_depend_on_the_order_of_the_images(lively_model, images, one_by_one):
    shuffled = Reordered(images, (2, 0, 3, 1))
    results = evaluate_detector(lively_model, shuffled, batch_size=2).results
    assert list(by_image(results)) == [image.id for image in shuffled.images]
    assert_same_detections(results, one_by_one)


class Reordered:
    """A data set in another order."""

    def __init__(self, dataset: CocoDetection, order: tuple[int, ...]) -> None:
        self.dataset, self.order = dataset, order
        self.categories, self.annotated = dataset.categories, dataset.annotated
        self.images = [dataset.images[index] for index in order]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int):
        return self.dataset[self.order[index]]

    def instances(self, index: int):
        return self.dataset.instances(self.order[index])


def test_scores_are_those_of_the_results_and_boxes_lie_in_the_original_images(lively_model, images):
    evaluation = evaluate_detector(lively_model, images, batch_size=4)
    results = evaluation.results
    assert evaluation.scores == coco_scores(images, results, ["box", "mask"], detections=100)
    assert evaluation.best == evaluation.scores["mask"]["ap"] == evaluation.columns["val_mask_ap"]
    assert len({image.height for image in images.images} | {image.width for image in images.images}) > 1
    for image, target in images:
        with torch.no_grad():
            detected = lively_model(image[None], [target["content_size"]])[0]
        found = in_original(detected, target["content_size"], target["original_size"])
        own = by_image(results)[target["image_id"]]
        assert_same_detections(own, coco_results(found, target["image_id"], images.categories, target["original_size"]))
        for result in own:
            x, y, width, height = result["bbox"]
            assert 0 <= x <= x + width <= target["original_size"][1] + 1e-3
            assert 0 <= y <= y + height <= target["original_size"][0] + 1e-3
            assert result["segmentation"]["size"] == list(target["original_size"])


def test_progress_is_told_and_the_mode_of_the_model_is_kept(lively_model, images):
    told = []
    lively_model.train()
    try:
        evaluate_detector(lively_model, images, batch_size=3, on_image=lambda done, total: told.append((done, total)))
        assert lively_model.training
    finally:
        lively_model.eval()
    assert told == [(3, 4), (4, 4)]
