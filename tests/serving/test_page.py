"""The page in a real browser: what it shows is what the model says, and it asks nobody else."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
from hotcoco import COCO
from matplotlib import colormaps
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from botvision.attention.reference import figure_4_attention
from botvision.attention.tables import adapt_relative_table
from botvision.data import read_image
from botvision.models import Network
from botvision.tasks.attend import attention_block
from botvision.tasks.pixel_config import PIXEL_MEAN, PIXEL_STD
from botvision.tasks.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
COLOURS_AT = """((canvas, columns, rows) => {
  const copy = document.createElement("canvas");  // Chromium warns of a canvas that is read several times
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const pen = copy.getContext("2d", { willReadFrequently: true }), found = [];
  pen.drawImage(canvas, 0, 0);
  const all = pen.getImageData(0, 0, copy.width, copy.height).data;
  for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
    const across = Math.floor((x + 0.5) / columns * copy.width), down = Math.floor((y + 0.5) / rows * copy.height);
    found.push([...all.slice(4 * (down * copy.width + across), 4 * (down * copy.width + across) + 3)]);
  }
  return found; })"""
"""The colours of a canvas at the centres of cells, row by row."""
ROWS = "document.querySelectorAll('#list li').length"
POINT = (44, 19)
"""In the photograph of 64 x 48 pixels, where the tests click."""


@torch.no_grad()
def softmax_row(network: Network, image: Tensor, size: list[int]) -> Tensor:
    """(heads, h, w): of the whole softmax of the last attention block, by the definition, the row of :data:`POINT`."""
    _, layer = attention_block(network)
    seen = []
    hook = layer.qkv.register_forward_hook(lambda module, inputs, output: seen.append(output))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    network.forward_maps(((F.resize(image, size, antialias=True) - mean) / std)[None])
    hook.remove()
    height, width = seen[0].shape[2:]
    q, k, _ = (part.unflatten(1, (layer.heads, -1)).flatten(3).mT for part in seen[0].split(layer.widths, dim=1))
    down, across = layer.tables()
    down, across = adapt_relative_table(down, height), adapt_relative_table(across, width)
    eye = torch.eye(height * width).expand(1, layer.heads, -1, -1)
    arguments = {"size": (height, width), "scale": layer.head_width**-0.5}
    matrix = figure_4_attention(q, k, eye, down, across, **arguments)[0]
    return matrix[:, POINT[1] * height // 48 * width + POINT[0] * width // 64].unflatten(1, (height, width))


async def check_attention(page: Any, row: Tensor) -> None:
    """Click at the point; what the page gets and draws is the row."""
    await page.click("#view", (POINT[0] + 0.5) / 64, (POINT[1] + 0.5) / 48)
    await page.until("document.querySelectorAll('#heads canvas').length > 0")
    assert (await page.value("document.querySelector('#point').textContent")).startswith("From 44, 19: row")
    heads = await page.value("answered.at(-1).heads")
    torch.testing.assert_close(torch.tensor(heads), row, rtol=1e-4, atol=1e-6)
    captions = await page.value("[...document.querySelectorAll('#heads figcaption')].map((c) => c.textContent)")
    shares = [float(caption.split("up to ")[1].split("%")[0]) for caption in captions]
    assert shares[1:] == pytest.approx([100 * head.max().item() for head in row], rel=0.01)
    await page.click("#over")
    heights, widths = row.shape[1:]
    for number, head in enumerate(row, start=1):
        script = f"{COLOURS_AT}(document.querySelectorAll('#heads canvas')[{number}], {widths}, {heights})"
        expected = 255 * colormaps["inferno"]((head / row.max()).flatten().numpy())[:, :3]
        np.testing.assert_allclose(np.array(await page.value(script)), expected, atol=8)


def test_a_photograph_its_masks_the_threshold_and_the_attention(
    detector_file, serve_here, browser, photograph, tmp_path
):
    predictor = Predictor(detector_file, device="cpu")
    rows = predictor(photograph, threshold=0.05).to_coco()
    strong = [row for row in rows if row["score"] >= 0.5]
    pixels = f"{COLOURS_AT}(document.querySelector('#view'), 64, 48)"

    async def check_masks(page) -> None:
        for switch in ("names", "boxes"):
            await page.click(f"#{switch}")
        with_masks = np.array(await page.value(pixels))
        await page.click("#masks")
        changed = (with_masks != np.array(await page.value(pixels))).any(axis=1).reshape(48, 64)
        union = np.max([coco_mask.decode(row["segmentation"]) for row in strong], axis=0).astype(bool)
        assert union.any() and (changed == union).mean() > 0.99  # a mask can have the colour of what it covers

    async def visit() -> None:
        async with serve_here(detector_file) as url, browser() as page:
            await page.open(url)
            await page.drop_file(photograph)
            await page.until(f"{ROWS} > 0")
            assert 0 < await page.value(ROWS) == len(strong) < len(rows)
            await check_masks(page)
            kind = strong[0]["category_id"]
            await page.click(f"#classes [value='{kind}']")
            assert await page.value(ROWS) == sum(row["category_id"] != kind for row in strong)
            await page.click("#all")
            await page.value("document.querySelector('#threshold').focus()")
            await page.press("ArrowRight", times=41)
            assert await page.value(ROWS) == sum(row["score"] >= 0.91 for row in rows)
            await page.click("#download")
            await asyncio.wait_for(page.downloaded.wait(), 60)
            size = predictor.model.config.input_size
            await check_attention(
                page, softmax_row(predictor.model.trunk, read_image(photograph), [size * 48 // 64, size])
            )
            assert page.console == []
            assert all(asked.startswith((url, "data:", "blob:")) for asked in page.requests)

    asyncio.run(visit())
    theirs = COCO(str(tmp_path / "a photo.json"))
    found = theirs.load_anns(theirs.get_ann_ids())
    kept = [row for row in rows if row["score"] >= 0.91]
    assert [ann["category_id"] for ann in found] == [row["category_id"] for row in kept]
    assert [ann["area"] for ann in found] == [coco_mask.area(row["segmentation"]) for row in kept]


def test_a_classifier_and_its_attention(make_classifier_file, serve_here, browser, photograph):
    classifier_file = make_classifier_file("botnet50")
    predictor = Predictor(classifier_file, device="cpu")

    async def visit() -> None:
        async with serve_here(classifier_file) as url, browser() as page:
            await page.open(url)
            await page.choose_file(photograph)
            await page.until(f"{ROWS} > 0")
            shown = await page.value(
                "[...document.querySelectorAll('#list li')].map((row) => row.innerText.split('\\n'))"
            )
            expected = predictor(photograph)
            assert [row[0] for row in shown] == expected.names
            shares = [float(row[1].rstrip("%")) for row in shown]
            assert shares == pytest.approx([100 * score for score in expected.scores.tolist()], abs=0.051)
            size = predictor.model.config.image_size
            row = softmax_row(predictor.model.network, read_image(photograph), [size, round(size * 64 / 48)])
            await check_attention(page, row)
            assert page.console == []

    asyncio.run(visit())


def test_the_page_is_used_by_keyboard_and_on_a_phone(detector_file, serve_here, browser, photograph):
    async def visit() -> None:
        async with serve_here(detector_file) as url, browser() as page:
            await page.size(390, 844, mobile=True)
            await page.open(url)
            await page.press("Tab")
            assert await page.value("document.activeElement.id") == "file"
            await page.choose_file(photograph)
            await page.until(f"{ROWS} > 0")
            await page.press("Tab")
            assert await page.value("document.activeElement.id") == "view"
            await page.press("ArrowRight")
            await page.press("Enter")
            await page.until("document.querySelector('#point').textContent.startsWith('From 34, 24')")
            for name in ("block", "over", "close", "threshold", "masks"):
                await page.press("Tab")
                assert await page.value("document.activeElement.id") == name
            await page.press(" ")
            assert not await page.value("document.querySelector('#masks').checked")
            assert await page.value("document.documentElement.scrollWidth") <= 390
            assert page.console == []

    asyncio.run(visit())


def test_what_is_wrong_with_a_file_is_said_on_the_page(detector_file, serve_here, browser, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "large.png").write_bytes(bytes(2 * 2**20))

    async def visit() -> None:
        async with serve_here(detector_file, max_megabytes=1) as url, browser() as page:
            await page.open(url)
            for name, message in (
                ("text.png", "text.png: cannot be read as an image"),
                ("large.png", "large.png is larger than 1 MB"),
            ):
                await page.choose_file(tmp_path / name)
                await page.until(f"document.querySelector('#status.bad')?.textContent.startsWith('{message}')")
            assert await page.value("document.querySelector('#stage').hidden")

    asyncio.run(visit())
