"""Metrics: COCO's numbers for boxes and masks."""

from botvision.evaluation.coco import METRICS, class_table, coco_scores, scores_table
from botvision.evaluation.detector import evaluate_detector

__all__ = ["METRICS", "class_table", "coco_scores", "evaluate_detector", "scores_table"]
