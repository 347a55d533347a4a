"""Pictures of where a point of a photograph attends."""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image, ImageDraw
from torch import Tensor

from botvision.pictures import GAP, LINE, font, resized

COLUMNS = 3
"""Panels beside each other."""
COARSE = 8
"""Maps with fewer cells a side are drawn cell by cell: smoothing would invent what lies between."""
BAR = 14
"""Pixels of the colour bar's height."""


def draw_attention(image: Tensor, point: tuple[int, int], maps: Tensor, block: str) -> Image.Image:
    """A sheet of panels: the photograph with the point marked, and over it the mean of the heads and each head.

    Args:
        image: (C, H, W), see :func:`~botvision.pictures.picture_of`.
        point: (x, y) in its pixels.
        maps: (heads, h, w), each head's adding up to 1.
        block: name of the attention block, for the title.
    """
    heads, rows, columns = maps.shape
    photograph = resized(image)
    x, y = ((place + 0.5) * photograph.width / image.shape[2] for place in point)
    shown = [(f"mean of {heads} heads", maps.mean(dim=0))] if heads > 1 else []
    shown += [(f"head {number}", head) for number, head in enumerate(maps, start=1)]
    titles = [f"{block}: {rows} x {columns} cells, each {100 / (rows * columns):.3g}% if even"]
    titles += [f"{title}: {100 * heat.min():.3g}% to {100 * heat.max():.3g}%" for title, heat in shown]
    largest = float(max(heat.max() for _, heat in shown))
    panels = [photograph.copy(), *(heated(photograph, heat / largest) for _, heat in shown)]
    for panel in panels:
        mark(panel, x, y)
    return with_scale(sheet(panels, titles), largest)


def heated(photograph: Image.Image, heat: Tensor) -> Image.Image:
    """A greyed photograph under a heat map (h, w), from black for 0 to yellow for 1."""
    mode = "nearest" if min(heat.shape) < COARSE else "bilinear"
    scaled = F.interpolate(heat[None, None].float(), (photograph.height, photograph.width), mode=mode)[0, 0]
    colours = colormaps["inferno"](scaled.numpy(), bytes=True)[:, :, :3]
    grey = photograph.convert("L").convert("RGB")
    return Image.blend(grey, Image.fromarray(colours), 0.65)


def with_scale(picture: Image.Image, largest: float) -> Image.Image:
    """A sheet with the colours of its heat maps below it, from 0 to the largest share of the attention of a cell."""
    letters = font(14)
    larger = Image.new("RGB", (picture.width, picture.height + LINE + BAR + GAP), "white")
    larger.paste(picture, (0, 0))
    ends = ["0%", f"{100 * largest:.3g}% of a head's attention in one cell"]
    left, top = round(letters.getlength(ends[0])) + 2 * GAP, picture.height + (LINE - BAR) // 2
    right = max(left + BAR, picture.width - round(letters.getlength(ends[1])) - 2 * GAP)
    shares = np.linspace(0, 1, right - left)
    colours = colormaps["inferno"](np.tile(shares, (BAR, 1)), bytes=True)[:, :, :3]
    larger.paste(Image.fromarray(colours), (left, top))
    for text, x in zip(ends, (GAP, right + GAP), strict=True):
        ImageDraw.Draw(larger).text((x, top - 2), text, fill="black", font=letters)
    return larger


def mark(picture: Image.Image, x: float, y: float) -> None:
    """A ring around a point."""
    draw = ImageDraw.Draw(picture)
    for radius, colour, width in ((9, "black", 4), (8, "#42d4f4", 2)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=width)


def sheet(panels: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Panels of one size in rows, each with its title above it."""
    letters = font(14)
    width = GAP + max(panels[0].width, *(round(letters.getlength(title)) for title in titles))
    height = GAP + LINE + panels[0].height
    rows = -(-len(panels) // COLUMNS)
    picture = Image.new("RGB", (GAP + min(len(panels), COLUMNS) * width, GAP + rows * height), "white")
    for place, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        left, top = GAP + place % COLUMNS * width, GAP + place // COLUMNS * height
        ImageDraw.Draw(picture).text((left, top), title, fill="black", font=letters)
        picture.paste(panel, (left, top + LINE))
    return picture
