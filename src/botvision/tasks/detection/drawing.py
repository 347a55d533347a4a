"""Pictures of detections: masks, boxes, keypoints, class names and scores on the photograph."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from hotcoco import mask as rle
from PIL import Image, ImageDraw
from torch import Tensor

from botvision.data import Category
from botvision.pictures import font

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#9a6324", "#808000", "#469990")
"""Far apart from each other, and dark enough for white letters; class i takes the i-th, modulo their number."""
OPACITY = 115
"""Of masks, out of 255."""
SURE_KEYPOINT = 0.05
"""Keypoints that score less, or are not labelled, are not drawn."""


def draw_detections(image: Tensor, results: Sequence[Mapping[str, Any]], categories: Sequence[Category]) -> Image.Image:
    """Draw masks, boxes, keypoints and names over an image, stronger detections over weaker ones.

    The plates with the names do not overlap: the strongest detection chooses its place first, and one for which no
    place is left beside its box or inside it stays without a name.

    Args:
        image: (3, H, W) uint8.
        results: of this image in COCO's results format, strongest first; "score", "segmentation" and "keypoints" are
            optional.
        categories: where the names are; a category's place in it decides its colour.

    Returns:
        A picture of the image's size, small images enlarged to at least 320 pixels on the longer side so that the
        names can be read.
    """
    place = {category.id: index for index, category in enumerate(categories)}
    colours = [COLOURS[place[result["category_id"]] % len(COLOURS)] for result in results]
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    for result, colour in zip(reversed(results), reversed(colours), strict=True):
        if "segmentation" in result:
            blend_mask(picture, result["segmentation"], colour)
    factor = max(1, -(-320 // max(picture.size)))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    boxes = (np.array([result["bbox"] for result in results]).reshape(-1, 4) * factor).tolist()
    boxes = [[x, y, x + width, y + height] for x, y, width, height in boxes]
    draw = ImageDraw.Draw(picture)
    for box, colour in zip(reversed(boxes), reversed(colours), strict=True):
        draw.rectangle(box, outline=colour, width=max(2, max(picture.size) // 400))
    for result in reversed(results):
        if "keypoints" in result:
            draw_keypoints(picture, result["keypoints"], categories[place[result["category_id"]]].skeleton, factor)
    taken = np.empty((0, 4))
    for result, box, colour in zip(results, boxes, colours, strict=True):
        score = f" {result['score']:.2f}" if "score" in result else ""
        taken = draw_name(picture, box, categories[place[result["category_id"]]].name + score, colour, taken)
    return picture


def blend_mask(picture: Image.Image, segmentation: dict[str, Any], colour: str) -> None:
    """Colour the pixels of a mask, given as compressed run lengths; only where it is, which saves time and memory."""
    left, top, width, height = (int(side) for side in rle.toBbox(segmentation))
    mask = rle.decode(segmentation)[top : top + height, left : left + width]
    if mask.size:
        picture.paste(colour, (left, top), Image.fromarray(np.ascontiguousarray(mask) * np.uint8(OPACITY)))


def draw_keypoints(
    picture: Image.Image, keypoints: Sequence[float], skeleton: Sequence[tuple[int, int]], factor: int
) -> None:
    """Draw keypoints in COCO's format, and lines between those that the skeleton joins, each in its own colour."""
    draw, radius = ImageDraw.Draw(picture), max(2, max(picture.size) // 250)
    points = np.array(keypoints).reshape(-1, 3)
    places = ((points[:, :2] + 0.5) * factor).tolist()
    sure = points[:, 2] >= SURE_KEYPOINT
    for line, (first, second) in enumerate(skeleton):
        if sure[first - 1] and sure[second - 1]:
            ends = (*places[first - 1], *places[second - 1])
            draw.line(ends, fill=COLOURS[line % len(COLOURS)], width=radius)
    for (x, y), drawn in zip(places, sure, strict=True):
        if drawn:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill="white", outline="black")


def draw_name(picture: Image.Image, box: Sequence[float], name: str, colour: str, taken: np.ndarray) -> np.ndarray:
    """Write a name on a plate at its box where no other plate is; returns the places taken then, (N, 4) corners."""
    draw, letters = ImageDraw.Draw(picture), font(max(11, max(picture.size) // 45))
    left, top, right, bottom = draw.textbbox((0, 0), name, font=letters)
    width, height = right - min(left, 0) + 4, bottom + 4
    places = np.array(plate_places(box, width, height)).round()
    places = np.maximum(np.minimum(places, [picture.width - width - 1, picture.height - height - 1]), 0)
    plates = np.concatenate([places, places + np.array([width, height])], axis=1)
    # Rows are places, columns are plates: two plates overlap where each begins before the other ends.
    overlap = (plates[:, None, :2] <= taken[:, 2:]) & (taken[:, :2] <= plates[:, None, 2:])
    free = plates[~np.any(overlap.all(axis=2), axis=1)]
    if not len(free):
        return taken
    x, y = free[0, :2].tolist()
    draw.rectangle(free[0].tolist(), fill=colour)
    draw.text((x + 2, y + 2 - min(top, 0)), name, fill="white", font=letters)
    return np.concatenate([taken, free[:1]])


def plate_places(box: Sequence[float], width: float, height: float) -> list[tuple[float, float]]:
    """Where a plate of this size may be, best first: above its box, below, inside, beside; left and top in pixels."""
    x1, y1, x2, y2 = box
    columns = np.unique([*np.arange(x1, x2 - width, width / 4), max(x1, x2 - width)])
    inside = np.arange(y1, y2 - height, height / 2)
    shifted = (x1 - width / 2, x1 - width, x2)
    return [
        *product(columns, (y1 - height, y2)),
        *((x, y) for y in (*inside, y2 - height) for x in columns),
        *product(shifted, (y1 - height, y1, y2 - height, y2)),
    ]


def side_by_side(left: Image.Image, right: Image.Image, titles: tuple[str, str]) -> Image.Image:
    """Two pictures of one size beside each other, each with a title above it."""
    gap, head = 8, 24
    sheet = Image.new("RGB", (left.width + right.width + gap, left.height + head), "white")
    for x, picture, title in ((0, left, titles[0]), (left.width + gap, right, titles[1])):
        sheet.paste(picture, (x, head))
        ImageDraw.Draw(sheet).text((x + 4, 2), title, fill="black", font=font(16))
    return sheet
