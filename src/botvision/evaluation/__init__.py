"""Metrics: COCO's numbers for boxes and masks; accuracy, calibration and confusion of classes."""

from botvision.evaluation.classifier import (
    classification_table,
    evaluate_classifier,
    write_classification,
)
from botvision.evaluation.coco import METRICS, class_table, coco_scores, scores_table
from botvision.evaluation.confusion import confused_table, confusion_matrix, most_confused
from botvision.evaluation.detector import evaluate_detector
from botvision.evaluation.labels import open_labelled

__all__ = [
    "METRICS",
    "class_table",
    "classification_table",
    "coco_scores",
    "confused_table",
    "confusion_matrix",
    "evaluate_classifier",
    "evaluate_detector",
    "most_confused",
    "open_labelled",
    "scores_table",
    "write_classification",
]
