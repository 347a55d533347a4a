"""A classifier for ``botvision export``: pixels in, logits out."""

from botvision.tasks.classification.checkpoint import TASK, LoadedClassifier
from botvision.tasks.classification.options import CROP
from botvision.tasks.exportable import Exportable, ExportableNetwork
from botvision.tasks.pixel_config import RGB


def exportable(classifier: LoadedClassifier) -> Exportable:
    """Pixels (B, C, H, W), RGB from 0 to 255 or as stored -> "logits" (B, K); the model normalises them itself."""
    config = classifier.model.config
    size, channels = config.image_size, config.in_channels or RGB
    return ExportableNetwork(
        classifier.model,
        ("logits",),
        TASK,
        size,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        in_channels=config.in_channels,
        model=config.model,
        shorter_side=round(size / CROP),
        classes=classifier.classes,
        class_names=classifier.class_names,
    )
