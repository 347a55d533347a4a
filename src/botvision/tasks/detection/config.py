"""The settings of a detection experiment. Defaults are those of the authors' public TPU detection code.

That code is github.com/tensorflow/tpu, models/official/detection.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from botvision.configuration import Config, Count, CountOrZero, FieldError, NotNegative, Positive, Share, ShareBelow1
from botvision.errors import short
from botvision.models import NetworkConfig, model_config
from botvision.models.config import Attention, SpatialLayers
from botvision.tasks.pixel_config import PixelConfig
from botvision.training.config import DataConfig, ExperimentConfig, OptimizerConfig

Kind = Literal["mask_rcnn", "faster_rcnn", "keypoint_rcnn", "detr"]
"""The detectors."""
OWN_EXPERIMENTS: dict[Kind, str] = {
    "mask_rcnn": "botnet50",
    "faster_rcnn": "faster_botnet50",
    "keypoint_rcnn": "keypoint_botnet50",
    "detr": "detr_botnet50",
}
"""By detector, what follows coco/ and small/ in the names of the experiments that train it."""


def experiments_of(detector: Kind) -> str:
    """The experiments that train a detector, in words."""
    return " and ".join(f"{group}/{OWN_EXPERIMENTS[detector]}" for group in ("coco", "small"))


class CommonConfig(PixelConfig):
    """What every detector has: a backbone of the catalogue, and images of one size."""

    kinds: ClassVar[tuple[Kind, ...]]
    """The detectors that have these settings."""
    detector: Kind
    """Kind of detector."""
    backbone: str = "botnet50"
    """Name of a model in `botvision models`."""
    depths: tuple[Count, Count, Count, Count] | None = None
    """Blocks in c2 to c5, instead of the named model's own."""
    width: Count | None = None
    """Channels of the stem, instead of the named model's own; every stage follows."""
    spatial: SpatialLayers | None = None
    """Spatial layer of a stage instead of the named model's own, such as "lambda" for c5 (Bello 2021)."""
    attention: Attention | None = None
    """Terms of the logits in every BoT block, instead of the named model's own (paper, Table 4)."""
    backbone_norm: Literal["batch", "frozen", "group"] = "batch"
    """Normalisation in the backbone: batch norm, over all processes of a run together (paper, Section 4), batch norm
    that stays as it was loaded, or group norm."""
    freeze_stem: bool = False
    """Keep the stem and c2 as they were loaded, their batch norm included."""
    input_size: Count = 1024
    """Height and width, in pixels, that images are scaled, cropped and padded to."""
    norm_momentum: Share = 0.003
    """Share of a step's statistics in the running ones, in every batch norm; short runs need more, such as 0.1."""
    norm_epsilon: Positive = 1e-4
    """Added to the variance in every batch norm."""
    detections: Count = 100
    """Most detections an image."""

    @field_validator("detector")
    @classmethod
    def check_detector(cls, detector: Kind) -> Kind:
        """A detector with other settings than these is trained by experiments of its own."""
        if detector not in cls.kinds:
            raise ValueError(
                f"should be {' or '.join(map(repr, cls.kinds))}, got {detector!r}, which has other settings: "
                f"those of the experiments {experiments_of(detector)}"
            )
        return detector

    def network(self) -> NetworkConfig:
        """The network of the backbone.

        Raises:
            UserError: an unknown model, or fields that do not go together.
        """
        names = ("depths", "width", "spatial", "attention", "input_size", "in_channels")
        given: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return model_config(self.backbone, norm=self.backbone_norm, **given)


class DetectorConfig(CommonConfig):
    """A two-stage detector with FPN (paper, Section 4)."""

    kinds: ClassVar[tuple[Kind, ...]] = ("mask_rcnn", "faster_rcnn", "keypoint_rcnn")
    detector: Kind = "mask_rcnn"
    """Mask R-CNN; Faster R-CNN, which finds boxes alone and needs no masks in the data; or Keypoint R-CNN, which finds
    boxes and keypoints."""

    variant: Literal["authors", "torchvision"] = "authors"
    """Whose FPN, anchors and RoI pooling: the authors' (p6 by a strided convolution, batch norm on each level, anchors
    around the centres of cells, one sample a pooled cell), or torchvision's (p6 by pooling, no norm, anchors of whole
    pixels around the corners of cells, four samples), whose weights load then."""
    head_norm: bool = False
    """Batch norm in the RPN, the box head and the mask head, an option of the authors' code."""
    fpn_channels: Count = 256
    """Channels of p2 to p6."""

    anchor_scale: Positive = 8.0
    """Side of a square anchor, in strides of its level."""
    anchor_ratios: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0, 2.0, 0.5)
    """Height over width of the anchors."""
    rpn_foreground_iou: Share = 0.7
    """An anchor that overlaps an object at least this much is a positive example."""
    rpn_background_iou: Share = 0.3
    """An anchor that overlaps every object less than this is a negative example."""
    rpn_samples: Count = 256
    """Anchors an image in the RPN's loss, at most half of them positive."""
    rpn_huber_delta: Positive = 1 / 9
    """Where the RPN's box loss turns from square to linear, in box-coder units."""
    rpn_box_weight: NotNegative = 1.0
    """Weight of the RPN's box loss, which is small beside the others: short runs learn boxes sooner with 10."""
    rpn_nms: Share = 0.7
    """Overlap above which the weaker of two proposals is dropped."""
    proposals_before_nms: tuple[Count, Count] = (2000, 1000)
    """Best proposals of each level that enter NMS, in training and in test."""
    proposals: tuple[Count, Count] = (1000, 1000)
    """Proposals an image that leave NMS, in training and in test."""

    roi_samples: Count = 512
    """Regions an image in the box loss."""
    roi_foreground: Share = 0.25
    """Largest share of objects among them."""
    roi_iou: Share = 0.5
    """A region that overlaps an object at least this much is that object, below it background."""
    roi_huber_delta: Positive = 1.0
    """Where the box head's loss turns from square to linear, in box-coder units."""
    box_head_width: Count = 1024
    """Width of the two fully connected layers of the box head."""
    mask_head_width: Count = 256
    """Channels of the mask head's convolutions."""
    mask_head_depth: CountOrZero = 4
    """3x3 convolutions of the mask head, before the one that doubles 14 x 14 to 28 x 28."""
    keypoint_head_width: Count = 512
    """Channels of the keypoint head's convolutions (He et al. 2017)."""
    keypoint_head_depth: Count = 8
    """3x3 convolutions of the keypoint head, before the one that doubles 14 x 14 to 28 x 28."""

    score_threshold: Share = 0.05
    """Detections that score no more than this are dropped in test."""
    detection_nms: Share = 0.5
    """Overlap above which the weaker of two detections of a class is dropped."""

    @model_validator(mode="after")
    def check_thresholds(self) -> Self:
        """An anchor cannot be both an object and background."""
        if self.rpn_foreground_iou < self.rpn_background_iou:
            raise FieldError(
                ("rpn_foreground_iou",),
                f"should be at least rpn_background_iou, got {self.rpn_foreground_iou} and {self.rpn_background_iou}",
                ("rpn_background_iou",),
            )
        return self


class DetrConfig(CommonConfig):
    """DETR, with the sizes of its authors (Carion et al. 2020, arXiv 2005.12872)."""

    kinds: ClassVar[tuple[Kind, ...]] = ("detr",)
    detector: Kind = "detr"
    """DETR, which finds boxes by a transformer."""
    hidden: Annotated[int, Field(ge=4, multiple_of=4)] = 256
    """Channels of the transformer, divisible by 4."""
    heads: Count = 8
    """Heads of its attention; they divide the channels."""
    encoder_layers: CountOrZero = 6
    """Layers on the positions of the map."""
    decoder_layers: Count = 6
    """Layers on the queries; each has losses of its own in training."""
    feed_forward: Count = 2048
    """Width between the two linear layers of a transformer's layer."""
    queries: Count = 100
    """Objects that can be found in an image."""
    dropout: ShareBelow1 = 0.1
    """Share of the transformer's numbers that are dropped in training."""

    @model_validator(mode="after")
    def check_heads(self) -> Self:
        """Each head has as many channels."""
        if self.hidden % self.heads:
            raise FieldError(("heads",), f"should divide hidden, got {self.heads} heads and {self.hidden} channels")
        return self


class DetectionData(DataConfig):
    """What a detector is trained and evaluated on."""

    data: Path | None = None
    """Folder in COCO's layout: annotations/instances_train2017.json, train2017/, and the same for val; or an export of
    Roboflow, CVAT, Label Studio, LabelMe or VIA, in YOLO's or Pascal VOC's format."""
    objects: Count = 100
    """Most objects of a training image, the first ones of the file; the others are left out."""
    copy_paste: Share = 0.0
    """Probability that objects of another image are pasted over a training image (Ghiasi et al. 2020); needs masks."""
    jitter: tuple[Positive, Positive] = (0.8, 1.25)
    """Smallest and largest random factor on an image that just fits the input (paper, Section 4.2)."""
    ranges: ClassVar[tuple[str, ...]] = ("jitter",)


class DetectionOptimizer(OptimizerConfig):
    """SGD or AdamW for detection, and a learning rate that warms up and falls in steps."""

    reference_batch: ClassVar[int] = 64
    lr: Positive = 0.08
    """Learning rate for a batch of 64 images; another batch size scales it linearly."""
    warmup_lr: NotNegative = 0.0067
    """Learning rate of the first step, for a batch of 64 images."""
    warmup_steps: CountOrZero = 500
    """Steps over which the learning rate rises linearly."""
    decay_at: tuple[Share, ...] = (2 / 3, 8 / 9)
    """Shares of the run after which the learning rate is divided by 10."""


class DetrOptimizer(Config):
    """AdamW for DETR; learning rates do not follow the batch size."""

    lr: Positive = 1e-4
    """Learning rate of all but the backbone."""
    backbone_lr: NotNegative = 1e-5
    """Learning rate of the backbone."""
    weight_decay: NotNegative = 1e-4
    """Of all weights, those of norms and biases too, as the authors have it."""
    warmup_lr: NotNegative = 0.0
    """Learning rate of the first step."""
    warmup_steps: CountOrZero = 0
    """Steps over which the learning rate rises linearly."""
    decay_at: tuple[Share, ...] = (2 / 3,)
    """Shares of the run after which the learning rates are divided by 10."""

    def about_lr(self, batch_size: int) -> str:
        """As for the other detectors."""
        return f"{self.lr:g} (DETR's does not follow the batch size), of the backbone {self.backbone_lr:g}"


OPTIMIZERS: dict[type[CommonConfig], type[Config]] = {DetectorConfig: DetectionOptimizer, DetrConfig: DetrOptimizer}
"""What each kind of detector is trained by."""


def section(kind: type[Config], values: Any) -> Any:  # noqa: ANN401 (whatever a file holds)
    """A section of this kind from plain values, as of a YAML file; one that is made already stays as it is."""
    if isinstance(values, Config):
        return values
    if not isinstance(values, dict):
        raise FieldError((), f"should be fields and their values, got {short(values)}")
    return kind(**{str(name): value for name, value in values.items()})


def detector_config(values: Any) -> Any:  # noqa: ANN401 (whatever a file holds)
    """The configuration of the detector that plain values name; one that is made already stays as it is."""
    is_detr = isinstance(values, dict) and values.get("detector") == "detr"
    return section(DetrConfig if is_detr else DetectorConfig, values)


class DetectionExperiment(ExperimentConfig):
    """Everything that a detection run is made of."""

    model: Annotated[DetectorConfig | DetrConfig, BeforeValidator(detector_config)] = DetectorConfig()
    data: DetectionData = DetectionData()
    optimizer: DetectionOptimizer | DetrOptimizer = DetectionOptimizer()

    @field_validator("optimizer", mode="before")
    @classmethod
    def optimizer_of_the_detector(cls, values: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 (as above)
        """Plain values are those of the optimiser that the detector is trained by."""
        return section(OPTIMIZERS[type(info.data.get("model", DetectorConfig()))], values)

    @model_validator(mode="after")
    def check_optimizer(self) -> Self:
        """The optimiser is that of the detector."""
        wanted = OPTIMIZERS[type(self.model)]
        if type(self.optimizer) is not wanted:
            raise FieldError(("optimizer",), f"should be a {wanted.__name__} for the detector {self.model.detector}")
        return self

    @model_validator(mode="after")
    def check_parts(self) -> Self:
        """Frozen parts must be loaded, and what is pasted must have masks."""
        frozen = {"freeze_stem": self.model.freeze_stem, "backbone_norm": self.model.backbone_norm == "frozen"}
        for field in (name for name, is_frozen in frozen.items() if is_frozen and self.run.weights is None):
            raise FieldError(("model", field), "needs weights: random parts would stay as they are")
        if self.data.copy_paste and self.model.detector != "mask_rcnn":
            raise FieldError(("data", "copy_paste"), f"should be 0 for {self.model.detector}, which learns no masks")
        return self
