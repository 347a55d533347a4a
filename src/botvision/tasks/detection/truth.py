"""The objects of a data set as COCO's metric reads them, and detections matched with them."""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from hotcoco import COCO, COCOeval
from hotcoco import mask as coco_mask

from botvision.data import CocoDetection, ImageRecord, keypoint_names
from botvision.data.annotations import Instance
from botvision.data.masks import run_lengths
from botvision.files import room_for
from botvision.tasks.detection.stored_results import write_list

KINDS: dict[str, Literal["bbox", "segm", "keypoints"]] = {"box": "bbox", "mask": "segm", "keypoint": "keypoints"}
FIELDS = {"box": "bbox", "mask": "segmentation", "keypoint": "keypoints"}
"""Where the metric finds what it compares."""

SIGMAS = {"nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107}
SIGMAS |= {"knee": 0.087, "ankle": 0.089}
OTHER_SIGMA = 0.05
"""COCO's spread of each keypoint among annotators, as a share of the square root of the object's area, by the name
without "left_" or "right_"; and that of keypoints with other names, a choice of this package."""


class CocoTruth:
    """The checked annotations of a data set: what detections are judged by.

    For keypoints the area of an object is that of its mask, or of its box where it has none; objects without keypoints
    are neither found nor missed.

    Attributes:
        numbers: the metric's number of each image, from 1 on, by COCO's id, in the order of the ids.
        labels: the label of each class, from 1 on, by COCO's id.
        objects: of each object what the metric needs; under the names of the kinds, 1 where it is neither found nor
            missed.
    """

    def __init__(self, dataset: CocoDetection) -> None:
        # In the order of their ids, as pycocotools has them: it decides between detections of equal scores.
        ids = sorted((image.id for image in dataset.images), key=lambda one: (isinstance(one, str), one))
        self.numbers = {one: number for number, one in enumerate(ids, start=1)}
        self.labels = {category.id: label for label, category in enumerate(dataset.categories, start=1)}
        self._keypoints = keypoint_names(dataset.categories)
        self._images = [
            {"id": self.numbers[image.id], "height": image.height, "width": image.width} for image in dataset.images
        ]
        rows = (
            _truth(instance, image, self.numbers[image.id], len(self._keypoints))
            for place, image in enumerate(dataset.images)
            for instance in dataset.instances(place)
        )
        # Ids from 1 on: the metric takes an object of id 0 for unmatched.
        self.objects = [{"id": number, **row} for number, row in enumerate(rows, start=1)]
        self._unknown_masks: dict[tuple[int, int], list[list[float]]] = defaultdict(list)
        for row in self.objects:
            if row["mask"] > row["box"]:
                self._unknown_masks[row["image_id"], row["category_id"]].append(row["bbox"])

    def match(self, results: Iterable[Mapping[str, Any]], kind: str, *, detections: int = 100) -> COCOeval:
        """Match detections with the objects, and count what is found at every score.

        Args:
            results: in COCO's results format, in pixels of the original images; they are read once, row by row.
            kind: "box", "mask" or "keypoint".
            detections: the most detections of an image that count for boxes and masks, the best ones.

        Returns:
            The metric, evaluated and accumulated. Images and classes have the numbers of this object.

        Raises:
            UserError: no space is left for temporary files.
        """
        categories = [{"id": label, "name": str(label)} for label in self.labels.values()]
        objects = [{**row, "iscrowd": row[kind]} for row in self.objects]
        truth = COCO({"images": self._images, "categories": categories, "annotations": objects})
        evaluation = COCOeval(truth, self._load(truth, results, kind), KINDS[kind])
        evaluation.params.cat_ids = list(self.labels.values())  # for keypoints it leaves out those without an object
        if kind == "keypoint":
            evaluation.params.kpt_oks_sigmas = [sigma(name) for name in self._keypoints]
        else:
            evaluation.params.max_dets = limits(detections)
        evaluation.evaluate()
        evaluation.accumulate()
        return evaluation

    def _load(self, truth: COCO, results: Iterable[Mapping[str, Any]], kind: str) -> COCO:
        """Results as the metric reads them: from a file, which takes far less memory than Python's objects."""
        folder = Path(tempfile.gettempdir())
        with room_for(folder), tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            write_list(self._scorable(results, kind), file)
            file.flush()
            return truth.load_res(file.name)

    def _scorable(self, results: Iterable[Mapping[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
        """Results with the metric's numbers. A mask comes without its box, so that its size is its own."""
        left_out = set(FIELDS.values()) - {FIELDS[kind]}
        for result in results:
            if FIELDS[kind] not in result:
                continue
            row = {name: value for name, value in result.items() if name not in left_out}
            row["image_id"] = self.numbers[result["image_id"]]
            row["category_id"] = self.labels[result["category_id"]]
            if kind != "mask" or not self._is_ignored(row, result):
                yield row

    def _is_ignored(self, row: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
        """Whether an empty mask was found for an object whose own mask is not known, going by the boxes."""
        boxes = self._unknown_masks.get((row["image_id"], row["category_id"]))
        if not boxes or coco_mask.area(row["segmentation"]):
            return False
        overlaps = coco_mask.iou([result["bbox"]], boxes, [0] * len(boxes))
        return bool((np.asarray(overlaps) >= 0.5).any())


def limits(detections: int) -> list[int]:
    """Numbers of detections an image that recall is measured at."""
    return [limit for limit in (1, 10) if limit < detections] + [detections]


def sigma(keypoint: str) -> float:
    """How far off a keypoint of this name may be; see :data:`SIGMAS`."""
    return SIGMAS.get(keypoint.removeprefix("left_").removeprefix("right_"), OTHER_SIGMA)


def _truth(instance: Instance, image: ImageRecord, number: int, keypoints: int) -> dict[str, Any]:
    """An object as the metric wants it; under the names of the kinds, 1 where it is neither found nor missed.

    This is so of crowds, and of the masks of objects whose mask is not known: there the box is the region. Of objects
    without keypoints the metric itself knows it.
    """
    size = (image.height, image.width)
    x1, y1, x2, y2 = instance.box
    runs = run_lengths(instance.segmentation, *size)
    area = int(coco_mask.area(runs))
    return {
        "image_id": number,
        "category_id": instance.label,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": runs if area else run_lengths([[x1, y1, x2, y1, x2, y2, x1, y2]], *size),
        "area": area or (x2 - x1) * (y2 - y1),
        "box": int(instance.crowd),
        "mask": int(instance.crowd or not area),
        "keypoint": int(instance.crowd),
        "keypoints": instance.keypoints or [0] * 3 * keypoints,
        "num_keypoints": sum(visibility > 0 for visibility in (instance.keypoints or [])[2::3]),
    }
