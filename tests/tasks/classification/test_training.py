"""What a classifier learns from a batch, and what it starts from."""

import shutil

import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import CutMix, MixUp

from botvision.errors import UserError
from botvision.models import create_model
from botvision.tasks.classification.config import ClassificationData
from botvision.tasks.classification.losses import mixing
from botvision.tasks.classification.task import ClassificationTask

SIZE, LABELS = 64, [2, 0, 1, 1]


@pytest.fixture
def task_of(colour_experiment, change):
    """Makes the task with fields of sections replaced, such as model={"freeze": "c2"}."""
    return lambda **changes: ClassificationTask(change(colour_experiment, **changes))


def a_batch():
    images = torch.randint(0, 256, (len(LABELS), 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    return {"images": images.to(torch.uint8), "targets": [{"label": label, "path": ""} for label in LABELS]}


class Fixed(nn.Module):
    """Gives the same logits for whatever comes in."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits


LOGITS = [[1.0, 0.0, 3.0], [0.5, 2.0, 0.0], [0.0, 1.0, 0.0], [4.0, 1.0, 1.0]]  # right, wrong, right, wrong


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_with_smoothed_labels_and_top1_a_share(task_of, smoothing):
    task = task_of(optimizer={"label_smoothing": smoothing})
    wanted = torch.full((4, 3), smoothing / 3, dtype=torch.float64)
    wanted[range(4), LABELS] += 1 - smoothing
    expected = -(wanted * torch.tensor(LOGITS, dtype=torch.float64).log_softmax(dim=1)).sum(dim=1).mean()
    losses = task.losses(Fixed(LOGITS), a_batch())
    assert losses.keys() == {"loss", "top1"} == set(task.columns)
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert losses["top1"] == 0.5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({"mixup": 0.4}, MixUp(alpha=0.4, num_classes=3)), ({"cutmix": 1.0}, CutMix(alpha=1.0, num_classes=3))],
)
def test_mixing_is_torchvisions_with_the_same_seed(ours, theirs):
    images, labels = a_batch()["images"], torch.tensor(LABELS)
    mix = mixing(ClassificationData(**ours), classes=3)
    for seed in range(5):
        torch.manual_seed(seed)
        torch.multinomial(torch.tensor([1.0]), 1)  # the choice among one
        expected_images, expected_labels = theirs(images.float(), labels)
        torch.manual_seed(seed)
        mixed_images, mixed_labels = mix(images, labels)
        assert torch.equal(mixed_images, expected_images)
        assert torch.equal(mixed_labels, expected_labels)
        assert mixed_labels.sum(dim=1) == pytest.approx(torch.ones(4))
        assert not torch.equal(mixed_images, images.float())


def test_of_both_each_batch_draws_one_and_of_none_images_stay_bytes():
    images, labels = a_batch()["images"], torch.tensor(LABELS)
    mix = mixing(ClassificationData(mixup=1.0, cutmix=1.0), classes=3)
    torch.manual_seed(0)
    whole = [bool(torch.equal(mixed, mixed.round())) for mixed, _ in (mix(images, labels) for _ in range(40))]
    assert 8 < sum(whole) < 32  # cut images have whole numbers, mixed ones have not
    untouched, same = mixing(ClassificationData(), classes=3)(images, labels)
    assert untouched is images
    assert same is labels


def test_top1_of_mixed_images_asks_for_the_stronger_one(task_of):
    task = task_of()
    mixed = torch.tensor([[0.4, 0.0, 0.6], [0.3, 0.7, 0.0], [0.3, 0.7, 0.0], [0.3, 0.7, 0.0]])
    task.mix = lambda images, labels: (images, mixed)
    assert task.losses(Fixed(LOGITS), a_batch())["top1"] == 0.75  # the last one should be 1 and is 0


def test_a_batch_without_a_readable_image_teaches_nothing(task_of):
    task = task_of()
    model = task.make_model().train()
    losses = task.losses(model, {"images": torch.empty((0, 3, 0, 0), dtype=torch.uint8), "targets": []})
    losses["loss"].backward()
    assert losses["loss"] == 0
    assert all(torch.count_nonzero(parameter.grad) == 0 for parameter in model.parameters())


STAGES = {"stem": ("conv1", "bn1"), "c2": ("layer1",), "c3": ("layer2",), "c4": ("layer3",), "c5": ("layer4",)}


@pytest.mark.parametrize("freeze", [*STAGES, "none"])
def test_what_is_frozen_stays_as_it_is_and_all_else_is_trained(task_of, freeze, tmp_path):
    task = task_of(model={"freeze": freeze}, run={"weights": tmp_path})
    model = task.make_model().train()
    stages = ["none", *STAGES]
    frozen = [part for stage in stages[1 : stages.index(freeze) + 1] for part in STAGES[stage]]
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    task.losses(model, a_batch())["loss"].backward()
    optimizer = task.optimizer(model)
    optimizer.step()
    for name, parameter in model.network.named_parameters():
        assert (parameter.grad is None) == (name.split(".")[0] in frozen), name
    for name, value in model.network.state_dict().items():
        if name.split(".")[0] in frozen:
            assert torch.equal(value, before[name]), name
        elif name.endswith("running_mean"):
            assert not torch.equal(value, before[name]), name
    assert model.network.fc.training
    assert not model.eval().network.fc.training


def test_nothing_is_frozen_that_was_not_loaded(task_of):
    with pytest.raises(UserError, match=r"model\.freeze: .*weights"):
        task_of(model={"freeze": "c3"})


def test_weights_of_other_classes_start_all_but_the_last_layer(task_of):
    task = task_of()
    source = create_model("botnet50", depths=(1, 1, 1, 1), width=8, num_classes=10, input_size=64)
    model = task.make_model()
    report = task.load_weights(model, source.state_dict())
    assert "fc.weight, fc.bias" in report
    assert torch.equal(model.network.layer4[0].conv1.weight, source.layer4[0].conv1.weight)
    assert model.network.fc.weight.shape == (3, 256)


def test_a_warm_up_as_long_as_the_run_is_refused(task_of):
    with pytest.raises(UserError, match=r"warmup_epochs: .* 4 steps .* 6 steps"):
        task_of(optimizer={"warmup_epochs": 2})
    assert task_of(optimizer={"warmup_epochs": 1}).warmup_steps == 3


def test_no_data_folder(task_of):
    with pytest.raises(UserError, match=r"data\.data: is missing"):
        task_of(data={"data": None})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch's own compiler needs one for C++")
def test_a_compiled_network_computes_the_same_and_keeps_its_names(task_of):
    torch.compiler.reset()
    task = task_of()
    torch.manual_seed(0)
    model = task.make_model().train()
    plain = task.losses(model, a_batch())["loss"]
    names = list(model.state_dict())
    task.compiled_part(model).compile(backend="aot_eager")  # traced as always; only the machine code is left out
    compiled = task.losses(model, a_batch())["loss"]
    compiled.backward()
    assert list(model.state_dict()) == names
    assert compiled.item() == pytest.approx(plain.item(), rel=1e-4)


def test_one_image_alone_has_the_loss_of_the_same_image_twice(task_of):
    task = task_of()
    model = task.make_model().train()
    image = torch.randint(0, 256, (1, 3, SIZE, SIZE), dtype=torch.uint8)
    one, two = (
        task.losses(model, {"images": image.repeat(count, 1, 1, 1), "targets": [{"label": 1}] * count})
        for count in (1, 2)
    )
    assert one["loss"].item() == pytest.approx(two["loss"].item(), rel=1e-6)


def test_one_class_alone_and_other_classes_in_the_two_splits_are_refused(task_of, colours, tmp_path):
    other = shutil.copytree(colours, tmp_path / "other")
    (other / "val" / "red").rename(other / "val" / "rouge")
    with pytest.raises(UserError, match="rouge"):
        task_of(data={"data": str(other)})
    one = shutil.copytree(colours, tmp_path / "one")
    for split in ("train", "val"):
        for name in ("blue", "green"):
            shutil.rmtree(one / split / name)
    with pytest.raises(UserError, match="'red'"):
        task_of(data={"data": str(one)})
