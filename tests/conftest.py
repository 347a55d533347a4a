"""What the tests share: a generated data set, a detector small enough to train in seconds, and a finished run of it."""

import html
import json
import re
import shutil
import subprocess
import traceback
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from rich.console import Console

from botvision.cli import main
from botvision.data import write_generated_coco
from botvision.tasks.detection.config import DetectionData, DetectionExperiment, DetectionOptimizer, DetectorConfig
from botvision.tasks.detection.mask_rcnn import MaskRCNN
from botvision.tasks.detection.task import DetectionTask
from botvision.training import memory, trainer
from botvision.training.config import RunConfig

POOLING_OF_OPEN_SIZE = (2, 13)
"""PyTorch before this version compiles a pooling once for every parity of its size, and cannot export it for all."""

torch.set_num_threads(1)  # the networks are tiny: threads that wait for each other only lose on a busy machine

TRAIN_IMAGES, VAL_IMAGES, SIZE = 8, 4, 64

TINY = DetectorConfig(
    depths=(1, 1, 1, 1),
    width=8,
    input_size=SIZE,
    norm_momentum=0.1,
    fpn_channels=16,
    proposals_before_nms=(100, 100),
    proposals=(50, 50),
    rpn_samples=32,
    roi_samples=16,
    box_head_width=32,
    mask_head_width=16,
    mask_head_depth=1,
    score_threshold=0.0,
)


def pytest_runtest_setup(item):
    version = tuple(map(int, torch.__version__.split(".")[:2]))
    if item.get_closest_marker("pools_open_sizes") and version < POOLING_OF_OPEN_SIZE:
        pytest.skip("PyTorch before 2.13 compiles a pooling once for every parity of its size")


@pytest.fixture(autouse=True)
def unknown_memory(monkeypatch):
    """The memory is not looked at before a run, so that tests can count what their task sees."""
    monkeypatch.setattr(memory, "free_memory", lambda: None)


@pytest.fixture
def run(capsys):
    """Runs a command; gives its exit status, standard output and standard error."""

    def command(*words) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        release(caught.value)
        output = capsys.readouterr()
        return caught.value.code, output.out, output.err

    return command


def release(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold: loaders found by the garbage collector end their workers slowly."""
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


@pytest.fixture
def refusal(run):
    """Runs a command that must be refused; gives the one line on standard error."""

    def command(*words) -> str:
        status, out, err = run(*words)
        progress = ("training, step", "evaluating, image", "predicting, image")
        lines = [line for line in err.splitlines() if not line.startswith(progress)]
        assert (status, out, len(lines)) == (2, "", 1), err
        assert lines[0].startswith("botvision: ")
        assert "Traceback" not in lines[0]  # of a worker, on one line
        return lines[0]

    return command


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """A generated data set of 8 + 4 images; tests must not change it."""
    folder = tmp_path_factory.mktemp("shapes") / "data"
    return write_generated_coco(folder, train_images=TRAIN_IMAGES, val_images=VAL_IMAGES, image_size=SIZE, seed=0)


@pytest.fixture(scope="session")
def tiny() -> DetectorConfig:
    return TINY


@pytest.fixture(scope="session")
def tiny_experiment(shapes) -> DetectionExperiment:
    """Four steps of four images on the processor."""
    return DetectionExperiment(
        model=TINY,
        data=DetectionData(data=shapes, workers=0),
        optimizer=DetectionOptimizer(lr=0.1, warmup_steps=2),
        run=RunConfig(
            steps=4, batch_size=4, precision="float32", device="cpu", eval_every=2, save_every=2, log_every=1
        ),
    )


@pytest.fixture(scope="session")
def tiny_flags(shapes) -> list[str]:
    """The same experiment as flags that follow `train small/botnet50`, two steps long."""
    text = (
        f"--data {shapes} --workers 0 --width 8 --input-size {SIZE} --fpn-channels 16 --rpn-samples 32 --roi-samples 16"
        " --proposals-before-nms 100 100 --proposals 50 50 --box-head-width 32 --mask-head-width 16"
        " --mask-head-depth 1 --batch-size 4 --steps 2 --eval-every 2 --device cpu --log-every 1"
    )
    return text.split()


@pytest.fixture(scope="session")
def finished_run(tiny_experiment, tmp_path_factory) -> Path:
    """The folder of a finished run; tests must not change it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    experiment = tiny_experiment.replace(run=tiny_experiment.run.replace(out=out))
    return trainer.start(DetectionTask(experiment), "small/botnet50", Console(stderr=True)).folder


@pytest.fixture(scope="session")
def make_lively():
    """Makes a detector of random weights say many different things with confidence."""

    def lively(model: torch.nn.Module, class_strength: float) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(1)
        strength = {"rpn.head.cls_logits": 0.3, "rpn.head.bbox_pred": 0.1, "box_predictor.cls_score": class_strength}
        strength |= {"box_predictor.bbox_pred": 0.1, "mask_predictor.mask_fcn_logits": 1.0}
        with torch.no_grad():
            for name, module in model.named_modules():
                for ending, std in strength.items():
                    if name.endswith(ending):
                        weight = torch.randn(module.weight.shape, generator=generator)
                        module.weight.copy_(std * (weight - weight.mean(dim=1, keepdim=True)))
        return model.eval()

    return lively


@pytest.fixture(scope="session")
def lively_model(make_lively) -> MaskRCNN:
    """A tiny detector in test mode that finds many things, all of them wrong."""
    torch.manual_seed(0)
    return make_lively(MaskRCNN(TINY, 6), class_strength=3.0)


class OpenedPage(NamedTuple):
    """What a browser made of a page."""

    html: str
    """The document after loading."""
    words: str
    """Its text, with the markup taken out."""
    console: list[str]
    requests: list[str]
    """URLs that the page asked the network for."""


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
BROWSER_FLAGS += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]


@pytest.fixture
def browser_command(tmp_path) -> list[str]:
    """Starts a headless browser without network, in a profile of its own."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"needs one of the browsers {', '.join(BROWSERS)}")
    return [browser, *BROWSER_FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]


@pytest.fixture
def open_page(browser_command, tmp_path):
    """Opens a file in a headless browser without network."""

    def opened(page: Path) -> OpenedPage:
        log = tmp_path / "net-log.json"
        flags = ["--enable-logging=stderr", "--dump-dom", f"--log-net-log={log}"]
        command = [*browser_command, *flags, page.absolute().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        asked = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
        # Requests of the browser itself, for its updates, come from no origin.
        asked = [params for params in asked if params.get("initiator", "not an origin") != "not an origin"]
        words = html.unescape(re.sub(r"<style.*?</style>|<[^>]*>", " ", done.stdout, flags=re.DOTALL))
        console = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]
        return OpenedPage(done.stdout, " ".join(words.split()), console, [params["url"] for params in asked])

    return opened
