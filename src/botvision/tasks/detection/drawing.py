"""Pictures of detections: masks, boxes, class names and scores on the photograph."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.utils import draw_segmentation_masks

from botvision.data import Category
from botvision.pictures import font

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#9a6324", "#808000", "#469990")
"""Far apart from each other, and dark enough for white letters; class i takes the i-th, modulo their number."""


def draw_detections(image: Tensor, detections: dict[str, Tensor], categories: Sequence[Category]) -> Image.Image:
    """Draw masks, boxes and names over an image.

    Args:
        image: (3, H, W) uint8.
        detections: "boxes" (D, 4) in pixels, "labels" (D,), and optionally "masks" (D, H, W) and "scores" (D,).
        categories: label i stands for ``categories[i - 1]``.

    Returns:
        A picture of the image's size, small images enlarged to at least 320 pixels on the longer side so that the
        names can be read.
    """
    labels = detections["labels"].tolist()
    colours = [COLOURS[(label - 1) % len(COLOURS)] for label in labels]
    if labels and "masks" in detections:
        masks = detections["masks"].to(torch.bool).cpu()
        image = draw_segmentation_masks(image.cpu(), masks, alpha=0.45, colors=colours)
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    factor = max(1, -(-320 // max(picture.size)))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    scores = detections["scores"].tolist() if "scores" in detections else [None] * len(labels)
    for box, label, score, colour in zip(detections["boxes"].tolist(), labels, scores, colours, strict=True):
        name = categories[label - 1].name + ("" if score is None else f" {score:.2f}")
        draw_box(ImageDraw.Draw(picture), [side * factor for side in box], name, colour, picture.size)
    return picture


def draw_box(draw: ImageDraw.ImageDraw, box: list[float], name: str, colour: str, size: tuple[int, int]) -> None:
    """One box with its name on a small plate inside the picture."""
    draw.rectangle(box, outline=colour, width=max(2, max(size) // 400))
    letters = font(max(11, max(size) // 45))
    left, top, right, bottom = draw.textbbox((0, 0), name, font=letters)
    x = min(max(box[0], 0), max(0, size[0] - right - 4))
    y = box[1] - bottom - 4 if box[1] > bottom + 4 else box[1]
    draw.rectangle([x, y, x + right - min(left, 0) + 4, y + bottom + 4], fill=colour)
    draw.text((x + 2, y + 2 - min(top, 0)), name, fill="white", font=letters)


def side_by_side(left: Image.Image, right: Image.Image, titles: tuple[str, str]) -> Image.Image:
    """Two pictures of one size beside each other, each with a title above it."""
    gap, head = 8, 24
    sheet = Image.new("RGB", (left.width + right.width + gap, left.height + head), "white")
    for x, picture, title in ((0, left, titles[0]), (left.width + gap, right, titles[1])):
        sheet.paste(picture, (x, head))
        ImageDraw.Draw(sheet).text((x + 4, 2), title, fill="black", font=font(16))
    return sheet
