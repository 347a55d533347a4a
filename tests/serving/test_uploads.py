"""Many uploads at once, good and bad ones, and what else the server refuses."""

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
    """A file of random colours, smooth enough to be small."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).convert(mode).save(file, form)
        return file.getvalue()


def bomb() -> bytes:
    """A PNG file of a few bytes that says to have 60000 x 60000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    parts = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


PHOTO = encoded((90, 60), "PNG")
SENT = 5
"""Of each kind of file, together 50."""
BAD = {
    "text": (b"no image", 400, "no known image format"),
    "nothing": (b"", 400, "is empty"),
    "bomb": (bomb(), 400, "more pixels than 128000000"),
    "cut off": (encoded((800, 600), "JPEG")[:2000], 400, "cannot be read"),
    "100 MB": (bytes(100 * 2**20), 413, "larger than 8 MB"),
}
"""Bodies, the status of the answer, and words in it."""
GOOD = [
    *(encoded((3000, 2000), "JPEG", seed=seed) for seed in range(SENT)),
    *(encoded((90, 60), "PNG", seed=seed) for seed in range(SENT)),
    *(encoded((120, 80), "TIFF", "CMYK", seed=seed) for seed in range(SENT)),
    *(encoded((1, 1), "PNG", seed=seed) for seed in range(SENT)),
    *(encoded((70, 70), "PNG", "L", seed=seed) for seed in range(SENT)),
]


async def post(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, str]:
    async with session.post(url, data=body) as answer:
        return answer.status, await answer.text()


async def post_all(url: str, bodies: list[bytes]) -> list[tuple[int, str]]:
    """All at once; the answers in the order of the bodies."""
    timeout = aiohttp.ClientTimeout(120)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=len(bodies))) as session:
        return await asyncio.gather(*(post(session, f"{url}predict", body) for body in bodies))


@pytest.mark.slow
def test_fifty_uploads_at_once_are_all_answered_rightly(served):
    predictor = Predictor(served.checkpoint, device="cpu")
    expected = [predictor(Image.open(io.BytesIO(body)), threshold=0.05).to_coco() for body in GOOD]
    bad = [*BAD.values()] * SENT
    mixed = [body for pair in zip(GOOD, (body for body, _, _ in bad), strict=True) for body in pair]
    asyncio.run(post_all(served.url, mixed))
    before = served.memory()
    answers = asyncio.run(post_all(served.url, mixed))
    for (status, text), rows in zip(answers[::2], expected, strict=True):
        assert status == 200, text
        objects = json.loads(text)["objects"]
        assert [row["category_id"] for row in objects] == [row["category_id"] for row in rows]
        assert [row["score"] for row in objects] == pytest.approx([row["score"] for row in rows], abs=1e-4)
    for (status, text), (_, right_status, words) in zip(answers[1::2], bad, strict=True):
        assert (status, text.count("\n")) == (right_status, 0) and words in text, text[:300]
    assert served.memory() - before < 60
    assert [list(folder.rglob("*")) for folder in served.folders] == [[], []]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("attend?x=1&y=2&block=layer9.9", 400, "block: should be an attention block of this model, layer4.0"),
        ("attend?x=one&y=2&block=layer4.0", 400, "whole numbers"),
        ("attend?x=90&y=2&block=layer4.0", 400, "90 2 lies outside"),
        ("elsewhere", 404, "404"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(served, path, status, words):
    async def ask() -> tuple[int, str]:
        async with aiohttp.ClientSession() as session:
            return await post(session, served.url + path, PHOTO)

    answered, text = asyncio.run(ask())
    assert answered == status and words in text and "\n" not in text


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://elsewhere.example"}])
def test_pages_of_other_hosts_may_not_ask(served, headers):
    async def ask() -> list[int]:
        async with aiohttp.ClientSession() as session:
            async with session.get(served.url, headers=headers) as page:  # a link from there is all right
                policy = page.headers["Content-Security-Policy"]
            async with session.post(f"{served.url}predict", data=PHOTO, headers=headers) as answer:
                return [page.status, "default-src 'none'" in policy, answer.status]

    assert asyncio.run(ask()) == [200, True, 403]


def test_a_body_of_unknown_length_is_cut_off(served):
    async def endless():
        for _ in range(20):
            yield bytes(2**20)

    async def ask() -> int:
        async with aiohttp.ClientSession() as session, session.post(f"{served.url}predict", data=endless()) as answer:
            return answer.status

    assert asyncio.run(ask()) == 413


def test_too_many_and_too_slow_uploads_are_turned_away(detector_file, serve_here):
    """Also those whose body never comes; after them, the next one has its place."""

    async def ask() -> None:
        async with serve_here(detector_file, max_waiting=1, max_seconds=0.5) as url, aiohttp.ClientSession() as session:
            more = asyncio.Event()

            async def halting():
                yield PHOTO[:100]
                more.set()
                await asyncio.Event().wait()

            slow = asyncio.create_task(post(session, f"{url}predict", halting()))
            await more.wait()
            refused = await post(session, f"{url}predict", PHOTO)
            slow = await slow
            assert (refused[0], slow[0]) == (503, 503)
            assert "too many" in refused[1] and "within 0.5 seconds" in slow[1]
            assert (await post(session, f"{url}predict", PHOTO))[0] == 200

    asyncio.run(ask())


def test_a_port_that_is_taken_is_refused_in_one_line(served, refusal):
    port = served.url.rstrip("/").rpartition(":")[2]
    message = refusal("serve", served.checkpoint, "--port", port, "--device", "cpu")
    assert f"--port: 127.0.0.1:{port} cannot be listened on" in message
