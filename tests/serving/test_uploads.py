"""Many uploads at once, good and bad ones, and requests that are refused."""

import asyncio
import io
import json
import struct
import zlib

import aiohttp
import numpy as np
import pytest
from PIL import Image

from botvision.tasks.predictor import Predictor


def encoded(size: tuple[int, int], form: str, mode: str = "RGB", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).convert(mode).save(file, form)
        return file.getvalue()


def bomb() -> bytes:
    """A PNG file of a few bytes that says to have 60000 x 60000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    parts = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD = {
    "text": (b"no image", 400, "no known image format"),
    "nothing": (b"", 400, "is empty"),
    "bomb": (bomb(), 400, "more pixels than 128000000"),
    "cut off": (encoded((200, 100), "JPEG")[:2000], 400, "cannot be read"),
    "100 MB": (bytes(100 * 2**20), 413, "larger than 8 MB"),
}
GOOD = {
    "photo": encoded((90, 60), "PNG"),
    "jpeg": encoded((300, 200), "JPEG"),
    "CMYK": encoded((120, 80), "TIFF", "CMYK"),
    "one pixel": encoded((1, 1), "PNG"),
    "grey": encoded((70, 70), "PNG", "L"),
}


async def post(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, str]:
    async with session.post(url, data=body) as answer:
        return answer.status, await answer.text()


def test_fifty_uploads_at_once_are_all_answered_rightly(served):
    predictor = Predictor(served.checkpoint, device="cpu")
    expected = {name: predictor(Image.open(io.BytesIO(body)), threshold=0.05).to_coco() for name, body in GOOD.items()}

    async def upload() -> list[tuple[str, int, str]]:
        names = [*GOOD, *BAD] * 5
        timeout = aiohttp.ClientTimeout(120)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=50)) as session:
            bodies = {**GOOD, **{name: body for name, (body, _, _) in BAD.items()}}
            answers = await asyncio.gather(*(post(session, f"{served.url}predict", bodies[name]) for name in names))
        return [(name, *answer) for name, answer in zip(names, answers, strict=True)]

    asyncio.run(upload())
    before = served.memory()
    for _ in range(2):
        for name, status, text in asyncio.run(upload()):
            if name in BAD:
                assert (status, text.count("\n")) == (BAD[name][1], 0) and BAD[name][2] in text, (name, text[:300])
                continue
            assert status == 200, text
            objects = json.loads(text)["objects"]
            assert [row["category_id"] for row in objects] == [row["category_id"] for row in expected[name]]
            assert [row["score"] for row in objects] == pytest.approx(
                [row["score"] for row in expected[name]], abs=1e-4
            )
    assert served.memory() - before < 60
    assert [list(folder.rglob("*.*")) for folder in served.folders] == [[], []]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("attend?x=1&y=2&block=layer9.9", 400, "block: should be one of layer4.0"),
        ("attend?x=one&y=2&block=layer4.0", 400, "whole numbers"),
        ("attend?x=90&y=2&block=layer4.0", 400, "90 2 lies outside"),
        ("elsewhere", 404, "404"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(served, path, status, words):
    async def ask() -> tuple[int, str]:
        async with aiohttp.ClientSession() as session:
            return await post(session, served.url + path, GOOD["photo"])

    answered, text = asyncio.run(ask())
    assert answered == status and words in text and "\n" not in text


def test_other_pages_may_not_ask_and_an_endless_body_is_cut_off(served):
    async def endless():
        for _ in range(20):
            yield bytes(2**20)

    async def ask() -> list[int]:
        async with aiohttp.ClientSession() as session:
            other = {"Sec-Fetch-Site": "cross-site"}
            async with session.post(f"{served.url}predict", data=GOOD["photo"], headers=other) as answer:
                first = answer.status
            async with session.post(f"{served.url}predict", data=endless()) as answer:
                return [first, answer.status]

    assert asyncio.run(ask()) == [403, 413]
