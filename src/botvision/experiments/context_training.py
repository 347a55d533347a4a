"""Trains one network of the table of :mod:`botvision.experiments.context`."""

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from botvision.data.context_scenes import draw_scene
from botvision.data.loading import mixed_seed
from botvision.data.scene_kinds import COLOURS, SCENES, SceneKind
from botvision.experiments.context import ROWS, Cell, ContextRecipe
from botvision.models import Network, NetworkConfig

STRIDE = 32
"""Of c5, whose cells are centred at multiples of it."""


class AtObject(nn.Module):
    """A network with a linear layer on the cell of c5 that is nearest to the object.

    Shape:
        images (B, 3, H, W) and the middle of each image's object (B, 2), x and y -> logits (B, 4).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.network = Network(config, features_only=True)
        self.head = nn.Linear(config.channels[-1], len(COLOURS))

    def forward(self, images: Tensor, places: Tensor) -> Tensor:
        """Logits of the four colours."""
        c5 = self.network(images)[-1]
        x, y = ((places + STRIDE // 2) // STRIDE).clamp(max=c5.shape[-1] - 1).unbind(dim=1)
        return self.head(c5[torch.arange(len(c5)), :, y, x])


def draw_batch(kind: SceneKind, count: int, *stream: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, 3, H, W) in -1 to 1, the places of their objects (B, 2), and the classes (B,), by a random stream."""
    rng = np.random.default_rng(stream)
    scenes = [draw_scene(kind, rng) for _ in range(count)]
    images = torch.from_numpy(np.stack([scene.pixels for scene in scenes])).permute(0, 3, 1, 2)
    places = torch.tensor([scene.object for scene in scenes])
    return images / 127.5 - 1, places, torch.tensor([scene.label for scene in scenes])


def train_cell(cell: Cell, recipe: ContextRecipe, device: torch.device) -> dict[str, float]:
    """Train a network on a kind of scene, and measure its accuracy on other scenes of the kind."""
    start, kind = time.perf_counter(), SCENES[cell.column]
    torch.manual_seed(mixed_seed(cell.seed, 0))
    model = AtObject(ROWS[cell.row].network.replace(input_size=kind.image_size)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps, pct_start=0.2)
    for step in range(recipe.steps):
        batch = draw_batch(kind, recipe.batch_size, cell.seed, 0, step)
        images, places, labels = (part.to(device) for part in batch)
        loss = F.cross_entropy(model(images, places), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {"score": accuracy(model, kind, cell.seed, recipe, device), "seconds": round(time.perf_counter() - start, 1)}


@torch.inference_mode()
def accuracy(model: AtObject, kind: SceneKind, seed: int, recipe: ContextRecipe, device: torch.device) -> float:
    """Share of the test images whose class is found."""
    model.eval()
    right = 0
    for first in range(0, recipe.test_images, recipe.batch_size):
        count = min(recipe.batch_size, recipe.test_images - first)
        images, places, labels = (part.to(device) for part in draw_batch(kind, count, seed, 1, first))
        right += int((model(images, places).argmax(dim=1) == labels).sum())
    return right / recipe.test_images
