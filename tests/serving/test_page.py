"""The page in a real browser: what it shows is what the model says, and it asks nobody else."""

import asyncio

import numpy as np
import pytest
import torch
from hotcoco import COCO
from pycocotools import mask as coco_mask
from torchvision.transforms.v2 import functional as F

from botvision.attention.reference import figure_4_attention
from botvision.attention.tables import adapt_relative_table
from botvision.data import read_image
from botvision.data.images import PIXEL_MEAN, PIXEL_STD
from botvision.tasks.attend import attention_block
from botvision.tasks.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
CENTRES = """(() => {
  const view = document.querySelector("#view"), zoom = view.width / 64, found = [];
  const copy = document.createElement("canvas");  // Chromium warns of a canvas that is read several times
  [copy.width, copy.height] = [view.width, view.height];
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(view, 0, 0);
  const all = pen.getImageData(0, 0, view.width, view.height).data;
  for (let y = 0.5; y < 48; y++) for (let x = 0.5; x < 64; x++) {
    const place = 4 * (Math.floor(y * zoom) * view.width + Math.floor(x * zoom));
    found.push([...all.slice(place, place + 3)]);
  }
  return found; })()"""
"""The colour at the centre of every pixel of the image."""


@torch.no_grad()
def whole_softmax(predictor: Predictor, image: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """(heads, H*W, H*W) of the last attention block by the definition, and its (H, W)."""
    _, layer = attention_block(predictor.model.trunk)
    seen = []
    hook = layer.qkv.register_forward_hook(lambda module, inputs, output: seen.append(output))
    scale = predictor.model.config.input_size / max(image.shape[1:])
    size = [round(side * scale) for side in image.shape[1:]]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    predictor.model.trunk.forward_maps(((F.resize(image, size, antialias=True) - mean) / std)[None])
    hook.remove()
    height, width = seen[0].shape[2:]
    q, k, _ = (part.unflatten(1, (layer.heads, -1)).flatten(3).mT for part in seen[0].split(layer.widths, dim=1))
    down, across = layer.tables()
    down, across = adapt_relative_table(down, height), adapt_relative_table(across, width)
    eye = torch.eye(height * width).expand(1, layer.heads, -1, -1)
    arguments = {"size": (height, width), "scale": layer.head_width**-0.5}
    return figure_4_attention(q, k, eye, down, across, **arguments)[0], (height, width)


def test_a_photograph_its_masks_the_threshold_and_the_attention(served, browser, photograph, tmp_path):
    predictor = Predictor(served.checkpoint, device="cpu")
    rows = predictor(photograph, threshold=0.05).to_coco()

    async def visit() -> None:
        async with browser(served.url) as page:
            await page.until("document.querySelector('#block option') !== null")
            await page.choose_file(photograph)
            await page.until("document.querySelector('#list li') !== null")
            count = "document.querySelectorAll('#list li').length"
            strong = [row for row in rows if row["score"] >= 0.5]
            assert 0 < await page.value(count) == len(strong) < len(rows)
            for switch in ("names", "boxes"):
                await page.value(f"document.querySelector('#{switch}').click()")
            with_masks = np.array(await page.value(CENTRES))
            await page.value("document.querySelector('#masks').click()")
            changed = (with_masks != np.array(await page.value(CENTRES))).any(axis=1).reshape(48, 64)
            union = np.max([coco_mask.decode(row["segmentation"]) for row in strong], axis=0).astype(bool)
            assert union.any() and (changed == union).mean() > 0.99  # a mask can have the colour of what it covers
            await page.value(
                "document.querySelector('#threshold').value = 0.9; document.querySelector('#threshold').focus()"
            )
            await page.press("ArrowRight")
            assert await page.value(count) == sum(row["score"] >= 0.91 for row in rows)
            await page.value("document.querySelector('#download').click()")
            for _ in range(200):
                if (tmp_path / "a photo.json").is_file():
                    break
                await asyncio.sleep(0.05)
            await check_attention(page)
            assert page.console == []
            assert all(url.startswith((served.url, "data:", "blob:")) for url in page.requests)

    async def check_attention(page) -> None:
        box = await page.value("(r => [r.x, r.y, r.width, r.height])(view.getBoundingClientRect())")
        await page.click(box[0] + box[2] * 0.7, box[1] + box[3] * 0.4)
        await page.until("document.querySelectorAll('#heads canvas').length > 0")
        x, y = int(64 * 0.7), int(48 * 0.4)
        matrix, (height, width) = whole_softmax(predictor, read_image(photograph))
        row = matrix[:, (y * height // 48) * width + x * width // 64]
        captions = await page.value("[...document.querySelectorAll('#heads figcaption')].map((c) => c.textContent)")
        assert (await page.value("document.querySelector('#point').textContent")).startswith(f"From {x}, {y} (row")
        assert len(captions) == 1 + len(row)
        for caption, head in zip(captions[1:], row, strict=True):
            assert float(caption.split("up to ")[1].rstrip("%")) == pytest.approx(100 * head.max().item(), rel=0.01)
        script = f"fetch('/attend?x={x}&y={y}&block={await page.value('block.value')}', {{method: 'POST', body: "
        heads = await page.value(script + "document.querySelector('#file').files[0]}).then((answer) => answer.json())")
        torch.testing.assert_close(torch.tensor(heads["heads"]).flatten(1), row, rtol=1e-4, atol=1e-6)

    asyncio.run(visit())
    theirs = COCO(str(tmp_path / "a photo.json"))
    assert len(theirs.get_ann_ids()) == sum(row["score"] >= 0.91 for row in rows)


def test_the_page_is_used_by_keyboard_and_on_a_phone(served, browser, photograph):
    async def visit() -> None:
        async with browser(served.url) as page:
            await page.size(390, 844, mobile=True)
            await page.until("document.querySelector('#block option') !== null")
            await page.choose_file(photograph)
            await page.until("document.querySelector('#list li') !== null")
            await page.value("view.focus()")
            await page.press("ArrowRight")
            await page.press("Enter")
            await page.until("document.querySelector('#point').textContent.startsWith('From 34, 24')")
            assert await page.value("document.documentElement.scrollWidth") <= 390
            assert page.console == []

    asyncio.run(visit())


def test_a_file_that_is_no_image_is_said_on_the_page(served, browser, tmp_path):
    (tmp_path / "text.png").write_text("no image")

    async def visit() -> None:
        async with browser(served.url) as page:
            await page.until("document.querySelector('#block option') !== null")
            await page.choose_file(tmp_path / "text.png")
            await page.until("document.querySelector('#status.bad') !== null")
            assert "text.png: cannot be read as an image" in await page.value("document.body.innerText")

    asyncio.run(visit())
