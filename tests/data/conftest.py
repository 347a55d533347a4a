"""A data set of two images in COCO's layout that tests change to taste, and the real photographs where they are."""

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from botvision.data import write_shards
from botvision.data.classification import open_images

COCO_MINI = Path(__file__).parents[2].parent / "shared" / "data" / "coco-mini"


@pytest.fixture
def content() -> dict:
    """What an annotation file of two images and two instances holds."""
    square = {"bbox": [2, 3, 4, 5], "segmentation": [[2, 3, 6, 3, 6, 8, 2, 8]]}
    return {
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
        "images": [
            {"id": 7, "file_name": "a.png", "height": 10, "width": 20},
            {"id": 5, "file_name": "b.png", "height": 12, "width": 8},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, **square},
            {"id": 2, "image_id": 7, "category_id": 3, **square},
        ],
    }


@pytest.fixture
def write_coco(tmp_path: Path, content: dict) -> Callable[..., Path]:
    """Writes `content` as the test has changed it, and two image files."""

    def write(layout: str = "train2017") -> Path:
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / layout).mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{layout}.json").write_text(json.dumps(content))
        for name, height, width in (("a.png", 10, 20), ("b.png", 12, 8)):
            pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
            Image.fromarray(pixels).save(tmp_path / layout / name)
        return tmp_path

    return write


@pytest.fixture(scope="session")
def coco_mini() -> Path:
    if not COCO_MINI.is_dir():
        pytest.skip(f"needs the photographs of COCO at {COCO_MINI}")
    return COCO_MINI


@pytest.fixture
def write_images() -> Callable[..., None]:
    """Writes noise into image files, other pixels in each."""

    def write(folder: Path, names: list[str], side: int = 8) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            rng = np.random.default_rng([ord(letter) for letter in f"{folder.name}/{name}"])
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / name)

    return write


@pytest.fixture
def animals(tmp_path: Path, write_images: Callable[..., None]) -> Path:
    """A data folder of two classes, with five and three images to train on and two of each to evaluate on."""
    root = tmp_path / "animals"
    write_images(root / "train" / "cat", [f"c{number}.png" for number in range(5)])
    write_images(root / "train" / "ant", [f"a{number}.png" for number in range(3)])
    for name in ("ant", "cat"):
        write_images(root / "val" / name, ["0.png", "1.png"])
    return root


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[str, list[str]]]]:
    """Serves a folder over HTTP on this machine; gives its URL, and a list of the paths that are asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers: list[ThreadingHTTPServer] = []

    def start(folder: Path, handler: type[SimpleHTTPRequestHandler] = SimpleHTTPRequestHandler) -> tuple[str, list]:
        asked: list[str] = []

        class Recorder(handler):
            def do_GET(self):
                asked.append(self.path)
                super().do_GET()

            def log_message(self, *_):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(Recorder, directory=str(folder))))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A folder for the export of a labelling tool."""
    (tmp_path / "export").mkdir()
    return tmp_path / "export"


@pytest.fixture
def converted(run: Callable[..., tuple[int, str, str]], export: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The content of a split after `botvision data convert`."""

    def convert(split: str = "train") -> dict[str, Any]:
        if not (tmp_path / "coco").exists():
            status, _, err = run("data", "convert", export, "--out", tmp_path / "coco")
            assert status == 0, err
        return json.loads((tmp_path / "coco" / "annotations" / f"instances_{split}.json").read_text())

    return convert


@pytest.fixture
def shards(animals: Path) -> Path:
    """`animals` in shards of at most three images."""
    (animals / "words.txt").write_text("ant emmet\n")
    for split in ("train", "val"):
        write_shards(open_images(animals, split), animals / "shards", split, samples_per_shard=3, seed=0)
    return animals / "shards"
