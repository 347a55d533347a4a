"""Pictures of what a classifier says: a photograph with its likeliest classes."""

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from botvision.pictures import GAP, LINE, SIDE, fitting, font, font_for, resized


def draw_ranking(image: Tensor, ranking: Sequence[tuple[str, float]]) -> Image.Image:
    """An image with bars beside it for its (class, probability), likeliest first.

    The image is drawn as :func:`~botvision.pictures.picture_of` does.
    """
    photograph = resized(image)
    height = max(photograph.height, 2 * LINE * len(ranking) + GAP)
    picture = Image.new("RGB", (photograph.width + SIDE + 3 * GAP, height + 2 * GAP), "white")
    picture.paste(photograph, (GAP, GAP))
    draw, letters = ImageDraw.Draw(picture), font(15)
    left = photograph.width + 2 * GAP
    for place, (name, probability) in enumerate(ranking):
        top = GAP + 2 * LINE * place
        percent = f"{100 * probability:.1f}%"
        room, own = SIDE - GAP - letters.getlength(percent), font_for(name, 15) or letters
        draw.text((left, top), fitting(name, own, room), fill="black", font=own)
        draw.text((left + SIDE, top), percent, fill="black", font=letters, anchor="ra")
        draw.rectangle((left, top + LINE - 2, left + SIDE, top + LINE + 10), fill="#e8e8e8")
        draw.rectangle((left, top + LINE - 2, left + round(SIDE * probability), top + LINE + 10), fill="#4363d8")
    return picture
