"""Data sets for detection (COCO) and classification (folders, shards), their transforms, a generated set."""

from botvision.data.annotations import Category, ImageRecord
from botvision.data.augmentation import eval_crop, train_augmentation
from botvision.data.classification import ImageClasses, check_same_classes, open_classes
from botvision.data.coco import CocoDetection
from botvision.data.generated import write_generated_coco
from botvision.data.images import UnreadableImage, decode_image, read_image, read_images
from botvision.data.layouts import CocoSplit, find_split
from botvision.data.shards import ImageShards
from botvision.data.transforms import eval_transform, to_original, train_transform
from botvision.data.writing_shards import write_shards

__all__ = [
    "Category",
    "CocoDetection",
    "CocoSplit",
    "ImageClasses",
    "ImageRecord",
    "ImageShards",
    "UnreadableImage",
    "check_same_classes",
    "decode_image",
    "eval_crop",
    "eval_transform",
    "find_split",
    "open_classes",
    "read_image",
    "read_images",
    "to_original",
    "train_augmentation",
    "train_transform",
    "write_generated_coco",
    "write_shards",
]
