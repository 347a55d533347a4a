"""The settings of a classification experiment."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from botvision.configuration import Count, FieldError, NotNegative, Positive, ShareBelow1
from botvision.models import NetworkConfig, model_config
from botvision.models.config import SpatialLayers
from botvision.tasks.pixel_config import PixelConfig
from botvision.training.config import DataConfig, ExperimentConfig, OptimizerConfig

Magnitude = Annotated[int, Field(ge=0, le=30)]
"""Of RandAugment, on the scale of the paper's authors: 10 is full strength, and 15 is the largest that they used."""
PositiveShare = Annotated[float, Field(gt=0, le=1)]


class ClassifierConfig(PixelConfig):
    """An image classifier (paper, Sections 4.8 and 4.9)."""

    model: str = "botnet50"
    """Name of a model in `botvision models`."""
    depths: tuple[Count, Count, Count, Count] | None = None
    """Blocks in c2 to c5, instead of the named model's own."""
    width: Count | None = None
    """Channels of the stem, instead of the named model's own; every stage follows."""
    spatial: SpatialLayers | None = None
    """Spatial layer of a stage instead of the named model's own, such as "lambda" for c5 (Bello 2021)."""
    input_size: Count | None = None
    """Height and width, in pixels, of the images to train on, instead of the named model's own."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation: batch norm, over all processes of a run together (paper, Section 4), or group norm."""
    stochastic_depth: ShareBelow1 | None = None
    """Chance to skip the last block in training, growing linearly from 0 at the first; by default the model's own."""
    dropout: ShareBelow1 | None = None
    """Chance to drop a feature in front of the classifier, in training; by default the model's own."""
    freeze: Literal["none", "stem", "c2", "c3", "c4", "c5"] = "none"
    """Keep the network up to this stage as it was loaded, its batch norm included; c5 trains the classifier alone."""

    def network(self) -> NetworkConfig:
        """The network that this names.

        Raises:
            UserError: an unknown model, or fields that do not go together.
        """
        names = ("depths", "width", "spatial", "input_size", "in_channels", "stochastic_depth", "dropout")
        given: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return model_config(self.model, norm=self.norm, **given)

    @property
    def image_size(self) -> int:
        """Height and width of the images to train on, in pixels."""
        size = self.network().input_size
        return size if isinstance(size, int) else max(size)


class ClassificationData(DataConfig):
    """What a classifier is trained and evaluated on, and how the images are varied."""

    data: str | None = None
    """Folder with train/ and val/, in each a folder of images for every class; or shards, in a folder or at a URL."""
    crop_scale: tuple[PositiveShare, PositiveShare] = (0.08, 1.0)
    """Smallest and largest share of an image's area in a random crop (Szegedy et al. 2015)."""
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Smallest and largest width over height of a random crop."""
    randaugment: tuple[Count, Magnitude] | None = None
    """RandAugment's layers and magnitude, such as 2 10 where 10 is full strength; none leaves it out."""
    mixup: NotNegative = 0.0
    """Alpha of mixup (Zhang et al. 2018), 0 leaves it out; where cutmix is on too, each batch draws one of the two."""
    cutmix: NotNegative = 0.0
    """Alpha of cutmix (Yun et al. 2019), 0 leaves it out."""
    ranges: ClassVar[tuple[str, ...]] = ("crop_scale", "crop_ratio")


class ClassificationOptimizer(OptimizerConfig):
    """SGD with Nesterov's momentum, or AdamW, with a learning rate that warms up and falls as a cosine to 0."""

    reference_batch: ClassVar[int] = 256
    lr: Positive = 0.1
    """Learning rate for a batch of 256 images; another batch size scales it linearly."""
    warmup_epochs: NotNegative = 5
    """Passes over the training images during which the learning rate rises linearly from 0."""
    label_smoothing: ShareBelow1 = 0.0
    """Share of a label's weight that is spread over all classes."""


class ClassificationExperiment(ExperimentConfig):
    """Everything that a classification run is made of."""

    model: ClassifierConfig = ClassifierConfig()
    data: ClassificationData = ClassificationData()
    optimizer: ClassificationOptimizer = ClassificationOptimizer()

    @model_validator(mode="after")
    def check_frozen(self) -> Self:
        """Frozen parts must be loaded."""
        if self.model.freeze != "none" and self.run.weights is None:
            raise FieldError(("model", "freeze"), "needs weights: random parts would stay as they are")
        return self
