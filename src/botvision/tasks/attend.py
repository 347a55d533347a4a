"""Where a position of an image attends: one row of the softmax of an attention layer, for every head."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from botvision.checkpoint import HUB, checkpoint_of
from botvision.configuration import FieldError
from botvision.data import read_image
from botvision.data.images import PIXEL_MEAN, PIXEL_STD
from botvision.errors import UserError
from botvision.layers import MHSA2d
from botvision.models import Network
from botvision.models.catalogue import CATALOGUE, create_model, nearest
from botvision.pictures import check_overwritten, save_picture
from botvision.tasks.attention_drawing import draw_attention
from botvision.tasks.base import AttentionSource
from botvision.tasks.registry import task_of_checkpoint

Point = tuple[int, int]

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
def attend(network: Network, layer: MHSA2d, image: Tensor, points: Sequence[Point]) -> Tensor:
    """Where points of an image attend.

    Args:
        network: in test mode.
        layer: one of its attention layers, see :func:`attention_block`.
        image: (3, H, W), 0 to 255, at the size at which the network is to see it.
        points: (x, y) in pixels of that image.

    Returns:
        (points, heads, h, w): for each point and head the probabilities of the cells of the layer's map.
    """
    projected: list[Tensor] = []
    hook = layer.qkv.register_forward_hook(lambda module, inputs, output: projected.append(output[0]))
    device = layer.qkv.weight.device
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    try:
        network.forward_maps((image.to(device) - mean)[None] / std)
    finally:
        hook.remove()
    height, width = projected[0].shape[1:]
    cells = [(y * height // image.shape[1], x * width // image.shape[2]) for x, y in points]
    return torch.stack([attention_row(layer, projected[0], *cell) for cell in cells]).cpu()


def attend_photograph(
    source: AttentionSource,
    layer: MHSA2d,
    photograph: Tensor,
    points: Sequence[Point],
    input_size: int | None = None,
    name: str | Path = "the image",
) -> Tensor:
    """Where points of a photograph attend; the network sees the whole of it, neither cropped nor padded.

    Args:
        layer: an attention layer of the source's network, see :func:`attention_block`.
        photograph: (3, H, W) uint8, at most :data:`LONGEST_ASPECT` times as long as wide.
        points: (x, y) in its pixels.
        input_size: pixels of the shorter side (for a detector the longer one) as the network sees it; by default
            what the model was made for.
        name: of the photograph, for messages.

    Returns:
        As :func:`attend`.

    Raises:
        UserError: a very long photograph, or a point outside of it.
    """
    height, width = (int(side) for side in photograph.shape[1:])
    if max(height, width) > LONGEST_ASPECT * min(height, width):
        raise UserError(
            f"{name}: is {width} wide and {height} high; attention is drawn of images at most {LONGEST_ASPECT} times "
            "as long as wide: cut a part out of it"
        )
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise FieldError(("at",), f"{x} {y} lies outside of {name}, which is {width} wide and {height} high")
    scale = (input_size or source.input_size) / source.side(width, height)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    seen = F.resize(photograph, size, antialias=True)
    scaled = [(x * size[1] // width, y * size[0] // height) for x, y in points]
    return attend(source.network, layer, seen, scaled)


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
        points, input_size: see :func:`attend_photograph`.
        block: such as "layer4.2"; the last attention block by default.

    Returns:
        The pictures, <photograph>-x<X>-y<Y>.png.

    Raises:
        UserError: no such block, an unreadable or very long photograph, a point outside of it; nothing is then written.
    """
    name, layer = attention_block(source.network, block)
    photograph = read_image(file)
    pictures = [out / f"{file.stem}-x{x}-y{y}.png" for x, y in points]
    check_overwritten([file], pictures)
    found = attend_photograph(source, layer, photograph, points, input_size, file)
    for point, maps, picture in zip(points, found, pictures, strict=True):
        save_picture(draw_attention(photograph, point, maps, name), picture)
    return pictures
