"""Detection as a task: detectors on images and annotations in COCO's layout."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader

from botvision.configuration import FieldError
from botvision.data import CocoDetection, keypoint_names
from botvision.data.layouts import has_annotations
from botvision.data.loading import Batch, RunBatches, training_loader
from botvision.data.shard_index import has_shards
from botvision.device import pick_device
from botvision.models import load_weights
from botvision.tasks.base import AttentionSource, Task, absolute
from botvision.tasks.checked import Checked
from botvision.tasks.data_pixels import with_pixels_of
from botvision.tasks.detection.check import check_objects
from botvision.tasks.detection.checkpoint import TASK, LoadedDetector, build, describe, load_detector
from botvision.tasks.detection.coco import class_table, scores_table
from botvision.tasks.detection.config import DetectionExperiment
from botvision.tasks.detection.datasets import (
    changes,
    check_trainable,
    contents,
    open_coco,
    use_categories,
    warn_of_missing_objects,
)
from botvision.tasks.detection.detector import Detector
from botvision.tasks.detection.detectors import DETECTORS, make_detector
from botvision.tasks.detection.evaluate import evaluate_detector, write_results
from botvision.tasks.detection.export import exportable
from botvision.tasks.detection.options import DetectionEvalOptions, DetectionPredictOptions
from botvision.tasks.detection.predict import detect_files, draw_beside_truth, find_objects
from botvision.tasks.detection.report import write_report
from botvision.tasks.detection.training_images import TrainingImages
from botvision.tasks.detection.transforms import eval_transform, train_transform
from botvision.tasks.evaluated import Evaluated
from botvision.tasks.exportable import Exportable
from botvision.tasks.options import CheckOptions
from botvision.tasks.pixels import first_random, parts_up_to
from botvision.tasks.registry import naming_other_kind
from botvision.training.schedule import step_schedule
from botvision.training.sharing import on_every_process, on_first_process
from botvision.training.starting import check_same_evaluation
from botvision.training.trainable import Evaluation, OnImage

logger = logging.getLogger("botvision")

DRAWN_IMAGES, DRAWN_SIDE = 4, 1600
"""Validation images that are drawn after each evaluation of a run, and the most pixels a side of these pictures."""


class DetectionTask(Task):
    """A detection experiment with its data.

    Raises:
        FieldError: no data folder given.
        UserError: something wrong in the data, or splits with other classes.
    """

    experiment: DetectionExperiment
    train_set: CocoDetection
    name = TASK
    build = staticmethod(build)
    load = staticmethod(load_detector)
    predict = staticmethod(find_objects)
    result_name = "objects"

    def __init__(self, experiment: DetectionExperiment, *, is_new: bool = True) -> None:
        folder = absolute(experiment.data.data)
        if folder is None:
            raise FieldError(
                ("data", "data"), "is missing: should be a folder in COCO's layout, with annotations/ and the images"
            )
        data, detector = experiment.data.replace(data=folder), DETECTORS[experiment.model.detector]
        opened: dict[str, Any] = {"follow_links": data.follow_links}
        with naming_other_kind(TASK, str(folder)):
            self.train_set = open_coco(folder, data.train_split, detector, limit=data.train_images, **opened)
        check_trainable(self.train_set)
        model = experiment.model
        if is_new:
            model = with_pixels_of(model, folder, data.train_split, self.train_set.images[0].path)
        self.experiment = experiment.replace(data=data, model=model)
        self.train_set.transform = train_transform(
            model.input_size, data.jitter, data.flip, data.objects, model.padding
        )
        opened |= {"transform": eval_transform(model.input_size, model.padding), "limit": data.val_images}
        self.val_set = open_coco(folder, data.val_split, detector, **opened)
        self.train_set.channels = self.val_set.channels = model.in_channels
        use_categories(self.val_set, self.train_set.categories, self.train_set.annotation_file)
        warn_of_missing_objects(self.val_set)
        self.images = len(self.train_set)
        self.columns = ("loss", *detector.loss_names, *detector.measures)
        self.score_columns = tuple(f"val_{kind}_{metric}" for kind in detector.predicts for metric in ("ap", "ap50"))

    def data(self) -> dict[str, str]:
        """Both splits."""
        return {"training images": self.train_set.digest, "validation images": self.val_set.digest}

    def describe(self) -> dict[str, Any]:
        """The detector as data, and its categories."""
        return describe(self.experiment.model, self.train_set.categories)

    def announce(self, folder: Path) -> None:
        """Say what the run trains on, what of it was changed or left out, and where the run is."""
        logger.info("training on %s; evaluating on %s", contents(self.train_set), contents(self.val_set))
        logger.info("in training %s; in evaluation %s", changes(self.train_set), changes(self.val_set))
        super().announce(folder)

    def make_model(self) -> Detector:
        """The detector with random weights."""
        categories = self.train_set.categories
        return make_detector(self.experiment.model, len(categories), len(keypoint_names(categories)))

    def load_weights(self, model: Any, state: dict[str, Tensor]) -> str:  # noqa: ANN401 (of make_model)
        """Load initial weights into the whole detector, or into its backbone where they are a network's."""
        whole = any(name.startswith("backbone.") for name in state)
        report = load_weights(model if whole else model.trunk, state)
        parts = (f"backbone.body.{part}" if whole else part for part in parts_up_to(model.frozen_stage))
        random = first_random(report, parts)
        if random:
            raise FieldError(("model", "freeze_stem"), f"would keep {random} random, which the weights do not contain")
        return str(report)

    def loader(self, batches: RunBatches) -> DataLoader:
        """Images and targets of the training split."""
        data = self.experiment.data
        return training_loader(TrainingImages(self.train_set, data.copy_paste, data.objects), batches, data.workers)

    def optimizer(self, model: Any) -> torch.optim.Optimizer:  # noqa: ANN401 (of make_model)
        """The detector's own, or SGD."""
        return model.optimizer(self.experiment.optimizer) or super().optimizer(model)

    def rate(self, step: int, steps: int) -> float:
        """A linear warm-up, then a tenth at each of ``decay_at``."""
        config = self.experiment.optimizer
        start = config.warmup_lr / config.lr
        return step_schedule(
            step, steps, warmup_steps=config.warmup_steps, warmup_start=start, decay_at=config.decay_at
        )

    def losses(self, model: Any, batch: Batch) -> dict[str, Tensor]:  # noqa: ANN401 (of make_model)
        """What the detector reports of a training step, and the sum of its losses."""
        targets = batch["targets"]
        found = model(batch["images"], [target["content_size"] for target in targets], targets)
        return {"loss": torch.stack([found[name] for name in model.loss_names]).sum(), **found}

    def compiled_part(self, model: Any) -> nn.Module:  # noqa: ANN401 (of make_model)
        """The backbone: the sizes of all that follows it change with every image."""
        return model.backbone

    def evaluate(self, model: Any, batch_size: int, on_image: OnImage) -> Evaluation:  # noqa: ANN401 (of make_model)
        """COCO's numbers for all that the detector predicts."""
        workers = self.experiment.data.workers
        return evaluate_detector(model, self.val_set, batch_size=batch_size, workers=workers, on_image=on_image)

    def write_results(self, folder: Path, evaluation: Evaluation, step: int) -> None:
        """Write ``detections.json``, ``metrics.json``, and a page about them."""
        write_results(folder, self.val_set, evaluation, step=step)

    def draw_results(self, folder: Path, evaluation: Evaluation) -> list[Path]:
        """The first few validation images with their strongest detections, beside the truth."""
        drawn = range(min(DRAWN_IMAGES, len(self.val_set)))
        return draw_beside_truth(evaluation.results, self.val_set, drawn, folder, longest=DRAWN_SIDE)

    @classmethod
    def evaluate_checkpoint(
        cls, checkpoint: Path, data: str, options: DetectionEvalOptions, on_image: OnImage
    ) -> Evaluation:
        """Score a checkpoint; in ``options.out`` the results, and pictures of what was found beside the truth."""
        if options.pictures and options.out is None:
            raise FieldError(("pictures",), "needs a folder for results (out) outside a run folder")
        detector, dataset = on_every_process(lambda: cls.open_for_evaluation(checkpoint, data, options))
        check_same_evaluation(detector.path, lambda: dataset.digest)
        batch_size = options.batch_size or 4
        evaluation = evaluate_detector(
            detector.model, dataset, batch_size=batch_size, workers=options.workers, on_image=on_image
        )
        if out := options.out:
            about: dict[str, Any] = {"checkpoint": str(detector.path), "data": data, "split": options.split}
            about |= {"limit": options.images, "images": len(dataset)}
            on_first_process(lambda: cls.write_evaluation(out, dataset, evaluation, options, about))
        return evaluation

    @staticmethod
    def open_for_evaluation(
        checkpoint: Path, data: str, options: DetectionEvalOptions
    ) -> tuple[LoadedDetector, CocoDetection]:
        """The detector of a checkpoint, and the data set that it is to be scored on."""
        detector = load_detector(checkpoint, pick_device(options.device))
        config = detector.model.config
        transform = eval_transform(config.input_size, config.padding)
        opened = {"transform": transform, "limit": options.images, "follow_links": options.follow_links}
        opened |= {"channels": config.in_channels}
        with naming_other_kind(TASK, data):
            dataset = open_coco(Path(data), options.split, type(detector.model), **opened)
        use_categories(dataset, detector.categories, detector.path)
        warn_of_missing_objects(dataset)
        logger.info("evaluating on %s; %s", contents(dataset), changes(dataset))
        return detector, dataset

    @staticmethod
    def write_evaluation(
        folder: Path,
        dataset: CocoDetection,
        evaluation: Evaluation,
        options: DetectionEvalOptions,
        about: dict[str, Any],
    ) -> None:
        """Write scores, detections, a page and pictures."""
        write_results(folder, dataset, evaluation, **about)
        drawn = range(min(options.pictures, len(dataset)))
        pictures = folder / "pictures"
        draw_beside_truth(evaluation.results, dataset, drawn, pictures, threshold=options.threshold)

    @classmethod
    def predict_files(
        cls,
        trained: LoadedDetector,
        files: Sequence[Path],
        options: DetectionPredictOptions,
        batch_size: int,
        on_image: OnImage,
    ) -> list[dict[str, Any]]:
        """Detections in COCO's results format with the file as "file_name", and a picture of each image."""
        threshold = options.threshold
        return detect_files(trained, files, options.out, threshold=threshold, batch_size=batch_size, on_image=on_image)

    @staticmethod
    def tables(scores: dict[str, Any], options: DetectionEvalOptions | None = None) -> list[Table]:
        """COCO's 12 numbers, and AP class by class where asked for."""
        if not scores:  # of a split without annotations
            return []
        return [scores_table(scores)] + ([class_table(scores)] if options and options.classes else [])

    @classmethod
    def write_report(cls, path: Path, runs: Sequence[Evaluated]) -> None:
        """COCO's numbers, curves, errors by kind, classes, and the worst images."""
        write_report(path, runs)

    @classmethod
    def has_data(cls, data: str) -> bool:
        """Whether there are annotations in a layout that is known."""
        return not has_shards(data) and has_annotations(Path(data))

    @classmethod
    def check_data(cls, data: str, options: CheckOptions, on_image: OnImage) -> Checked:
        """All that training would refuse, leave out or change, and counts by class and size."""
        return check_objects(Path(data), options, on_image)

    @classmethod
    def attention_source(cls, trained: LoadedDetector) -> AttentionSource:
        """The backbone; its images have the input size on the longer side."""
        model = trained.model
        return AttentionSource(model.trunk, model.config.input_size, max, is_trained=True, pixels=model.config)

    @classmethod
    def exportable(cls, trained: LoadedDetector) -> Exportable:
        """Pixels and their size in, detections out."""
        return exportable(trained)
