"""Weights as other programs wrap them: containers, prefixes, averages; and files that hold a whole network."""

from argparse import Namespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from botvision.errors import UserError
from botvision.models import create_model, load_weights, read_state_dict

TINY = {"depths": (1, 1, 1, 1), "width": 8, "num_classes": 3}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("botnet50", **TINY)


class Lightning(nn.Module):
    """A network in the way that people use Lightning: beside a loss with weights of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(3))


WRAPPED = {
    "as it is": lambda model: model.state_dict(),
    "DataParallel": lambda model: nn.DataParallel(model).state_dict(),
    "compiled": lambda model: torch.compile(model).state_dict(),
    "compiled, then DataParallel": lambda model: nn.DataParallel(torch.compile(model)).state_dict(),
    "Lightning": lambda model: {"state_dict": Lightning(model).state_dict(), "epoch": 3, "callbacks": {}},
    "DeepSpeed": lambda model: {"module": model.state_dict(), "optimizer": None},
    "torchvision's recipe": lambda model: {
        "model": nn.DataParallel(model).state_dict(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=1.0).state_dict(),
        "args": Namespace(model="botnet50", lr=0.1),
    },
    "PyTorch's tutorial": lambda model: {"epoch": 1, "model_state_dict": model.state_dict(), "loss": 0.5},
    "average of torchvision's recipe": lambda model: {
        "model": network(seed=1).state_dict(),
        "model_ema": AveragedModel(model).state_dict(),
    },
    "average of timm's recipe": lambda model: {
        "state_dict": network(seed=1).state_dict(),
        "state_dict_ema": model.state_dict(),
        "metric": 0.7,
    },
    "average of a run": lambda model: {
        "botvision": {"task": "classification"},
        "state_dict": {f"network.{name}": value for name, value in network(seed=1).state_dict().items()},
        "ema_state_dict": model.state_dict(),
    },
    "average in an object": lambda model: {
        "ema": {"decay": 0.99, "num_updates": 7, "shadow": model.state_dict()},
        "model": network(seed=1).state_dict(),
    },
    "average without tensors": lambda model: {"model": model.state_dict(), "ema": {}},
    "average of counters": lambda model: {
        "model": model.state_dict(),
        "ema": {"decay": torch.tensor(0.99), "updates": torch.tensor(3)},
    },
    "average without names": lambda model: {
        "model": model.state_dict(),
        "ema": {"decay": 0.99, "shadow_params": list(model.parameters())},
    },
    "average that was not kept": lambda model: {"model": model.state_dict(), "model_ema": None},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_the_weights_of_every_program_are_those_of_its_network(wrap, tmp_path):
    theirs, ours = network(), network(seed=2)
    torch.save(wrap(theirs), tmp_path / "weights.pth")
    report = load_weights(ours, read_state_dict(tmp_path / "weights.pth"))
    assert (report.at_random, report.adapted) == ([], [])
    assert set(report.unused) <= {"loss.weight", "n_averaged"}
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in theirs.state_dict().items())


def test_an_average_of_parameters_alone_gets_the_running_statistics_of_the_network(tmp_path, caplog):
    average, model, ours = network(), network(seed=1), network(seed=2)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer)
    shadow = {f"module.{name}": value.detach() for name, value in average.named_parameters()}
    torch.save({"ema": {"decay": 0.99, "shadow": shadow}, "model": model.state_dict()}, tmp_path / "weights.pth")
    with caplog.at_level("INFO", "botvision"):
        report = load_weights(ours, read_state_dict(tmp_path / "weights.pth"))
    assert (report.at_random, report.adapted, report.unused) == ([], [], [])
    expected = {**model.state_dict(), **dict(average.named_parameters())}
    assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
    assert f"{tmp_path / 'weights.pth'}: 'ema.shadow' lacks " in caplog.text


def test_an_average_that_cannot_be_read_is_warned_of(tmp_path, caplog):
    state = network().state_dict()
    torch.save({"model": state, "ema": {"shadow_params": list(state.values())}}, tmp_path / "weights.pth")
    assert read_state_dict(tmp_path / "weights.pth").keys() == state.keys()
    assert "'ema' holds no tensors by name; the weights are those of 'model'" in caplog.text
    torch.save({"model": state, "ema": {}}, tmp_path / "weights.pth")
    caplog.clear()
    read_state_dict(tmp_path / "weights.pth")
    assert not caplog.records


def test_prefixes_in_safetensors_are_taken_too(tmp_path):
    state = {f"module.{name}": value.contiguous() for name, value in network().state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    assert set(read_state_dict(tmp_path / "a.safetensors")) == set(network().state_dict())


def test_names_that_would_become_one_stay(tmp_path):
    state = {"fc.weight": torch.zeros(2), "model.fc.weight": torch.ones(2)}
    torch.save(state, tmp_path / "two.pth")
    read = read_state_dict(tmp_path / "two.pth")
    assert read.keys() == state.keys()


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel, lambda model: {"state_dict": {"net": model}}])
def test_a_whole_network_is_refused_with_what_to_do(wrap, tmp_path):
    torch.save(wrap(nn.Linear(2, 2)), tmp_path / "whole.pt")
    with pytest.raises(UserError, match=r"whole\.pt .*torch\.save\(model\.state_dict\(\), FILE\)") as error:
        read_state_dict(tmp_path / "whole.pt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state_dict": {}},
        {"ema": {"shadow": [torch.ones(2)]}},
        {"model": {"epoch": 3}},
        {"state_dict": [1]},
        [1],
        {"lr": 0.1},
    ],
)
def test_a_file_without_tensors_by_name_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth does not hold a state dict"):
        read_state_dict(tmp_path / "other.pth")
