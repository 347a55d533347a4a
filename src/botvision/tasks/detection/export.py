"""Detectors for ``botvision export``: pixels and their size in, detections out."""

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional as F

from botvision.errors import UserError
from botvision.models import fold
from botvision.tasks.detection.checkpoint import TASK, LoadedDetector
from botvision.tasks.detection.detector import Detector
from botvision.tasks.detection.detr import Detr
from botvision.tasks.detection.keypoint_rcnn import KeypointRCNN
from botvision.tasks.detection.rcnn import RCNN
from botvision.tasks.detection.results import MASK_THRESHOLD
from botvision.tasks.detection.tensor_programs import DetrProgram, RCNNProgram
from botvision.tasks.detection.transforms import ScaleAndCrop
from botvision.tasks.exportable import Exportable, Tensors

CELL = 64
"""Stride of p6, the coarsest map, in pixels."""
LEAST_IOU, LARGEST_SCORE_DIFFERENCE, LARGEST_SCORE_SHARE, LARGEST_MASK_DIFFERENCE = 0.99, 1e-3, 1e-2, 1e-2
"""Between detections of a model and of its export that are the same: of boxes, of scores, also as a share of the score,
and of the probability of a pixel of the mask."""


ROUNDING = 1e-6
"""Of the largest number of an image: noise about as large as the rounding of float32 in the first layers."""


class ExportableDetector(Exportable):
    """A detector and its classes.

    Raises:
        UserError: Keypoint R-CNN, whose places of keypoints torchvision computes box by box.
    """

    def __init__(self, detector: LoadedDetector) -> None:
        model = detector.model
        if isinstance(model, KeypointRCNN):
            raise UserError(f"{detector.path}: Keypoint R-CNN cannot be exported; the other detectors can")
        config: Any = model.config
        super().__init__(
            TASK,
            config.input_size,
            in_channels=config.in_channels,
            mean=(0.0,) * len(config.mean),
            std=(1.0,) * len(config.mean),
            model=config.detector,
            backbone=config.backbone,
            longer_side=config.input_size,
            padding_colour=config.padding,
            class_names=[category.name for category in detector.categories],
            category_ids=[category.id for category in detector.categories],
            score_threshold=getattr(config, "score_threshold", 0.0),
            mask_threshold=MASK_THRESHOLD,
        )
        self.model, self.padding = model, config.padding
        if isinstance(model, Detr):
            self.program = DetrProgram(model).eval()
        elif isinstance(model, RCNN):
            self.program = RCNNProgram(model).eval()
            self.least_side = CELL + 1
        else:
            raise UserError(f"{detector.path}: the detector {config.detector} cannot be exported")
        self.axes = {"images": {0: "batch", 2: "height", 3: "width"}, "content_size": {0: "batch"}}
        self.outputs = ("boxes", "labels", "scores", *(["masks"] if "mask" in model.predicts else []))

    def inputs(self, image: Tensor) -> tuple[Tensor, ...]:
        """The whole photograph with a longer side of the input size, padded to whole cells of all maps where it can."""
        content, _ = ScaleAndCrop(self.input_size, (1.0, 1.0))(image, {})
        height, width = content.shape[1:]
        right, below = (
            min(max(-side % CELL, self.least_side - side), self.input_size - side) for side in (width, height)
        )
        padded = F.pad(content, [0, 0, right, below], fill=list(self.padding))
        return padded.as_subclass(Tensor)[None].float(), torch.tensor([[height, width]])

    def eager(self, *inputs: Tensor) -> Tensors:
        """The detections of the detector itself, one after the other, filled up with zeros."""
        return self.detections(self.model, *inputs)

    def is_undecided(self, *inputs: Tensor) -> bool:
        """Whether the detector finds something else once its batch norms are folded, or with noise in the images.

        Folding rounds all cells of a flat area alike; noise does not, as other software may not.
        """
        images, content_size = inputs
        wanted, folded = self.eager(*inputs), fold(self.model)
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * images.abs().max() * ROUNDING
        return any(
            self.difference(wanted, self.detections(folded, changed, content_size))
            for changed in (images, images + noise)
        )

    def detections(self, model: Detector, images: Tensor, content_size: Tensor) -> Tensors:
        """What a detector in test finds, in the form of :meth:`eager`."""
        answers = {name: torch.empty(0) for name in self.outputs}
        found = model(images, [(int(height), int(width)) for height, width in content_size])
        most = max(len(detections["scores"]) for detections in found)
        for name in answers:
            rows = [detections[name] for detections in found]
            if name == "masks":
                rows = [masks[:, 0] for masks in rows]
            answers[name] = torch.stack([torch.cat([r, r.new_zeros(most - len(r), *r.shape[1:])]) for r in rows])
        return answers

    def difference(self, wanted: Tensors, found: Tensors) -> str | None:
        """The first detection without its like on the other side, each having one partner.

        One whose score is so near to the weakest that can be reported may be missing.
        """
        for image in range(len(wanted["scores"])):
            ours, theirs = ({name: rows[image] for name, rows in side.items()} for side in (wanted, found))
            if not (ours["scores"].isfinite().all() and theirs["scores"].isfinite().all()):
                return "scores are not finite"
            least = self.least_certain(ours["scores"])
            for name, side, is_alone in zip(("model", "export"), (ours, theirs), alone(ours, theirs), strict=True):
                missing = is_alone & (side["scores"] > least)
                if missing.any():
                    first = int(missing.nonzero()[0])
                    box = [round(number, 1) for number in side["boxes"][first].tolist()]
                    label, score = int(side["labels"][first]), float(side["scores"][first])
                    return f"the {name} alone finds label {label} at {box} with score {score:.4f}"
        return None

    def is_telling(self, wanted: Tensors) -> bool:
        """Whether there are detections that cannot be missing."""
        return any(bool((scores > self.least_certain(scores)).any()) for scores in wanted["scores"])

    def least_certain(self, scores: Tensor) -> float:
        """The score up to which a detection may be missing, given those (D,) of the model's detections."""
        reported = scores[scores > 0]
        least = float(self.metadata["score_threshold"])
        if len(reported) == self.model.config.detections:
            least = float(reported.min())
        return least + min(LARGEST_SCORE_DIFFERENCE, LARGEST_SCORE_SHARE * least)


def alone(wanted: Tensors, found: Tensors) -> tuple[Tensor, Tensor]:
    """Which detections of an image have no partner on the other side: (D,) and (D',) bool. The best choose first."""
    likeness = same_detections(wanted, found)
    mine, theirs = wanted["scores"] > 0, found["scores"] > 0
    for row in wanted["scores"].argsort(descending=True):
        if theirs.numel() and likeness[row].max() > 0:
            column = likeness[row].argmax()
            mine[row], theirs[column], likeness[:, column] = False, False, 0.0
    return mine, theirs


def same_detections(wanted: Tensors, found: Tensors) -> Tensor:
    """IoU (D, D') of the detections of an image that are the same, 0 of the others, and of rows that are none."""
    scores = wanted["scores"][:, None]
    difference = (scores - found["scores"]).abs()
    alike = (wanted["labels"][:, None] == found["labels"]) & (scores > 0) & (found["scores"] > 0)
    alike &= (difference <= LARGEST_SCORE_DIFFERENCE) & (difference <= LARGEST_SCORE_SHARE * scores)
    iou = box_iou(wanted["boxes"], found["boxes"])
    alike &= iou > LEAST_IOU
    if "masks" in wanted:
        for row, column in alike.nonzero().tolist():
            off = (wanted["masks"][row] - found["masks"][column]).abs().max()
            alike[row, column] = bool(off <= LARGEST_MASK_DIFFERENCE)
    return iou.where(alike, 0.0)


def exportable(detector: LoadedDetector) -> Exportable:
    """The detector in the form in which it is exported; errors as of :class:`ExportableDetector`."""
    return ExportableDetector(detector)
