"""When the losses of a step are known, and what they are."""

import pytest
import torch

from botvision.errors import NotFiniteError
from botvision.training.step_losses import StepLosses


def losses(loss: float, other: float = 0.0) -> dict[str, torch.Tensor]:
    return {"other": torch.tensor(other), "loss": torch.tensor(loss, requires_grad=True)}


@pytest.fixture
def step_losses():
    return StepLosses(("loss", "other"), torch.device("cpu"))


def test_they_are_means_over_the_batches_of_a_step(step_losses):
    for loss in (1.0, 2.0, 6.0):
        step_losses.add(losses(loss, 2 * loss))
    step_losses.end_step(1, stop=False, failed=True)
    step_losses.add(losses(5.0))
    step_losses.end_step(2, stop=True, failed=False)
    assert [tuple(result) for result in step_losses.results(wait=False)] == [
        (1, {"loss": 3.0, "other": 6.0}, False, True),
        (2, {"loss": 5.0, "other": 0.0}, True, False),
    ]
    assert list(step_losses.results(wait=True)) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_that_is_not_finite_names_its_step(step_losses, bad):
    for step, loss in enumerate((1.0, bad), start=7):
        step_losses.add(losses(loss))
        step_losses.end_step(step, stop=False, failed=False)
    results = step_losses.results(wait=False)
    assert next(results).step == 7
    with pytest.raises(NotFiniteError, match=f"{bad} at step 8"):
        next(results)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_last_step_is_read_with_the_next_or_when_it_has_to_be():
    step_losses = StepLosses(("loss", "other"), torch.device("cuda"))
    known = []
    for step in range(1, 5):
        step_losses.add({name: value.cuda() for name, value in losses(float(step)).items()})
        step_losses.end_step(step, stop=False, failed=False)
        known.append([result.step for result in step_losses.results(wait=step == 3)])
    assert known == [[], [1], [2, 3], []]
    assert [result.losses["loss"] for result in step_losses.results(wait=True)] == [4.0]
