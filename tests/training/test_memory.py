"""What a step keeps in memory, against numbers worked out by hand, and what is said where it does not fit."""

from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch import nn

from botvision.errors import UserError
from botvision.training import memory
from botvision.training.processes import launch
from botvision.training.trainer import start


def kept(task, model, images=1):
    return memory.memory_of_images(images, task, model, launch(task.experiment.run))


class Convolutions(nn.Module):
    """Keeps its input and the map between its layers, and changes statistics."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.norm = nn.BatchNorm2d(2, affine=False)


class ConvolutionTask:
    """Images of 16 x 16 and random noise added to them."""

    images = 4

    def __init__(self, run):
        self.experiment = SimpleNamespace(run=run)

    def loader(self, batches):
        return [{"size": 1, "images": torch.rand(1, 3, 16, 16)}]

    def losses(self, model, batch):
        x = batch["images"] + torch.rand(1, 3, 16, 16)
        maps = model.second(model.first(x))
        with torch.no_grad():
            model.norm(maps)
        return {"loss": maps.sum()}


def test_what_one_image_keeps_is_its_maps(make_task):
    task, model = ConvolutionTask(make_task().experiment.run), Convolutions()
    numbers = (3 + 8) * 16 * 16  # the inputs of both layers; a sum keeps nothing
    assert kept(task, model) == 4 * numbers


def test_measuring_changes_neither_the_network_nor_the_random_numbers(make_task):
    task, model = ConvolutionTask(make_task().experiment.run), Convolutions().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    kept(task, model)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("share", "advice"), [(0.5, "at most [1-7]\\b"), (0, "smaller")])
def test_more_images_than_fit_are_refused_before_anything_is_written(make_task, monkeypatch, tmp_path, share, advice):
    task = make_task()
    of_an_image = kept(task, task.make_model(), images=2) // 2
    weights = sum(p.numel() * 4 for p in task.make_model().parameters() if p.requires_grad)
    monkeypatch.setattr(memory, "free_memory", lambda: int(share * 8 * of_an_image) + 2 * weights)
    with pytest.raises(UserError, match=rf"images_per_device: 8 images.*{advice}"):
        start(task, "linear", Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_what_fits_is_trained(make_task, monkeypatch):
    task = make_task()
    monkeypatch.setattr(memory, "free_memory", lambda: 10**12)
    assert start(task, "linear", Console(quiet=True)).steps == 5


def test_a_container_has_its_own_limit(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable:  600 kB\nSwapFree: 24 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert real_free_memory() == 624 * 1024
    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.stat").write_text("anon 100000\nfile 190000\n")
    assert real_free_memory() == 200000
    (tmp_path / "memory.max").write_text("max\n")
    assert real_free_memory() == 624 * 1024
    meminfo.unlink()
    assert real_free_memory() is None


real_free_memory = memory.free_memory
