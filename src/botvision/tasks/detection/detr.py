"""DETR on any backbone of the catalogue: detection as the prediction of a set (Carion et al. 2020, 2005.12872)."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import MLP, box_convert

from botvision.attention.positions import without_autocast
from botvision.models import Network
from botvision.models.network import over
from botvision.tasks.detection.config import DetrConfig, DetrOptimizer
from botvision.tasks.detection.detector import Detector
from botvision.tasks.detection.matching import Objects, set_losses
from botvision.tasks.detection.ranking import best_first
from botvision.tasks.detection.transformer import Transformer


class Detr(Detector):
    """Boxes and classes of the objects in an image, each from one query: no anchors, no proposals, no NMS.

    The padding of an image has no part in any attention, that of the backbone included. Arguments and shapes are those
    of ``Detector``. The losses are sums over the layers of the decoder. Masks are not predicted.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("class", "box", "giou")
    backbone: "ProjectedBackbone"

    def __init__(self, config: DetrConfig, num_classes: int) -> None:
        super().__init__(config, num_classes)
        self.backbone = ProjectedBackbone(config)
        self.transformer = Transformer(config)
        self.classify = nn.Linear(config.hidden, num_classes + 1)
        self.locate = MLP(config.hidden, [config.hidden, config.hidden, 4])
        self.finish()

    @property
    def trunk(self) -> Network:
        """The backbone without the projection."""
        return self.backbone.body

    def forward(
        self,
        images: Tensor,
        content_sizes: list[tuple[int, int]] | None = None,
        targets: list[dict[str, Tensor]] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in test; see ``Detector``."""
        if self.training and targets is None:
            raise ValueError("targets are needed in training")
        sizes = content_sizes or [(images.shape[-2], images.shape[-1])] * len(images)
        content = torch.tensor(sizes, device=images.device)
        logits, boxes = self.answers(images, content)
        scale = content.flip(1).repeat(1, 2)  # width, height, width, height
        if not self.training:
            return self.detections(logits[-1], boxes[-1] * scale[:, None])
        objects = [
            Objects(target["labels"], box_convert(target["boxes"].as_subclass(Tensor), "xyxy", "cxcywh") / of)
            for target, of in zip(targets or [], scale, strict=True)
        ]
        return set_losses(logits, boxes, objects)

    def answers(self, images: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
        """What each query finds, after each layer of the decoder.

        Args:
            images: (B, 3, H, W), as for :meth:`forward`.
            content: (B, 2), the content sizes.

        Returns:
            Logits (layers, B, queries, K + 1), of "no object" first, and boxes (layers, B, queries, 4), centre and
            size in shares of the content.
        """
        features = self.backbone(self.normalised(images), content)
        decoded = self.transformer(features, over(content, self.trunk.config.reductions[-1]))
        with without_autocast(decoded):  # boxes in bfloat16 would be off by pixels
            decoded = decoded.to(self.classify.weight.dtype)
            return self.classify(decoded), self.locate(decoded).sigmoid()

    def detections(self, logits: Tensor, boxes: Tensor) -> list[dict[str, Tensor]]:
        """The best queries of each image: the probability of the likeliest class is the score of a query.

        Args:
            logits: (B, queries, K + 1), of "no object" first.
            boxes: (B, queries, 4), centre and size, in pixels.
        """
        corners, labels, scores = self.best(logits, boxes)
        rows = zip(corners, labels, scores, strict=True)
        return [{"boxes": box, "labels": label, "scores": score} for box, label, score in rows]

    def best(self, logits: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best queries of each image: boxes (B, D, 4) as corners, labels (B, D) and scores (B, D), best first."""
        scores, labels = logits.softmax(dim=-1)[..., 1:].max(dim=-1)
        scores, best = best_first(scores, self.config.detections)
        image = torch.arange(best.shape[0], device=best.device)[:, None]
        corners = box_convert(boxes[image, best], "cxcywh", "xyxy")
        return corners, labels[image, best] + 1, scores

    def optimizer(self, config: DetrOptimizer) -> torch.optim.AdamW:
        """AdamW with a smaller learning rate for the backbone; all weights decay, as in the authors' code."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        backbone = set(self.trunk.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [parameter for parameter in trained if parameter not in backbone]},
            {"params": [parameter for parameter in trained if parameter in backbone], "lr": config.backbone_lr},
        ]
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)


class ProjectedBackbone(nn.Module):
    """The last map of a network of the catalogue, whose attention leaves out the padding, at the transformer's width.

    Shape:
        images (B, 3, H, W), normalised; content_size (B, 2), in pixels -> (B, hidden, H/32, W/32).
    """

    def __init__(self, config: DetrConfig) -> None:
        super().__init__()
        self.body = Network(config.network(), features_only=True)
        self.project = nn.Conv2d(self.body.config.channels[-1], config.hidden, kernel_size=1)

    def forward(self, images: Tensor, content_size: Tensor) -> Tensor:
        """See the shapes of the class."""
        return self.project(self.body(images, content_size)[-1])
