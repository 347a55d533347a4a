"""The page served in this process or in one of its own, and a headless browser driven over its DevTools protocol."""

import asyncio
import json
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import pytest
import torch
from PIL import Image

from botvision.data import Category
from botvision.serving.limits import ServeLimits
from botvision.serving.server import serve_page
from botvision.tasks.classification import Classifier, ClassifierConfig
from botvision.tasks.classification.checkpoint import describe as describe_classifier
from botvision.tasks.detection.checkpoint import describe
from botvision.tasks.predictor import Predictor

SECONDS = 60
"""After which a test gives up."""
LOGGED = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")

KEEP_ANSWERS = """
const answered = [], json = Response.prototype.json;
Response.prototype.json = async function () { answered.push(await json.call(this)); return answered.at(-1); };
"""


class Browser:
    """One page of a browser: what it does, what it logs and what it asks the network for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.numbers, self.waiting = socket, count(1), {}
        self.console: list[str] = []
        self.requests: list[str] = []
        self.downloaded = asyncio.Event()
        self.listener = asyncio.create_task(self.listen())

    async def listen(self) -> None:
        async for message in self.socket:
            event = json.loads(message.data)
            if "id" in event:
                self.waiting.pop(event["id"]).set_result(event)
            elif event["method"] in LOGGED:
                self.console.append(json.dumps(event["params"])[:500])
            elif event["method"] == "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])
            elif event["method"] == "Page.downloadProgress" and event["params"]["state"] == "completed":
                self.downloaded.set()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.waiting[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(self.waiting[number], SECONDS)
        assert "error" not in answer, answer
        return answer["result"]

    async def value(self, script: str) -> Any:
        """Of a script in the page, or of its promise."""
        result = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until a condition holds in the page."""
        look = f"const look = () => ({condition}) ? done() : setTimeout(look, 20); look();"
        try:
            await self.value(f"new Promise((done) => {{ {look} }})")
        except TimeoutError as error:
            raise AssertionError(f"never true: {condition}; {await self.value('document.body.innerText')}") from error

    async def open(self, url: str) -> None:
        """Open the page and wait until it knows its model; ``answered`` in it keeps what it is told."""
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=KEEP_ANSWERS)
        await self.call("Page.navigate", url=url)
        await self.until("document.querySelector('#file')?.disabled === false")

    async def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """With the mouse, at such shares of an element's width and height."""
        element = f"document.querySelector({json.dumps(selector)})"
        box = await self.value(f"(e => (e.scrollIntoView(), e.getBoundingClientRect().toJSON()))({element})")
        place = {"x": box["x"] + across * box["width"], "y": box["y"] + down * box["height"]}
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, **place, button="left", clickCount=1)

    async def press(self, key: str, times: int = 1) -> None:
        code = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40, " ": 32}[key]
        for kind in ("keyDown", "keyUp") * times:
            text = {"text": key} if key == " " and kind == "keyDown" else {}
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    async def drop_file(self, path: Path) -> None:
        """Drag a file into the middle of the window."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            await self.call("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)

    async def choose_file(self, path: Path) -> None:
        """As if in the dialogue of the button."""
        document = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=document["root"]["nodeId"], selector="#file")
        await self.call("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(path)])

    async def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        await self.call("Emulation.setDeviceMetricsOverride", **size)


@pytest.fixture
def browser(browser_command, tmp_path):
    """Opens a browser with an empty page; downloads go to ``tmp_path``."""

    @asynccontextmanager
    async def opened():
        command = [*browser_command, "--remote-debugging-port=0", "about:blank"]
        pipes = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(*command, **pipes)
        try:
            port = None
            while port is None:
                port = re.search(rb"listening on ws://127.0.0.1:(\d+)/", await process.stderr.readline())
            draining = asyncio.create_task(process.stderr.read())  # or the browser would wait for its reader
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{int(port[1])}/json/list") as answer:
                    target = next(page for page in await answer.json() if page["type"] == "page")
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=2**26) as socket:
                    page = Browser(socket)
                    for domain in ("Runtime", "Log", "Network", "DOM", "Page"):
                        await page.call(f"{domain}.enable")
                    await page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
                    await page.size(1280, 1000)
                    yield page
        finally:
            process.terminate()
            await process.wait()
            await draining

    return opened


@asynccontextmanager
async def served_here(checkpoint: Path, **limits: Any):
    """A server of the page in this process; gives its URL."""
    ready = asyncio.get_running_loop().create_future()
    predictor = Predictor(checkpoint, device="cpu")
    serving = asyncio.create_task(serve_page(predictor, "127.0.0.1", 0, ServeLimits(**limits), ready.set_result))
    await asyncio.wait([ready, serving], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield await (ready if ready.done() else serving)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
def serve_here():
    return served_here


@pytest.fixture(scope="session")
def detector_file(lively_model, tmp_path_factory) -> Path:
    """A checkpoint of a detector that finds many things."""
    path = tmp_path_factory.mktemp("detector") / "lively.ckpt"
    categories = [Category(number, f"kind {number}") for number in (1, 2, 4, 7, 8, 11)]
    content = {"botvision": describe(lively_model.config, categories), "step": 1}
    torch.save({**content, "state_dict": dict(lively_model.state_dict())}, path)
    return path


@pytest.fixture(scope="session")
def make_classifier_file(tmp_path_factory):
    """Writes a checkpoint of a tiny classifier of three classes."""

    def make(model: str) -> Path:
        path = tmp_path_factory.mktemp(model) / "tiny.ckpt"
        torch.manual_seed(0)
        config = ClassifierConfig(model=model, depths=(1, 1, 1, 2), width=8, input_size=64)
        classes = ["ant", "bee", "cow"]
        content = {"botvision": describe_classifier(config, classes, classes), "step": 1}
        torch.save({**content, "state_dict": dict(Classifier(config, len(classes)).state_dict())}, path)
        return path

    return make


class Served(NamedTuple):
    """A server of the page in a process of its own."""

    url: str
    pid: int
    checkpoint: Path
    folders: list[Path]
    """Where it could write by mistake: its working folder and its home."""

    def memory(self) -> int:
        """Its resident memory, in megabytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


@pytest.fixture(scope="session")
def served(detector_file, tmp_path_factory):
    """``botvision serve`` of a detector; it takes files up to 8 MB."""
    base = tmp_path_factory.mktemp("served")
    folders = [base / name for name in ("work", "home", "temporary")]
    for folder in folders:
        folder.mkdir()
    words = ["serve", detector_file, "--port", "0", "--device", "cpu", "--max-megabytes", "8"]
    environment = {**os.environ, "HOME": str(folders[1]), "TMPDIR": str(folders[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "botvision", *map(str, words)],
        cwd=folders[0],
        env={**environment, "MPLCONFIGDIR": str(folders[2]), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    url = re.search("open (http://[^ ]*/)", process.stderr.readline())
    yield Served(url[1], process.pid, detector_file, folders[:2])
    process.terminate()
    process.communicate()


@pytest.fixture(scope="session")
def photograph(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photograph") / "a photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
    return path
