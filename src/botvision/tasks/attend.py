"""Where a position of an image attends: one row of the softmax of an attention layer, for every head."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from botvision.checkpoint import HUB, checkpoint_of
from botvision.configuration import FieldError
from botvision.data import read_image
from botvision.errors import UserError
from botvision.layers import MHSA2d
from botvision.models import Network
from botvision.models.catalogue import CATALOGUE, create_model, nearest
from botvision.pictures import check_overwritten, save_picture
from botvision.tasks.attention_drawing import draw_attention
from botvision.tasks.base import AttentionSource
from botvision.tasks.pixel_config import PixelConfig
from botvision.tasks.registry import task_of_checkpoint

Point = tuple[int, int]

RGB_OF_IMAGENET = PixelConfig()
"""Normalised by ImageNet's mean and deviation."""
LONGEST_ASPECT = 16
"""Longer side of a photograph, in shorter sides: the work grows with its square."""


def attention_source(name: str, device: torch.device | str = "cpu") -> AttentionSource:
    """The network of a checkpoint or a run folder, or a named model with random weights.

    Raises:
        UserError: nothing of that name, or a checkpoint that cannot be loaded.
    """
    path = Path(name)
    if not path.exists() and not name.startswith(HUB):
        if name not in CATALOGUE:
            raise UserError(f"{name} is neither a run folder, a checkpoint nor a model{nearest(name, list(CATALOGUE))}")
        with torch.random.fork_rng(devices=[]):  # the same weights, and so the same picture, every time
            torch.manual_seed(0)
            network = create_model(name).eval().to(device)
        return AttentionSource(network, max(network.config.image_size), min, is_trained=False)
    path = checkpoint_of(path)
    task = task_of_checkpoint(path)
    return task.attention_source(task.load(path, torch.device(device)))


def attention_block(network: Network, block: str | None = None) -> tuple[str, MHSA2d]:
    """An attention block by its name, such as "layer4.2"; the last one by default.

    Raises:
        UserError: the network has no attention, or none of that name.
    """
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, MHSA2d)}
    blocks = {name.rpartition(".")[0]: layer for name, layer in layers.items()}
    if not blocks:
        raise UserError("this model has no attention block to look into; a BoTNet has, such as botnet50")
    block = block or list(blocks)[-1]
    if block not in blocks:
        raise FieldError(("block",), f"should be an attention block of this model, {', '.join(blocks)}, got {block}")
    return block, blocks[block]


def attention_row(layer: MHSA2d, projected: Tensor, row: int, column: int) -> Tensor:
    """Where one position attends: its row of the softmax over all positions (paper, Figure 4), exactly.

    The layer's answer at a position is the sum of its row times the values, so its gradient with respect to the values
    is the row, whatever the kind of attention. Memory does not grow with the square of the map.

    Args:
        layer: the attention layer, of any kind.
        projected: what ``layer.qkv`` gave for one image, (sum of the layer's widths, H, W).
        row, column: the position, in cells of the map.

    Returns:
        (heads, H, W), each head's adding up to 1.
    """
    height, width = projected.shape[1:]
    parts = [part.flatten(1).unflatten(0, (layer.heads, -1)).mT[None] for part in projected.split(layer.widths)]
    values = torch.zeros_like(parts[-1], requires_grad=True)
    with torch.enable_grad():
        answers = layer.attend([*parts[:-1], values], (height, width))  # (1, heads, H*W, width of a head)
        (rows,) = torch.autograd.grad(answers[:, :, row * width + column, 0].sum(), values)
    return rows[0, :, :, 0].unflatten(1, (height, width))


@torch.no_grad()
def projections(
    network: Network, layers: Sequence[MHSA2d], image: Tensor, pixels: PixelConfig = RGB_OF_IMAGENET
) -> list[Tensor]:
    """The queries, keys and values that attention layers make of an image, all of one forward pass.

    Args:
        network: in test mode.
        layers: attention layers of it.
        image: (C, H, W), RGB from 0 to 255 or as stored, at the size at which the network is to see it.
        pixels: how it is normalised.

    Returns:
        For each layer (sum of its widths, h, w), as :func:`attention_row` takes it.
    """
    projected: dict[MHSA2d, Tensor] = {}
    hooks = [
        layer.qkv.register_forward_hook(lambda _, inputs, output, layer=layer: projected.update({layer: output[0]}))
        for layer in layers
    ]
    device = layers[0].qkv.weight.device
    mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (pixels.mean, pixels.std))
    try:
        network.forward_maps((image.to(device) - mean)[None] / std)
    finally:
        for hook in hooks:
            hook.remove()
    return [projected[layer] for layer in layers]


def cell_of(point: Point, size: Sequence[int], projected: Tensor) -> tuple[int, int]:
    """The row and column of a layer's map that a point (x, y) of an image of ``size`` (H, W) lies in."""
    (height, width), (x, y) = projected.shape[1:], point
    return y * height // size[0], x * width // size[1]


def attend(
    network: Network,
    layer: MHSA2d,
    image: Tensor,
    points: Sequence[Point],
    size: Sequence[int] | None = None,
    pixels: PixelConfig = RGB_OF_IMAGENET,
) -> Tensor:
    """Where points of an image attend.

    Args:
        network, image, pixels: see :func:`projections`.
        layer: one of its attention layers, see :func:`attention_block`.
        points: (x, y) in pixels of the image, or of one of another ``size`` (H, W) that was resized to it.

    Returns:
        (points, heads, h, w): for each point and head the probabilities of the cells of the layer's map.
    """
    (projected,) = projections(network, [layer], image, pixels)
    cells = [cell_of(point, size or image.shape[1:], projected) for point in points]
    return torch.stack([attention_row(layer, projected, *cell) for cell in cells]).cpu()


def as_seen(
    source: AttentionSource, photograph: Tensor, input_size: int | None = None, name: str | Path = "the image"
) -> Tensor:
    """A photograph at the size at which the network sees it: the whole of it, neither cropped nor padded.

    Args:
        photograph: (C, H, W), at most :data:`LONGEST_ASPECT` times as long as wide.
        input_size: pixels of the shorter side (for a detector the longer one); by default what the model was made for.
        name: of the photograph, for the message.

    Raises:
        UserError: a very long photograph.
    """
    height, width = (int(side) for side in photograph.shape[1:])
    if max(height, width) > LONGEST_ASPECT * min(height, width):
        raise UserError(
            f"{name}: is {width} wide and {height} high; attention is drawn of images at most {LONGEST_ASPECT} times "
            "as long as wide: cut a part out of it"
        )
    scale = (input_size or source.input_size) / source.side(width, height)
    return F.resize(photograph, [max(1, round(height * scale)), max(1, round(width * scale))], antialias=True)


def check_inside(point: Point, size: Sequence[int], name: str | Path = "the image") -> None:
    """Refuse a point (x, y) outside of an image of ``size`` (H, W).

    Raises:
        FieldError: it lies outside.
    """
    (height, width), (x, y) = size, point
    if not (0 <= x < width and 0 <= y < height):
        raise FieldError(("at",), f"{x} {y} lies outside of {name}, which is {width} wide and {height} high")


def attend_file(
    source: AttentionSource,
    file: Path,
    points: Sequence[Point],
    out: Path,
    *,
    block: str | None = None,
    input_size: int | None = None,
) -> list[Path]:
    """Draw where points of a photograph attend, a picture for each: every head and their mean over the photograph.

    The photograph is turned upright as its EXIF data say.

    Args:
        file: the photograph.
        points: (x, y) in pixels of the photograph.
        block: such as "layer4.2"; the last attention block by default.
        input_size: see :func:`as_seen`.

    Returns:
        The pictures, <photograph>-x<X>-y<Y>.png.

    Raises:
        UserError: no such block, an unreadable or very long photograph, a point outside of it; nothing is then written.
    """
    name, layer = attention_block(source.network, block)
    photograph = read_image(file, channels=source.pixels.in_channels)
    seen, size = as_seen(source, photograph, input_size, file), photograph.shape[1:]
    for point in points:
        check_inside(point, size, file)
    pictures = [out / f"{file.stem}-x{x}-y{y}.png" for x, y in points]
    check_overwritten([file], pictures)
    found = attend(source.network, layer, seen, points, size, source.pixels)
    for point, maps, picture in zip(points, found, pictures, strict=True):
        save_picture(draw_attention(photograph, point, maps, name), picture)
    return pictures
