"""Pictures of detections: masks, boxes, keypoints, class names and scores on the photograph."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from hotcoco import mask as rle
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from botvision.data import Category
from botvision.pictures import fitting, font, font_for, picture_of
from botvision.tasks.detection.labels import place_plates, stacks

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#9a6324", "#808000", "#469990")
"""Far apart from each other, and dark enough for white letters; class i takes the i-th, modulo their number."""
OPACITY = 115
"""Of masks, out of 255."""
SMALLEST_LETTERS = 11
"""Pixels."""
WIDEST_NAME = 16
"""Width of the longest name, in heights of its letters; the rest is cut."""
LEAST_SIDE = 640
"""Pixels of a picture's longer side, so that names have room; smaller images are enlarged."""
MARGIN = 2
"""Pixels between the letters of a name and the edge of its plate."""
SURE_KEYPOINT = 0.05
"""Keypoints that score less, or are not labelled, are not drawn."""


def draw_detections(image: Tensor, results: Sequence[Mapping[str, Any]], categories: Sequence[Category]) -> Image.Image:
    """Draw masks, boxes, keypoints and names over an image, stronger detections over weaker ones.

    The plates with the names do not overlap (:func:`~botvision.tasks.detection.labels.place_plates`): one for which no
    place is left at its box stays away. Boxes around one object are drawn inside each other, the strongest outside, and
    their names one below the other.

    Args:
        image: (3, H, W) uint8, or as stored, see :func:`~botvision.pictures.picture_of`.
        results: of this image in COCO's results format, strongest first; "score", "segmentation" and "keypoints" are
            optional.
        categories: where the names are; a category's place in it decides its colour.

    Returns:
        A picture of the image's size, or of the smallest multiple of it that has `LEAST_SIDE` pixels.
    """
    place = {category.id: index for index, category in enumerate(categories)}
    shown = [categories[place[result["category_id"]]] for result in results]
    colours = [COLOURS[place[category.id] % len(COLOURS)] for category in shown]
    picture = picture_of(image)
    for result, colour in zip(reversed(results), reversed(colours), strict=True):
        if "segmentation" in result:
            blend_mask(picture, result["segmentation"], colour)
    factor = max(1, -(-LEAST_SIDE // max(picture.size)))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    boxes = np.array([result["bbox"] for result in results], dtype=float).reshape(-1, 4) * factor
    boxes[:, 2:] += boxes[:, :2]
    draw_boxes(picture, boxes, colours)
    for result, category in zip(reversed(results), reversed(shown), strict=True):
        if "keypoints" in result:
            draw_keypoints(picture, result["keypoints"], category.skeleton, factor)
    scores = [f" {result['score']:.2f}" if "score" in result else "" for result in results]
    draw_names(picture, boxes, list(zip(shown, scores, colours, strict=True)))
    return picture


def draw_boxes(picture: Image.Image, boxes: np.ndarray, colours: Sequence[str]) -> None:
    """Draw boxes (N, 4), strongest first; of those around one object each is a line's width inside the one before."""
    draw, width = ImageDraw.Draw(picture), max(2, max(picture.size) // 400)
    inside = {index: depth for stack in stacks(boxes) for depth, index in enumerate(stack)}
    for index in reversed(range(len(boxes))):
        x1, y1, x2, y2 = boxes[index].tolist()
        inset = min(inside[index] * width, (x2 - x1) / 4, (y2 - y1) / 4)
        draw.rectangle((x1 + inset, y1 + inset, x2 - inset, y2 - inset), outline=colours[index], width=width)


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


class Name(NamedTuple):
    """The name of a detection as it is written."""

    text: str
    letters: ImageFont.FreeTypeFont
    size: tuple[int, int]
    """(width, height) of its plate, in pixels."""
    start: tuple[float, float]
    """Where the text begins on the plate."""


def name_of(category: Category, score: str, size: int, room: int) -> Name:
    """The name of a category, or its id where no font has the letters, cut to so many pixels; and the score."""
    letters, name = font_for(category.name, size), category.name
    if letters is None:
        letters, name = font(size), f"class {category.id}"
    room = min(WIDEST_NAME * size, room - 2 * MARGIN - math.ceil(letters.getlength(score)))
    text = fitting(name, letters, room) + score
    left, top, right, bottom = letters.getbbox(text)
    left, top = min(left, 0), min(top, 0)
    height = max(sum(letters.getmetrics()), bottom - top)
    plate = math.ceil(right - left) + 2 * MARGIN, math.ceil(height) + MARGIN
    return Name(text, letters, plate, (MARGIN - left, MARGIN / 2 - top))


def draw_names(picture: Image.Image, boxes: np.ndarray, names: Sequence[tuple[Category, str, str]]) -> None:
    """Write names on plates at the boxes (N, 4), in smaller letters where not all have a place.

    Args:
        picture: is drawn on.
        boxes: x1, y1, x2, y2 in pixels, strongest first.
        names: category, score and colour of each.
    """
    draw, largest = ImageDraw.Draw(picture), max(SMALLEST_LETTERS, max(picture.size) // 45)
    for size in (largest, max(SMALLEST_LETTERS, largest * 3 // 4)):
        written = [name_of(category, score, size, picture.width) for category, score, _ in names]
        plates = place_plates(boxes, [name.size for name in written], picture.size)
        if None not in plates:
            break
    for name, plate, (_, _, colour) in zip(written, plates, names, strict=True):
        if plate is not None:
            draw.rectangle(plate, fill=colour)
            draw.text((plate[0] + name.start[0], plate[1] + name.start[1]), name.text, "white", name.letters)


def side_by_side(left: Image.Image, right: Image.Image, titles: tuple[str, str]) -> Image.Image:
    """Two pictures of one size beside each other, each with a title above it."""
    gap, head = 8, 24
    sheet = Image.new("RGB", (left.width + right.width + gap, left.height + head), "white")
    for x, picture, title in ((0, left, titles[0]), (left.width + gap, right, titles[1])):
        sheet.paste(picture, (x, head))
        ImageDraw.Draw(sheet).text((x + 4, 2), title, fill="black", font=font(16))
    return sheet
