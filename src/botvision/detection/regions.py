"""The heads on regions: class, box and mask of each proposal."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import MultiScaleRoIAlign

from botvision.detection.backbone import batch_norm
from botvision.detection.config import DetectorConfig

BOX_POOL, MASK_POOL = 7, 14
"""Cells a side that a region is pooled to for the box head and for the mask head (He et al. 2017)."""


class RegionHeads(RoIHeads):
    """Fast R-CNN's box head and Mask R-CNN's mask head (He et al. 2017).

    Matching, sampling, pooling, decoding, NMS and the mask loss are torchvision's. Its forward pass is written anew
    for two reasons: the box loss averages a Huber loss over the foreground coordinates, as the authors' detection
    code does, and boxes are decoded in float32 where the network runs in bfloat16.
    """

    def __init__(self, config: DetectorConfig, channels: int, num_classes: int) -> None:
        levels = ["p2", "p3", "p4", "p5"]
        mask_layers = (config.mask_head_width,) * config.mask_head_depth
        norm = batch_norm(config) if config.norm == "batch" else None
        super().__init__(
            MultiScaleRoIAlign(levels, BOX_POOL, sampling_ratio=2),
            TwoMLPHead(channels * BOX_POOL**2, config.box_head_width),
            FastRCNNPredictor(config.box_head_width, num_classes),
            fg_iou_thresh=config.roi_iou,
            bg_iou_thresh=config.roi_iou,
            batch_size_per_image=config.roi_samples,
            positive_fraction=config.roi_foreground,
            bbox_reg_weights=None,
            score_thresh=config.score_threshold,
            nms_thresh=config.detection_nms,
            detections_per_img=config.detections,
            mask_roi_pool=MultiScaleRoIAlign(levels, MASK_POOL, sampling_ratio=2),
            mask_head=MaskRCNNHeads(channels, mask_layers, dilation=1, norm_layer=norm),
            mask_predictor=MaskRCNNPredictor(config.mask_head_width, config.mask_head_width, num_classes),
        )
        self.huber_delta = config.roi_huber_delta
        self.reset_box_head()

    def reset_box_head(self) -> None:
        """Glorot for the two wide layers, N(0, 0.01) for classes and N(0, 0.001) for boxes, as the authors' code."""
        for layer in (self.box_head.fc6, self.box_head.fc7):
            nn.init.xavier_uniform_(layer.weight)
        for layer, std in ((self.box_predictor.cls_score, 0.01), (self.box_predictor.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
        for layer in (*self.box_head.children(), *self.box_predictor.children()):
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Turn proposals into detections, or into losses in training.

        Args:
            features: the pyramid p2 to p6.
            proposals: (P, 4) of each image, in pixels.
            image_shapes: (height, width) of each image inside its padding, in pixels.
            targets: "boxes" (N, 4), "labels" (N,), "masks" (N, H, W) of each image; needed in training.

        Returns:
            In test, for each image "boxes" (D, 4), "labels" (D,), "scores" (D,) and "masks" (D, 1, 28, 28)
            probabilities inside the box; in training the losses "class", "box" and "mask". The other one is empty.
        """
        if self.training:
            return [], self.losses(features, proposals, targets)
        logits, deltas = self.classify(features, proposals)
        boxes, scores, labels = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        masks = maskrcnn_inference(self.segment(features, boxes), labels)
        columns = zip(boxes, scores, labels, masks, strict=True)
        return [dict(zip(("boxes", "scores", "labels", "masks"), row, strict=True)) for row in columns], {}

    def losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        targets: list[dict[str, Tensor]] | None,
    ) -> dict[str, Tensor]:
        """The losses of a training step; arguments as in :meth:`forward`."""
        regions, matched, labels, wanted = self.select_training_samples(proposals, targets)
        logits, deltas = self.classify(features, regions)
        label = torch.cat(labels)
        foreground = label > 0
        own_deltas = deltas.unflatten(1, (-1, 4))[foreground, label[foreground]]
        box = deltas.sum() * 0  # keeps the layer in the graph where no region is an object
        if foreground.any():
            box = F.huber_loss(own_deltas, torch.cat(wanted)[foreground], delta=self.huber_delta)
        objects = [label > 0 for label in labels]
        boxes = [region[keep] for region, keep in zip(regions, objects, strict=True)]
        matched_objects = [match[keep] for match, keep in zip(matched, objects, strict=True)]
        gt_masks = [target["masks"] for target in targets or []]
        gt_labels = [target["labels"] for target in targets or []]
        mask_logits = self.segment(features, boxes)
        return {
            "class": F.cross_entropy(logits, label),
            "box": box,
            "mask": maskrcnn_loss(mask_logits, boxes, gt_masks, gt_labels, matched_objects),
        }

    def classify(self, features: dict[str, Tensor], regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits (R, K + 1) and box deltas (R, 4 * (K + 1)) of all regions of the batch, in float32."""
        pooled = self.box_roi_pool(features, regions, input_shapes(features))
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits.float(), deltas.float()

    def segment(self, features: dict[str, Tensor], regions: list[Tensor]) -> Tensor:
        """Mask logits (R, K + 1, 28, 28) of all regions of the batch, in float32."""
        pooled = self.mask_roi_pool(features, regions, input_shapes(features))
        return self.mask_predictor(self.mask_head(pooled)).float()


def input_shapes(features: dict[str, Tensor]) -> list[tuple[int, int]]:
    """(height, width) of the network's input, padding included, once for each image, in pixels.

    The pooling works out the strides of the maps from it, at its first call for good: an image without its padding
    would have it pool from the wrong places.
    """
    finest = features["p2"]
    return [(4 * finest.shape[-2], 4 * finest.shape[-1])] * len(finest)
