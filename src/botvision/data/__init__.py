"""Data sets for detection (COCO) and classification (folders, shards), and a generated data set."""

from typing import TYPE_CHECKING

from botvision.lazy import lazy_names

if TYPE_CHECKING:
    from botvision.data.annotations import Category, ImageRecord, keypoint_names
    from botvision.data.any_image import AnyImage, pixels_of, separated
    from botvision.data.classification import ImageClasses, check_same_classes, open_classes
    from botvision.data.coco import CocoDetection
    from botvision.data.generated import write_generated_coco
    from botvision.data.image_files import find_images
    from botvision.data.images import UnreadableImage, decode_channels, decode_image, read_image, read_image_batches
    from botvision.data.layouts import CocoSplit, find_split
    from botvision.data.shards import ImageShards
    from botvision.data.writing_shards import write_shards

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Category", "ImageRecord", "keypoint_names"), "annotations"),
        **dict.fromkeys(("AnyImage", "pixels_of", "separated"), "any_image"),
        **dict.fromkeys(("ImageClasses", "check_same_classes", "open_classes"), "classification"),
        "CocoDetection": "coco",
        "write_generated_coco": "generated",
        "find_images": "image_files",
        **dict.fromkeys(
            ("UnreadableImage", "decode_channels", "decode_image", "read_image", "read_image_batches"), "images"
        ),
        **dict.fromkeys(("CocoSplit", "find_split"), "layouts"),
        "ImageShards": "shards",
        "write_shards": "writing_shards",
    },
)

__all__ = [
    "AnyImage",
    "Category",
    "CocoDetection",
    "CocoSplit",
    "ImageClasses",
    "ImageRecord",
    "ImageShards",
    "UnreadableImage",
    "check_same_classes",
    "decode_channels",
    "decode_image",
    "find_images",
    "find_split",
    "keypoint_names",
    "open_classes",
    "pixels_of",
    "read_image",
    "read_image_batches",
    "separated",
    "write_generated_coco",
    "write_shards",
]
