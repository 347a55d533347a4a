"""Data sets: images and annotations in COCO's format, the transforms of the detectors, a generated set."""

from botvision.data.annotations import Category, ImageRecord
from botvision.data.coco import CocoDetection, CocoSplit, find_split
from botvision.data.generated import write_generated_coco
from botvision.data.images import read_image
from botvision.data.transforms import eval_transform, to_original, train_transform

__all__ = [
    "Category",
    "CocoDetection",
    "CocoSplit",
    "ImageRecord",
    "eval_transform",
    "find_split",
    "read_image",
    "to_original",
    "train_transform",
    "write_generated_coco",
]
