"""DETR: its layers against PyTorch's, its indifference to padding, its optimiser, and that it learns."""

import itertools
import math

import pytest
import torch
import yaml
from rich.console import Console
from torch import nn

from botvision.data import CocoDetection
from botvision.data.loading import collate
from botvision.experiments import find_experiment
from botvision.tasks.detection import Detr, DetrConfig, DetrOptimizer
from botvision.tasks.detection.evaluate import evaluate_detector
from botvision.tasks.detection.options import DetectionPredictOptions
from botvision.tasks.detection.task import DetectionTask
from botvision.tasks.detection.transformer import DecoderLayer, EncoderLayer, sine_positions
from botvision.tasks.detection.transforms import eval_transform
from botvision.tasks.predictor import Predictor
from botvision.tasks.registry import task_of_run
from botvision.training.trainer import resume, start

TINY = DetrConfig(
    depths=(1, 1, 1, 1),
    width=8,
    input_size=64,
    norm_momentum=0.1,
    hidden=32,
    heads=4,
    encoder_layers=1,
    decoder_layers=2,
    feed_forward=64,
    queries=10,
    dropout=0.0,
)


@pytest.fixture
def model() -> Detr:
    torch.manual_seed(0)
    return Detr(TINY, 3).eval()


def with_weights_of(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    state = {name.replace("in_proj_", "in_proj."): value for name, value in theirs.state_dict().items()}
    ours.load_state_dict(state)
    return ours.double()


def padded_map(sizes: list[tuple[int, int]], height: int, width: int) -> tuple[torch.Tensor, ...]:
    """A random map as positions (B, H*W, 32), what of it is padding (B, H*W), and biases that mask this."""
    is_padding = torch.ones(len(sizes), height, width, dtype=torch.bool)
    biases = torch.full((len(sizes), height), -torch.inf), torch.full((len(sizes), width), -torch.inf)
    for index, (rows, columns) in enumerate(sizes):
        is_padding[index, :rows, :columns] = False
        biases[0][index, :rows], biases[1][index, :columns] = 0, 0
    return torch.randn(len(sizes), height * width, 32, dtype=torch.float64), is_padding.flatten(1), biases


def for_queries(biases, count: int):
    return tuple(bias[:, None, None].expand(-1, -1, count, -1).double() for bias in biases)


def test_without_positions_the_layers_are_pytorchs():
    torch.manual_seed(0)
    memory, is_padding, biases = padded_map([(3, 5), (4, 2)], 4, 5)
    options = {"dim_feedforward": 64, "batch_first": True, "dtype": torch.float64}
    theirs = nn.TransformerEncoderLayer(32, 4, **options).eval()
    ours = with_weights_of(EncoderLayer(TINY), theirs).eval()
    zeros = torch.zeros_like(memory)
    found = ours(memory, zeros, for_queries(biases, 20))
    expected = theirs(memory, src_key_padding_mask=is_padding)
    torch.testing.assert_close(found[~is_padding], expected[~is_padding])

    queries = torch.randn(2, 7, 32, dtype=torch.float64)
    theirs = nn.TransformerDecoderLayer(32, 4, **options).eval()
    ours = with_weights_of(DecoderLayer(TINY), theirs).eval()
    found = ours(queries, torch.zeros_like(queries), memory, zeros, for_queries(biases, 7))
    torch.testing.assert_close(found, theirs(queries, memory, memory_key_padding_mask=is_padding))


def test_positions_go_into_queries_and_keys_alone():
    torch.manual_seed(0)
    memory, _, biases = padded_map([(3, 5)], 3, 5)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True, dtype=torch.float64)
    layer = EncoderLayer(TINY).double().eval()
    with_weights_of(layer.self_attn, theirs)
    positions = torch.randn_like(memory)
    seen = []
    layer.norm1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    layer(memory, positions, for_queries(biases, 15))
    placed = memory + positions
    torch.testing.assert_close(seen[0], memory + theirs(placed, placed, memory)[0])


def test_the_places_of_the_image_have_the_published_sines():
    """Row y of h valid ones: sin and cos of 2 pi (y + 1) / h over 10000 ** (2 i / 16) (authors' code)."""
    found = sine_positions(torch.tensor([[4, 2]]), (5, 3), 32)[0].unflatten(0, (5, 3))
    for y, x, axis, channel in itertools.product(range(5), range(3), range(2), range(16)):
        place = ((y + 1) / 4, (x + 1) / 2)[axis]
        angle = 2 * math.pi * place / 10000 ** (2 * (channel // 2) / 16)
        expected = math.cos(angle) if channel % 2 else math.sin(angle)
        assert found[y, x, 16 * axis + channel].item() == pytest.approx(expected, abs=1e-5)


def test_on_a_resnet50_it_has_the_authors_number_of_weights():
    """github.com/facebookresearch/detr counts 41 302 368 for COCO's 91 ids; stem, c2 and norms are frozen there."""
    with torch.device("meta"):
        model = Detr(DetrConfig(backbone="resnet50", freeze_stem=True), 91)
    norms = {id(p) for part in model.modules() if isinstance(part, nn.BatchNorm2d) for p in part.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in norms]
    assert sum(p.numel() for p in trained) == 41_302_368


def test_detections_do_not_depend_on_padding_past_the_reach_of_convolutions(model):
    """The convolutions of such a network reach 21 pixels; an image of 32 x 64 pixels in an input of 96 x 96 or more."""
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    images[1, :, :56, :88] = images[0, :, :56, :88]
    small = images[:1, :, :96, :96]
    with torch.no_grad():
        first, second = model(images, [(32, 64)] * 2)
        third = model(small, [(32, 64)])[0]
    for name, values in first.items():
        torch.testing.assert_close(second[name], values)
        torch.testing.assert_close(third[name], values)
    assert not torch.allclose(model(images)[0]["boxes"], first["boxes"])


def test_the_backbone_has_a_learning_rate_of_its_own_and_every_weight_is_trained(model):
    config = DetrOptimizer(lr=0.5, backbone_lr=0.25)
    optimizer = model.optimizer(config)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {name: rates[id(p)] for name, p in model.named_parameters()} == {
        name: 0.25 if name.startswith("backbone.body.") else 0.5 for name, _ in model.named_parameters()
    }


def test_under_bfloat16_losses_and_boxes_are_in_float32(model):
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    target = {"boxes": torch.tensor([[5.0, 5, 40, 50]]), "labels": torch.tensor([2])}
    with torch.autocast("cpu", torch.bfloat16):
        found = model(images)[0]
        losses = model.train()(images, [(64, 40), (33, 64)], [target, target])
    sum(losses.values()).backward()
    assert {value.dtype for value in (found["boxes"], found["scores"], *losses.values())} == {torch.float32}
    assert (found["boxes"] != found["boxes"].bfloat16().float()).float().mean() > 0.5
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_run_is_interrupted_resumed_scored_and_used(shapes, tmp_path):
    experiment = find_experiment("small/detr_botnet50").config
    run = experiment.run.replace(out=tmp_path / "run", steps=2, batch_size=2, eval_every=2)
    experiment = experiment.replace(model=TINY, data=experiment.data.replace(data=shapes, workers=0), run=run)
    outcome = start(DetectionTask(experiment), "small/detr_botnet50", Console(stderr=True))
    written = yaml.safe_load((outcome.folder / "config.yaml").read_text())
    assert (written["model"]["detector"], written["optimizer"]["backbone_lr"]) == ("detr", 1e-3)
    task = task_of_run(outcome.folder, steps=3)
    assert task.experiment.optimizer == experiment.optimizer
    outcome = resume(task, outcome.folder, Console(stderr=True))
    assert outcome.steps == 3
    assert outcome.scores.keys() == {"classes", "box"}
    columns = (outcome.folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert columns[-4:] == ["loss", *Detr.loss_names]
    image = next((shapes / "val2017").iterdir())
    options = DetectionPredictOptions(threshold=0, out=tmp_path / "out", device="cpu")
    trained = Predictor(outcome.folder, device="cpu").trained
    found = DetectionTask.predict_files(trained, [image], options, 1, lambda *_: None)
    assert len(found) == TINY.queries


def test_a_small_detr_learns_four_images_by_heart(shapes):
    torch.manual_seed(0)
    model = Detr(TINY.replace(width=16, hidden=64), 6).train()
    images = CocoDetection(shapes, "train", eval_transform(64), limit=4)
    batch = collate(list(images))
    sizes = [target["content_size"] for target in batch["targets"]]
    optimizer = model.optimizer(DetrOptimizer(lr=2e-3, backbone_lr=2e-3))
    for _ in range(100):
        optimizer.zero_grad()
        sum(model(batch["images"], sizes, batch["targets"]).values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert evaluate_detector(model, images, batch_size=4).scores["box"]["ap50"] > 0.9
