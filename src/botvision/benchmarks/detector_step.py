"""Time of a training step and of a prediction of our Mask R-CNN beside torchvision's, in interleaved runs.

All detectors get the same work: the same image with the same objects, 80 classes, and in place of their own proposals
the same ones, which half of the time lie near an object. A random network would else propose what it likes, and the
heads would have more to do in one detector than in the other.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from botvision.benchmarks.names import TORCHVISION
from botvision.benchmarks.trial import arithmetic, now
from botvision.data import Category
from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.mask_rcnn import MaskRCNN
from botvision.tasks.detection.mask_targets import crop_masks
from botvision.tasks.detection.results import coco_results
from botvision.training.schedule import sgd

WHAT = ("training", "inference")
CLASSES, OBJECTS, PROPOSALS, DETECTIONS = 80, 20, 1000, 100
CATEGORIES = [Category(number, str(number)) for number in range(1, CLASSES + 1)]


@dataclass(frozen=True)
class StepSetting:
    """What every detector is given."""

    training_size: tuple[int, int]
    """(height, width) of the image of a training step, in pixels."""
    inference_size: tuple[int, int]
    """(height, width) of the image of a prediction, in pixels."""
    batch: int
    device: torch.device
    dtype: torch.dtype
    """float32, or bfloat16 by autocast."""
    compile: bool = False
    """Compile the backbone of our detectors in training, as ``botvision train --compile`` does."""


@dataclass
class StepTime:
    """One detector, and the seconds of its turns."""

    name: str
    training: list[float] = field(default_factory=list)
    """Forward, backward and the step of SGD."""
    inference: list[float] = field(default_factory=list)
    """From the image to masks at its size."""

    def ms(self, what: str) -> float:
        """The median, in milliseconds."""
        return 1e3 * statistics.median(getattr(self, what))

    def plain(self) -> dict[str, Any]:
        """The medians as plain data."""
        return {"detector": self.name, **{f"{what}_ms": self.ms(what) for what in WHAT}}


def bench_steps(names: list[str], setting: StepSetting, repeats: int, say: Callable[[str], None]) -> list[StepTime]:
    """Time each detector, in turns, so that a busy moment of the machine meets all of them.

    Args:
        names: backbones of the catalogue for ours, and ``TORCHVISION``.
        setting: images, and where to run.
        repeats: turns after one that warms up; medians are reported.
        say: called with a line about what is being measured.
    """
    times = [StepTime(name) for name in names]
    for what, prepare in zip(WHAT, (training_step, prediction), strict=True):
        calls = {one.name: prepare(one.name, setting) for one in times}
        for turn in range(repeats + 1):
            say(f"{what}, turn {turn + 1} of {repeats + 1}")
            for one in times:
                started = now(setting.device)
                calls[one.name]()
                if turn:
                    getattr(one, what).append(now(setting.device) - started)
    return times


def detector(name: str, size: tuple[int, int]) -> Any:  # noqa: ANN401 (ours, or torchvision's)
    """A detector with random weights for images of that size; as many detections as there may be."""
    torch.manual_seed(0)
    if name == TORCHVISION:
        return maskrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            num_classes=CLASSES + 1,
            min_size=min(size),
            max_size=max(size),
            rpn_post_nms_top_n_train=PROPOSALS,
            box_score_thresh=0.0,
            box_detections_per_img=DETECTIONS,
        )
    return MaskRCNN(DetectorConfig(backbone=name, input_size=max(size), score_threshold=0.0), CLASSES)


def training_step(name: str, setting: StepSetting) -> Callable[[], None]:
    """A step of SGD on the same image again and again."""
    model = detector(name, setting.training_size).to(setting.device).train()
    pixels, targets, proposals = work(setting.training_size, setting)
    model.rpn.register_forward_hook(partial(propose, proposals))
    optimizer = sgd(model, lr=1e-6, batch_size=1, reference_batch=1, momentum=0.9, weight_decay=1e-4, nesterov=False)
    images: Any = list(pixels.float() / 255)
    if name != TORCHVISION:
        targets = [{**own, "masks": crop_masks(own["masks"], own["boxes"])} for own in targets]
        images = pixels
        if setting.compile:
            model.backbone.compile(dynamic=False)

    def step() -> None:
        with arithmetic(setting.device, setting.dtype):
            found = model(images, targets=targets)
        losses = [value for key, value in found.items() if key != "proposal_recall"]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()

    return step


def prediction(name: str, setting: StepSetting) -> Callable[[], None]:
    """Detections with masks at the size of the image: torchvision's as they are, ours as COCO's run lengths."""
    size = setting.inference_size
    model = detector(name, size).to(setting.device).eval()
    pixels, _, proposals = work(size, setting)
    model.rpn.register_forward_hook(partial(propose, proposals))
    images: Any = pixels if name != TORCHVISION else list(pixels.float() / 255)

    def predict() -> None:
        with torch.inference_mode(), arithmetic(setting.device, setting.dtype):
            found = model(images)
        if name != TORCHVISION:
            for number, own in enumerate(found):
                coco_results({key: value.cpu() for key, value in own.items()}, number, CATEGORIES, size)

    return predict


def propose(proposals: list[Tensor], rpn: nn.Module, given: Any, found: Any) -> Any:  # noqa: ANN401 (of a hook)
    """Put the common proposals in the place of a network's own, whose losses stay."""
    return proposals, found[1]


def work(size: tuple[int, int], setting: StepSetting) -> tuple[Tensor, list[dict[str, Tensor]], list[Tensor]]:
    """Images (B, 3, H, W) uint8 with targets, whose masks are whole images, and proposals (1000, 4) of each image."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (setting.batch, 3, *size), generator=generator, dtype=torch.uint8)
    targets, proposals = [], []
    for _ in range(setting.batch):
        boxes = random_boxes(OBJECTS, size, generator)
        masks = torch.zeros(OBJECTS, *size, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        labels = torch.randint(1, CLASSES + 1, (OBJECTS,), generator=generator)
        target = {"boxes": boxes, "labels": labels, "masks": masks}
        targets.append({name: value.to(setting.device) for name, value in target.items()})
        near = boxes.repeat(PROPOSALS // 2 // OBJECTS, 1)
        near = near + 4 * torch.randn(near.shape, generator=generator)
        both = torch.cat([near, random_boxes(PROPOSALS - len(near), size, generator)])
        limits = torch.tensor([size[1], size[0]] * 2)
        proposals.append(both.clamp(min=0).minimum(limits).to(setting.device))
    return images.to(setting.device), targets, proposals


def random_boxes(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Boxes (count, 4) of 32 to 256 pixels a side, or as large as the image; x1, y1, x2, y2 in pixels, inside it."""
    limits = torch.tensor([size[1], size[0]])
    sides = (32 + 224 * torch.rand(count, 2, generator=generator)).minimum(limits)
    corners = torch.rand(count, 2, generator=generator) * (limits - sides)
    return torch.cat([corners, corners + sides], dim=1)


def steps_table(times: list[StepTime], setting: StepSetting) -> Table:
    """The medians, with their ratios to the first detector's."""
    first = times[0]
    (height, width), (tall, wide) = setting.training_size, setting.inference_size
    table = Table("detector", f"training {height}x{width} (ms)", "ratio", f"inference {tall}x{wide} (ms)", "ratio")
    for one in times:
        cells = []
        for what in WHAT:
            cells += [f"{one.ms(what):.0f}", f"{one.ms(what) / first.ms(what):.2f}"]
        table.add_row(one.name, *cells)
    return table
