"""A server of the page in a process of its own, and a headless browser that is driven over its DevTools protocol."""

import asyncio
import base64
import json
import os
import re
import shutil
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
from botvision.tasks.detection.checkpoint import describe


class Browser:
    """One page of a browser: what it does, what it logs and what it asks the network for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.numbers, self.answers = socket, count(1), {}
        self.console: list[str] = []
        self.requests: list[str] = []
        self.listener = asyncio.create_task(self.listen())

    async def listen(self) -> None:
        async for message in self.socket:
            event = json.loads(message.data)
            if "id" in event:
                self.answers.pop(event["id"]).set_result(event)
            elif event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.console.append(json.dumps(event["params"])[:500])
            elif event["method"] == "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(self.answers[number], 60)
        assert "error" not in answer, answer
        return answer["result"]

    async def value(self, script: str) -> Any:
        """Of a script in the page."""
        result = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until a script is true."""
        for _ in range(600):
            if await self.value(script):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never true: {script}; {await self.value('document.body.innerText')}")

    async def choose_file(self, path: Path) -> None:
        document = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=document["root"]["nodeId"], selector="#file")
        await self.call("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(path)])

    async def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def press(self, key: str) -> None:
        code = {"Enter": 13, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9, "ArrowLeft": 37}[key]
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    async def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        await self.call("Emulation.setDeviceMetricsOverride", **size)

    async def picture(self) -> bytes:
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@pytest.fixture
def browser(tmp_path):
    """Opens a page in a browser of its own."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs chromium")

    @asynccontextmanager
    async def opened(url: str):
        profile = tmp_path / "profile"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--disable-background-networking", f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        silent = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
        process = await asyncio.create_subprocess_exec(program, *flags, "about:blank", **silent)
        try:
            port_file = profile / "DevToolsActivePort"
            for _ in range(1000):
                if port_file.is_file() and "\n" in port_file.read_text():
                    break
                await asyncio.sleep(0.05)
            port = port_file.read_text().split()[0]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    target = next(page for page in await answer.json() if page["type"] == "page")
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=2**26) as socket:
                    page = Browser(socket)
                    for domain in ("Runtime", "Log", "Network", "DOM", "Page"):
                        await page.call(f"{domain}.enable")
                    await page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
                    await page.size(1280, 1400)
                    await page.call("Page.navigate", url=url)
                    yield page
        finally:
            process.terminate()
            await process.wait()

    return opened


class Served(NamedTuple):
    """A server of the page."""

    url: str
    pid: int
    checkpoint: Path
    folders: list[Path]
    """Where it could write by mistake: its working folder and its home."""
    temporary: Path

    def memory(self) -> int:
        """Its resident memory, in megabytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


@pytest.fixture(scope="module")
def served(lively_model, tmp_path_factory):
    """A server of a detector that finds many things; it takes files up to 8 MB."""
    base = tmp_path_factory.mktemp("served")
    folders = [base / name for name in ("work", "home", "temporary")]
    for folder in folders:
        folder.mkdir()
    categories = [Category(number, f"kind {number}") for number in (1, 2, 4, 7, 8, 11)]
    content = {"botvision": describe(lively_model.config, categories), "step": 1}
    torch.save({**content, "state_dict": dict(lively_model.state_dict())}, base / "lively.ckpt")
    words = ["serve", base / "lively.ckpt", "--port", "0", "--device", "cpu", "--max-megabytes", "8"]
    environment = {**os.environ, "HOME": str(folders[1]), "TMPDIR": str(folders[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "botvision", *map(str, words)],
        cwd=folders[0],
        env={**environment, "MPLCONFIGDIR": str(folders[2]), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stderr.readline()
    yield Served(re.search("http://[^ ]*/", line)[0], process.pid, base / "lively.ckpt", folders[:2], folders[2])
    process.terminate()
    process.communicate()


@pytest.fixture(scope="module")
def photograph(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photograph") / "a photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
    return path
