"""Classification as a task: a network of the catalogue on folders or shards of images."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor, nn

from botvision.configuration import FieldError
from botvision.data import ImageClasses, check_same_classes, open_classes
from botvision.data.class_folders import has_class_splits
from botvision.data.idx_files import has_idx
from botvision.data.loading import Batch
from botvision.data.shard_index import has_shards
from botvision.device import pick_device
from botvision.errors import UserError
from botvision.models import LoadReport, load_weights
from botvision.tasks.base import AttentionSource, Task, absolute
from botvision.tasks.checked import Checked
from botvision.tasks.classification.check import check_classes
from botvision.tasks.classification.checkpoint import TASK, LoadedClassifier, build, describe, load_classifier
from botvision.tasks.classification.config import ClassificationData, ClassificationExperiment
from botvision.tasks.classification.confusion import confused_table
from botvision.tasks.classification.evaluate import RightLabels, evaluate_classifier, scores_table, write_results
from botvision.tasks.classification.export import exportable
from botvision.tasks.classification.labels import open_labelled
from botvision.tasks.classification.losses import classification_losses, mixing
from botvision.tasks.classification.model import Classifier
from botvision.tasks.classification.options import ClassificationEvalOptions, ClassificationPredictOptions
from botvision.tasks.classification.predict import classify, classify_files, predictions_table
from botvision.tasks.classification.report import write_report
from botvision.tasks.classification.transforms import eval_crop, train_augmentation
from botvision.tasks.data_pixels import with_pixels_of
from botvision.tasks.evaluated import Evaluated
from botvision.tasks.exportable import Exportable
from botvision.tasks.options import CheckOptions
from botvision.tasks.pixels import STAGES, first_random, parts_up_to
from botvision.tasks.registry import naming_other_kind
from botvision.training.schedule import cosine_schedule
from botvision.training.sharing import on_every_process, on_first_process
from botvision.training.starting import check_same_evaluation
from botvision.training.trainable import Evaluation, OnImage

logger = logging.getLogger("botvision")

LAYOUT = "a folder with train/ and val/, in each a folder for every class"


class ClassificationTask(Task):
    """A classification experiment with its data.

    Raises:
        FieldError: no data given, or a warm-up that is longer than the run.
        UserError: something wrong in the data, splits with other classes, or one class alone.
    """

    experiment: ClassificationExperiment
    train_set: ImageClasses
    name = TASK
    build = staticmethod(build)
    load = staticmethod(load_classifier)
    predict = staticmethod(classify)
    result_name = "images"
    nesterov = True
    columns = ("loss", "top1")
    score_columns = ("val_top1", "val_top5", "val_loss")

    def __init__(self, experiment: ClassificationExperiment, *, is_new: bool = True) -> None:
        self.experiment = experiment.replace(data=experiment.data.replace(data=absolute(experiment.data.data)))
        self.open_data(self.experiment.data)
        self.prepare_images(is_new=is_new)
        self.images = len(self.train_set)
        optimizer, run = experiment.optimizer, experiment.run
        self.warmup_steps = math.ceil(optimizer.warmup_epochs * self.images / run.batch_size)
        steps = run.total_steps(self.images)
        if self.warmup_steps >= steps:
            raise FieldError(
                ("optimizer", "warmup_epochs"),
                f"should be fewer than the {steps} steps of the run (steps or epochs), got {optimizer.warmup_epochs}, "
                f"which are {self.warmup_steps} steps",
            )
        self.mix = mixing(experiment.data, len(self.train_set.classes))

    def open_data(self, data: ClassificationData) -> None:
        """Open both splits, and compare their classes."""
        if data.data is None:
            raise FieldError(("data", "data"), f"is missing: should be {LAYOUT}")
        with naming_other_kind(TASK, data.data):
            self.train_set, self.val_set = (
                open_classes(data.data, split, limit=limit, follow_links=data.follow_links)
                for split, limit in ((data.train_split, data.train_images), (data.val_split, data.val_images))
            )
        check_same_classes(self.train_set, self.val_set)
        if len(self.train_set.classes) < 2:
            raise UserError(
                f"{data.data}: {data.train_split} has only one class, {self.train_set.class_names[0]!r}; it should be "
                f"{LAYOUT}"
            )

    def prepare_images(self, *, is_new: bool) -> None:
        """Choose how the images are read and varied; a new run takes the fields that its data decide from them."""
        model, data = self.experiment.model, self.experiment.data
        if is_new and data.data is not None:
            first = Path(self.train_set.images.name(0))
            model = with_pixels_of(model, data.data, data.train_split, first)
            if model.in_channels is not None and data.randaugment is not None:
                logger.warning("randaugment is left out: it changes colours of 8 bits, and these images have others")
                data = data.replace(randaugment=None)
            self.experiment = self.experiment.replace(model=model, data=data)
        self.train_set.transform = train_augmentation(
            model.image_size,
            crop_scale=data.crop_scale,
            crop_ratio=data.crop_ratio,
            flip=data.flip,
            randaugment=data.randaugment,
            as_stored=model.in_channels is not None,
        )
        self.val_set.transform = eval_crop(model.image_size, as_stored=model.in_channels is not None)
        self.train_set.channels = self.val_set.channels = model.in_channels

    def data(self) -> dict[str, str]:
        """Both splits."""
        return {"training images": self.train_set.digest, "validation images": self.val_set.digest}

    def describe(self) -> dict[str, Any]:
        """The classifier as data, and its classes."""
        return describe(self.experiment.model, self.train_set.classes, self.train_set.class_names)

    def make_model(self) -> Classifier:
        """The classifier with random weights."""
        return Classifier(self.experiment.model, len(self.train_set.classes))

    def load_weights(self, model: Any, state: dict[str, Tensor]) -> str:  # noqa: ANN401 (of make_model)
        """Load initial weights into the network; the last layer stays random where the number of classes differs."""
        if any(name.startswith("backbone.") for name in state):
            raise FieldError(
                ("run", "weights"), f"should be a classifier's, got a detector's: {self.experiment.run.weights}"
            )
        report = load_weights(model.network, state)
        check_frozen(self.experiment.model.freeze, report)
        return str(report)

    def rate(self, step: int, steps: int) -> float:
        """A linear rise, then a cosine to 0."""
        return cosine_schedule(step, steps, warmup_steps=self.warmup_steps)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, and the share of images that are classified correctly."""
        smoothing = self.experiment.optimizer.label_smoothing
        config = self.experiment.model
        sizes = {"image_size": config.image_size, "channels": len(config.mean)}
        return classification_losses(model, batch, self.mix, label_smoothing=smoothing, **sizes)

    def compiled_part(self, model: Any) -> nn.Module:  # noqa: ANN401 (of make_model)
        """The network, without the normalisation of the images."""
        return model.network

    def evaluate(self, model: Any, batch_size: int, on_image: OnImage) -> Evaluation:  # noqa: ANN401 (of make_model)
        """Top-1 and its companions; top-1 decides which checkpoint is the best."""
        workers = self.experiment.data.workers
        names = self.train_set.class_names
        return evaluate_classifier(
            model, self.val_set, names, batch_size=batch_size, workers=workers, on_image=on_image
        )

    def write_results(self, folder: Path, evaluation: Evaluation, step: int) -> None:
        """Write ``predictions.csv``, ``confusion.png``, ``metrics.json``, and a page about them."""
        write_results(folder, evaluation, self.train_set.class_names, step=step)

    @classmethod
    def evaluate_checkpoint(
        cls, checkpoint: Path, data: str, options: ClassificationEvalOptions, on_image: OnImage
    ) -> Evaluation:
        """Score a checkpoint on a centre crop, by the data's labels or those of a file."""
        classifier, dataset, right_labels, size = on_every_process(
            lambda: open_for_evaluation(checkpoint, data, options)
        )
        check_same_evaluation(classifier.path, lambda: dataset.digest)
        evaluation = evaluate_classifier(
            classifier.model,
            dataset,
            classifier.class_names,
            batch_size=options.batch_size or 64,
            workers=options.workers,
            on_image=on_image,
            right_labels=right_labels,
        )
        if out := options.out:
            about: dict[str, Any] = {"checkpoint": str(classifier.path), "data": data, "split": options.split}
            about |= {"limit": options.images}
            about |= {"labels": str(options.labels) if options.labels else None}
            about |= {"input_size": size, "crop": options.crop, "ema": options.ema}
            on_first_process(lambda: write_results(out, evaluation, classifier.class_names, **about))
        return evaluation

    @classmethod
    def predict_files(
        cls,
        trained: LoadedClassifier,
        files: Sequence[Path],
        options: ClassificationPredictOptions,
        batch_size: int,
        on_image: OnImage,
    ) -> list[dict[str, Any]]:
        """The likeliest classes of each image, and a picture of it."""
        return classify_files(trained, files, options.out, top=options.top, batch_size=batch_size, on_image=on_image)

    @staticmethod
    def tables(scores: dict[str, Any], options: ClassificationEvalOptions | None = None) -> list[Table]:
        """The scores; after an evaluation of a checkpoint also which classes are confused."""
        return [scores_table(scores)] + ([confused_table(scores["most_confused"])] if options else [])

    @staticmethod
    def prediction_tables(results: list[dict[str, Any]]) -> list[Table]:
        """A line for each image and class."""
        return [predictions_table(results)]

    @classmethod
    def write_report(cls, path: Path, runs: Sequence[Evaluated]) -> None:
        """Top-1 and its companions, calibration, classes, and the most confident mistakes."""
        write_report(path, runs)

    @classmethod
    def has_data(cls, data: str) -> bool:
        """Whether there are shards, idx files, folders of classes, or images side by side and a list of labels."""
        return has_shards(data) or has_idx(Path(data)) or has_class_splits(Path(data))

    @classmethod
    def check_data(cls, data: str, options: CheckOptions, on_image: OnImage) -> Checked:
        """All that training would refuse or leave out, and counts by class."""
        return check_classes(data, options, on_image)

    @classmethod
    def attention_source(cls, trained: LoadedClassifier) -> AttentionSource:
        """The network; its images have the input size on the shorter side."""
        model = trained.model
        return AttentionSource(model.network, model.config.image_size, min, is_trained=True, pixels=model.config)

    @classmethod
    def exportable(cls, trained: LoadedClassifier) -> Exportable:
        """Pixels in, logits out."""
        return exportable(trained)


def check_frozen(freeze: str, report: LoadReport) -> None:
    """Refuse to freeze a stage that was not loaded completely: it would stay random.

    Raises:
        FieldError: naming the most that can be frozen.
    """
    for possible, stage in zip(["none", *STAGES], STAGES, strict=False):
        if not set(STAGES[stage]) <= set(parts_up_to(freeze)):
            return
        random = first_random(report, STAGES[stage])
        if random:
            raise FieldError(
                ("model", "freeze"),
                f"should be at most {possible} with these weights, got {freeze}: they do not contain {random}",
            )


def open_for_evaluation(
    checkpoint: Path, data: str, options: ClassificationEvalOptions
) -> tuple[LoadedClassifier, ImageClasses, RightLabels, int]:
    """The classifier of a checkpoint, the images to score it on, their right classes, and the side of the crop."""
    classifier = load_classifier(checkpoint, pick_device(options.device), ema=options.ema)
    config = classifier.model.config
    size = options.input_size or config.image_size
    with naming_other_kind(TASK, data):
        dataset, right_labels = open_labelled(
            data,
            options.split,
            eval_crop(size, options.crop, as_stored=config.in_channels is not None),
            classifier.classes,
            classifier.class_names,
            labels=options.labels,
            limit=options.images,
            follow_links=options.follow_links,
            channels=config.in_channels,
        )
    return classifier, dataset, right_labels, size
