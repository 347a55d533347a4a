"""A run computes what a plain PyTorch loop computes, and an interrupted one ends as one that never was, bit for bit."""

import copy
import json
import logging
import os
import signal

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from botvision.checkpoint import read_checkpoint
from botvision.configuration import FieldError
from botvision.data.loading import RunBatches
from botvision.errors import UserError
from botvision.training.run_folder import read_config
from botvision.training.trainer import resume, start

STEPS = 5
CONSOLE = Console(stderr=True)
KINDS = {
    "plain": {},
    "with workers": {"workers": 1},
    "accumulating": {"images_per_device": 2, "dropout": 0.3},
    "everything": {"images_per_device": 4, "dropout": 0.3, "ema_decay": 0.5, "clip_norm": 0.1},
}


class Crash(Exception):
    """An error that nobody foresaw."""


def crash(*_):
    raise Crash


def last_of(folder):
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")


def plain_loop(task, steps: int = STEPS):
    """The weights, and their average, by a loop of a few lines without dropout."""
    run = task.experiment.run
    torch.manual_seed(run.seed)
    model = task.make_model()
    average = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.out[1].parameters(), lr=0.05, momentum=0.9)
    for step, batch in enumerate(RunBatches(task.images, run.batch_size, steps, seed=run.seed), start=1):
        indices = [index for _, index in batch]
        optimizer.param_groups[0]["lr"] = 0.05 * task.rate(step - 1, steps)
        loss = (model(task.x[indices]) - task.y[indices]).square().mean()
        (loss + 1e-4 / 2 * model.out[1].weight.square().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        decay = min(0.9, (1 + step) / (10 + step))
        for own, new in zip(average.parameters(), model.parameters(), strict=True):
            own.data.copy_(decay * own.data + (1 - decay) * new.data)
    return model, average


@pytest.mark.parametrize("images_per_device", [8, 2])
def test_a_run_computes_what_a_plain_loop_does(make_task, images_per_device):
    task = make_task(images_per_device=images_per_device, ema_decay=0.9)
    content = last_of(start(task, "linear", CONSOLE).folder)
    for part, expected in zip(("state_dict", "ema_state_dict"), plain_loop(task), strict=True):
        for name in ("out.1.weight", "out.1.bias", "frozen.weight"):
            torch.testing.assert_close(content[part][name], expected.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_clipping_limits_the_first_step(make_task):
    task = make_task(steps=1, clip_norm=0.01)
    torch.manual_seed(0)
    before = task.make_model().out[1]
    after = last_of(start(task, "linear", CONSOLE).folder)["state_dict"]
    moved = torch.cat([(after["out.1.weight"] - before.weight).flatten(), after["out.1.bias"] - before.bias])
    assert moved.norm().item() == pytest.approx(0.01 * 0.05 * task.rate(0, 1), rel=0.05)  # and a little weight decay


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def uninterrupted(make_task, kind, tmp_path):
    return start(make_task(**kind, out=tmp_path / "whole"), "linear", CONSOLE).folder


def assert_same_end(folder, expected, rows_of):
    own, other = last_of(folder), last_of(expected)
    assert own["step"] == other["step"] == STEPS
    for part in ("state_dict", "ema_state_dict"):
        assert own.get(part, {}).keys() == other.get(part, {}).keys()
        assert all(torch.equal(own[part][name], value) for name, value in other.get(part, {}).items())
    momenta, others = own["optimizer"]["state"], other["optimizer"]["state"]
    assert all(torch.equal(momenta[i]["momentum_buffer"], others[i]["momentum_buffer"]) for i in others)
    for table, columns in (
        ("metrics", ("step", "epoch", "lr", "loss", "error")),
        ("evaluations", ("step", "val_error")),
    ):
        rows, others = ([[row[name] for name in columns] for row in rows_of(run, table)] for run in (folder, expected))
        assert rows == others


def test_stopped_by_a_signal_and_resumed(make_task, kind, uninterrupted, in_batch, interrupt, rows_of):
    before = signal.getsignal(signal.SIGINT)
    task = make_task(**kind)
    count = 8 // kind.get("images_per_device", 8)
    in_batch(task, 2 * count + 1, interrupt)  # in the first batch of the third step
    outcome = start(task, "linear", CONSOLE)
    assert (outcome.stopped, outcome.steps, last_of(outcome.folder)["step"]) == (True, 3, 3)
    assert signal.getsignal(signal.SIGINT) is before
    torch.manual_seed(12345)
    outcome = resume(make_task(**kind), outcome.folder, CONSOLE)
    assert (outcome.stopped, outcome.steps) == (False, STEPS)
    assert_same_end(outcome.folder, uninterrupted, rows_of)


def test_crashed_between_two_checkpoints_and_resumed(make_task, kind, uninterrupted, in_batch, rows_of, tmp_path):
    task = make_task(**kind, eval_every=100)
    in_batch(task, 3 * 8 // kind.get("images_per_device", 8) + 1, crash)  # in the fourth step
    with pytest.raises(Crash):
        start(task, "linear", CONSOLE)
    folder = tmp_path / "run"
    assert last_of(folder)["step"] == 2
    assert curve(folder) == [1, 2, 3]
    assert_same_end(resume(make_task(**kind), folder, CONSOLE).folder, uninterrupted, rows_of)
    assert curve(folder) == [1, 2, 3, 4, 5]


def curve(folder) -> list[int]:
    """The steps of the loss in TensorBoard."""
    # TensorBoard reads files in the order of their names: the second, the process, and a number without leading zeros.
    # Here one process writes two files in one second, so the order in which they were written has to be kept by hand.
    files = sorted((folder / "tensorboard").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    for number, file in enumerate(files):
        file.rename(file.with_name(f"events.out.tfevents.{number:010d}"))
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return [event.step for event in events.Scalars("loss")]


def test_every_image_comes_once_an_epoch_through_a_resume(make_task, in_batch, interrupt):
    task, again = make_task(steps=6), make_task(steps=6)
    in_batch(task, 2, interrupt)
    folder = start(task, "linear", CONSOLE).folder
    resume(again, folder, CONSOLE)
    seen = [index for batch in task.seen + again.seen for index in batch]
    assert [sorted(seen[epoch : epoch + 24]) for epoch in (0, 24)] == [list(range(24))] * 2


def test_a_second_signal_stops_at_once(make_task, in_batch, interrupt):
    def interrupt_twice(found):
        interrupt()
        interrupt()

    task = make_task()
    in_batch(task, 3, interrupt_twice)
    with pytest.raises(KeyboardInterrupt):
        start(task, "linear", CONSOLE)
    assert len(task.seen) == 3


def test_an_error_of_a_reading_process_after_a_signal_is_the_interruption(make_task, in_batch, interrupt):
    def lose_a_process(*_):
        interrupt()
        raise RuntimeError("a worker was killed")

    task = make_task()
    task.evaluate = lose_a_process
    with pytest.raises(KeyboardInterrupt):
        start(task, "linear", CONSOLE)


def test_a_complete_run_is_left_as_it_is(make_task, capsys):
    outcome = start(make_task(), "linear", CONSOLE)
    before = {file: file.stat().st_mtime_ns for file in outcome.folder.rglob("*")}
    assert resume(make_task(), outcome.folder, CONSOLE) == outcome
    assert "complete" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in outcome.folder.rglob("*")} == before


def test_a_finished_run_goes_on_to_more_steps_as_if_it_had_never_stopped(make_task, kind, tmp_path, rows_of):
    """With a learning rate that does not depend on the length of the run."""

    def with_fixed_rate(task):
        task.rate = lambda step, steps: 0.5
        return task

    longer = {**kind, "eval_every": 1, "steps": STEPS}
    whole = start(with_fixed_rate(make_task(**longer, out=tmp_path / "whole")), "linear", CONSOLE).folder
    folder = start(with_fixed_rate(make_task(**{**longer, "steps": 2})), "linear", CONSOLE).folder
    torch.manual_seed(12345)
    outcome = resume(with_fixed_rate(make_task(**longer)), folder, CONSOLE)
    assert (outcome.steps, outcome.stopped) == (STEPS, False)
    assert_same_end(folder, whole, rows_of)
    assert read_config(folder).settings["run"]["steps"] == STEPS  # the next resume is of the longer run


def test_a_longer_run_follows_the_longer_schedule_from_where_it_goes_on(make_task, rows_of):
    folder = start(make_task(steps=4), "linear", CONSOLE).folder
    longer = make_task(steps=None, epochs=3)  # 9 steps of 8 of the 24 samples
    assert resume(longer, folder, CONSOLE).steps == 9
    factors = [longer.rate(step, 4) for step in range(4)] + [longer.rate(step, 9) for step in range(4, 9)]
    assert [float(row["lr"]) for row in rows_of(folder)] == pytest.approx([0.05 * factor for factor in factors])


@pytest.mark.parametrize(("length", "field"), [({"steps": 4}, "steps"), ({"steps": None, "epochs": 1}, "epochs")])
def test_a_run_cannot_be_made_shorter_than_it_is(make_task, length, field):
    folder = start(make_task(), "linear", CONSOLE).folder
    before = (folder / "config.yaml").read_bytes()
    with pytest.raises(FieldError, match=f"{STEPS} steps") as caught:
        resume(make_task(**length), folder, CONSOLE)
    assert caught.value.path == ("run", field)
    assert str(folder) in str(caught.value)
    assert (folder / "config.yaml").read_bytes() == before


@pytest.mark.parametrize("error", [UserError("an image is cut off"), KeyboardInterrupt()])
def test_a_failed_last_evaluation_is_made_up_on_resume(make_task, tmp_path, rows_of, error):
    def fail(*_):
        raise error

    whole = start(make_task(eval_every=STEPS, out=tmp_path / "whole"), "linear", CONSOLE)
    task = make_task(eval_every=STEPS)
    task.evaluate = fail
    with pytest.raises(type(error)):
        start(task, "linear", CONSOLE)
    folder = tmp_path / "run"
    assert last_of(folder)["step"] == STEPS
    assert not (folder / "checkpoints" / "best.ckpt").exists()
    outcome = resume(make_task(eval_every=STEPS), folder, CONSOLE)
    assert (outcome.steps, outcome.stopped, outcome.scores) == (STEPS, False, whole.scores)
    assert (folder / "eval" / "metrics.json").read_text() == (whole.folder / "eval" / "metrics.json").read_text()
    own, other = (rows_of(run, "evaluations")[-1] for run in (folder, whole.folder))
    assert (own["step"], own["val_error"]) == (other["step"], other["val_error"])
    assert sorted(file.name for file in (folder / "checkpoints").iterdir()) == ["before.ckpt", "best.ckpt", "last.ckpt"]
    assert read_checkpoint(folder / "checkpoints" / "best.ckpt")["step"] == STEPS


def test_an_evaluation_in_between_that_fails_leaves_the_checkpoint_of_its_step(make_task, tmp_path):
    task = make_task(save_every=100)
    task.evaluate = crash
    with pytest.raises(Crash):
        start(task, "linear", CONSOLE)
    assert last_of(tmp_path / "run")["step"] == 3


def test_the_best_checkpoint_stays_the_best_through_a_resume(make_task, in_batch, interrupt):
    def scored(task, values):
        evaluate, scores = task.evaluate, iter(values)
        task.evaluate = lambda *arguments: evaluate(*arguments)._replace(best=next(scores))
        return task

    task = scored(make_task(eval_every=1, steps=6), [0.3, 0.5, 0.4])
    in_batch(task, 4, interrupt)
    folder = start(task, "linear", CONSOLE).folder
    best = folder / "checkpoints" / "best.ckpt"
    assert read_checkpoint(best)["step"] == 2
    again = scored(make_task(eval_every=1, steps=6), [0.45, 0.5, 0.6])  # of steps 4, which was due, to 6
    resume(again, folder, CONSOLE)
    assert (read_checkpoint(best)["step"], read_checkpoint(best)["best"]) == (6, 0.6)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_evaluation_has_the_precision_of_the_run_and_batches_keep_theirs(make_task, precision, dtype):
    task = make_task(precision=precision)
    losses, differs = task.losses, []

    def noted(model, batch):
        differs.append((batch["x"] - task.x[batch["index"]]).abs().max().item())
        return losses(model, batch)

    task.losses = noted
    start(task, "linear", CONSOLE)
    assert task.dtypes == {dtype}
    assert differs == [0.0] * STEPS


def test_a_task_without_evaluation_trains(make_task, rows_of):
    outcome = start(make_task(scored=False), "linear", CONSOLE)
    assert outcome.scores is None
    assert not (outcome.folder / "checkpoints" / "best.ckpt").exists()
    assert [row["step"] for row in rows_of(outcome.folder)] == ["1", "2", "3", "4", "5"]
    assert resume(make_task(scored=False), outcome.folder, CONSOLE).steps == STEPS


def test_after_step_is_called_with_each_step(make_task):
    task, steps = make_task(images_per_device=4), []
    task.after_step = lambda model, step: steps.append(step)
    start(task, "linear", CONSOLE)
    assert steps == [1, 2, 3, 4, 5]


def test_a_run_starts_from_weights_or_from_the_average_of_another_run(make_task, tmp_path):
    first = start(make_task(ema_decay=0.5, out=tmp_path / "first"), "linear", CONSOLE).folder
    torch.save(last_of(first)["ema_state_dict"], tmp_path / "weights.pth")
    ends = []
    for number, weights in enumerate((first, tmp_path / "weights.pth")):
        task = make_task(weights=weights, out=tmp_path / f"run{number}", steps=1, eval_every=1)
        ends.append(last_of(start(task, "linear", CONSOLE).folder)["state_dict"])
    assert all(torch.equal(ends[0][name], value) for name, value in ends[1].items())
    assert torch.equal(ends[0]["frozen.weight"], last_of(first)["ema_state_dict"]["frozen.weight"])


def test_unreadable_images_stop_a_run_and_are_counted_in_its_checkpoint(make_task, caplog, tmp_path):
    def damage(task, first: int):
        collate = task.collate
        skipped = lambda indices: [(f"{index}.png", "cut off") for index in indices if index in (first, 20)]  # noqa: E731
        task.collate = lambda indices: collate(indices) | {"skipped": skipped(indices)}
        return task

    with caplog.at_level(logging.WARNING, "botvision"):
        folder = start(damage(make_task(steps=3), 20), "linear", CONSOLE).folder
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        "left out 20.png: cut off"
    ]
    assert last_of(folder)["skipped"]["bad"] == {"20.png": "cut off"}
    with pytest.raises(UserError, match=r"20\.png .*, 3\.png|3\.png .*20\.png"):
        resume(damage(make_task(steps=6), 3), folder, CONSOLE)


def test_memory_that_is_too_small_names_the_field(make_task):
    task = make_task()

    def exhaust(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    task.losses = exhaust
    with pytest.raises(UserError, match=r"images_per_device: .* 8 images"):
        start(task, "linear", CONSOLE)


def test_a_run_is_trained_by_one_process_at_a_time(make_task, in_batch, tmp_path):
    task, out = make_task(), tmp_path / "run"

    def meanwhile(found):
        child = os.fork()
        if not child:
            try:
                with pytest.raises(UserError, match=rf"{out} is being trained by another process \({os.getppid()} on "):
                    resume(make_task(), out, CONSOLE)
                os._exit(3)
            finally:
                os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3

    in_batch(task, 4, meanwhile)
    assert start(task, "linear", CONSOLE).steps == STEPS
    assert not (out / ".lock").exists()
    (out / ".lock").touch()  # of a process that was killed
    assert resume(make_task(), out, CONSOLE).steps == STEPS


def test_a_run_that_fails_before_its_first_checkpoint_leaves_no_folder(make_task, in_batch, tmp_path):
    task = make_task()
    in_batch(task, 1, crash)
    with pytest.raises(Crash):
        start(task, "linear", CONSOLE)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_resumed_is_named_and_left_as_it_is(make_task, tmp_path):
    folder = start(make_task(steps=3), "linear", CONSOLE).folder
    other = make_task()
    other.describe = lambda: {"task": "linear", "version": "1", "features": 7}
    with pytest.raises(UserError, match=r"last\.ckpt is of another model"):
        resume(other, folder, CONSOLE)
    with pytest.raises(UserError, match="ema_decay"):
        resume(make_task(ema_decay=0.9), folder, CONSOLE)
    for file in (folder / "checkpoints").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"last\.ckpt is missing"):
        resume(make_task(), folder, CONSOLE)
    assert json.loads((folder / "eval" / "metrics.json").read_text())["step"] == 3


def test_a_batch_that_does_not_divide_over_the_devices_writes_nothing(make_task, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match=r"batch_size: .* multiple of 6 .* 8"):
        start(make_task(), "linear", CONSOLE)
    assert list(tmp_path.iterdir()) == []
