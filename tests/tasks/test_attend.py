"""One row of the softmax, against whole matrices in float64; pictures of it; what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from botvision.attention.reference import figure_4_attention
from botvision.attention.tables import adapt_relative_table, adapt_table
from botvision.errors import UserError
from botvision.layers import ATTENTION_KINDS, MHSA2d
from botvision.models import create_model
from botvision.pictures import GAP, LINE, SIDE
from botvision.tasks.attend import attend, attend_file, attention_block, attention_row, attention_source
from botvision.tasks.attention_drawing import BAR, COLUMNS, draw_attention
from botvision.tasks.classification import Classifier, ClassifierConfig
from botvision.tasks.classification.checkpoint import describe
from botvision.tasks.detection.checkpoint import load_detector

TINY = {"depths": (1, 1, 1, 2), "width": 8, "input_size": 64}


def softmax_matrix(layer: MHSA2d, x: torch.Tensor) -> torch.Tensor:
    """(heads, H*W, H*W) of one map (C, H, W), written out pair by pair as the paper's Figure 4 and Table 4 have it."""
    height, width = x.shape[1:]
    pixels = torch.einsum("oc,chw->hwo", layer.qkv.weight[:, :, 0, 0], x).flatten(0, 1)
    q, *others = (part.unflatten(1, (layer.heads, -1)) for part in pixels.split(layer.widths, dim=1))
    q = q / layer.head_width**0.5
    logits = torch.zeros(layer.heads, height * width, height * width, dtype=x.dtype)
    if layer.kind != "qr_relative":
        logits = torch.einsum("ind,jnd->nij", q, others[0])
    if layer.kind == "qk":
        return logits.softmax(dim=-1)
    down, across = layer.tables()
    places = [(y, x) for y in range(height) for x in range(width)]
    if layer.kind == "qk+qr_absolute":
        down, across = adapt_table(down, height), adapt_table(across, width)
        r = torch.stack([torch.stack([down[y] + across[x] for y, x in places])] * len(places))
    else:
        down, across = adapt_relative_table(down, height), adapt_relative_table(across, width)
        rows = [[(j[0] - i[0] + height - 1, j[1] - i[1] + width - 1) for j in places] for i in places]
        r = torch.stack([torch.stack([down[y] + across[x] for y, x in row]) for row in rows])
    return (logits + torch.einsum("ind,ijd->nij", q, r)).softmax(dim=-1)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(ATTENTION_KINDS), st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
@torch.no_grad()
def test_a_row_is_that_of_the_whole_softmax(kind, height, width, seed):
    """Also on maps smaller and larger than those that the tables are made for."""
    torch.manual_seed(seed)
    layer = MHSA2d(8, (3, 4), heads=2, kind=kind).double()
    x = 3 * torch.randn(8, height, width, dtype=torch.float64)
    whole = softmax_matrix(layer, x).unflatten(2, (height, width))
    for row in range(height):
        for column in range(width):
            found = attention_row(layer, layer.qkv(x[None])[0], row, column)
            torch.testing.assert_close(found, whole[:, row * width + column], rtol=1e-9, atol=1e-12)
            assert found.sum(dim=(1, 2)).tolist() == pytest.approx([1, 1], abs=1e-12)


@torch.no_grad()
def test_a_row_is_that_of_the_definition():
    """Values that are one-hot make the definition give its own matrix away."""
    torch.manual_seed(0)
    size, layer = (5, 4), MHSA2d(12, (5, 4), heads=3).double()
    projected = layer.qkv(4 * torch.randn(1, 12, *size, dtype=torch.float64))
    q, k, _ = (part.unflatten(1, (3, -1)).flatten(3).transpose(2, 3) for part in projected.split(layer.widths, dim=1))
    v = torch.eye(20, dtype=torch.float64).expand(1, 3, 20, 20)
    matrix = figure_4_attention(q, k, v, *layer.tables(), size=size, scale=layer.head_width**-0.5)[0]
    rows = torch.stack(
        [attention_row(layer, projected[0], place // 4, place % 4).flatten(1) for place in range(20)], dim=1
    )
    torch.testing.assert_close(rows, matrix, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
@pytest.mark.parametrize("size", [(64, 64), (75, 130)])
@torch.no_grad()
def test_where_points_attend_is_what_the_layer_mixes(kind, size):
    """The rows times the layer's own values are the layer's output at the points' cells, whatever the kernel."""
    torch.manual_seed(0)
    network = create_model("botnet50", **TINY, attention=kind).eval()
    name, layer = attention_block(network)
    assert name == "layer4.1"
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output: seen.update(out=output[0])),
        layer.qkv.register_forward_hook(lambda module, inputs, output: seen.update(v=output[0][-layer.widths[-1] :])),
    ]
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    points = [(0, 0), (size[1] - 1, size[0] - 1), (size[1] // 2, 3)]
    maps = attend(network, layer, image, points)
    height, width = seen["v"].shape[1:]
    assert (height, width) == (-(-size[0] // 32), -(-size[1] // 32))
    assert maps.shape == (3, 4, height, width)
    values = seen["v"].unflatten(0, (4, -1))
    for (x, y), rows in zip(points, maps, strict=True):
        mixed = torch.einsum("nhw,ndhw->nd", rows, values).flatten()
        cell = (y * height // size[0], x * width // size[1])
        torch.testing.assert_close(mixed, seen["out"][:, cell[0], cell[1]], rtol=1e-4, atol=1e-5)
    for hook in hooks:
        hook.remove()
    assert not layer.qkv._forward_hooks


def test_blocks_are_found_by_name():
    network = create_model("botnet50", **TINY)
    assert attention_block(network, "layer4.0") == ("layer4.0", network.layer4[0].mhsa)
    with pytest.raises(UserError, match=r"block: .*layer4\.0, layer4\.1.*layer3\.0"):
        attention_block(network, "layer3.0")
    inserted = create_model("resnet50_nl_c4", depths=(1, 1, 2, 1), width=8)
    name, layer = attention_block(inserted)
    assert (name, layer) == ("layer3.inserted", inserted.layer3.inserted.mhsa)
    with pytest.raises(UserError, match="no attention block"):
        attention_block(create_model("resnet50", **TINY))


# --- pictures ---


def panel(sheet: np.ndarray, place: int, width: int, height: int) -> np.ndarray:
    left = GAP + place % COLUMNS * ((sheet.shape[1] - GAP) // COLUMNS)
    top = GAP + LINE + place // COLUMNS * (GAP + LINE + height)
    return sheet[top : top + height, left : left + width]


def test_panels_are_bright_where_the_heads_look():
    """Each of three heads looks at a corner of a grey photograph; the mean at all three."""
    image = torch.full((3, 60, 80), 100, dtype=torch.uint8)
    maps = torch.zeros(3, 6, 8)
    corners = [(0, 0), (0, 7), (5, 0)]
    for head, (row, column) in enumerate(corners):
        maps[head, row, column] = 1
    sheet = np.asarray(draw_attention(image, (40, 30), maps, "layer4.2")).astype(int)
    width, height = SIDE, SIDE * 60 // 80
    photograph, mean, *heads = (panel(sheet, place, width, height) for place in range(5))
    assert (photograph[5:20, 5:20] == 100).all()
    places = [(slice(0, 9), slice(0, 9)), (slice(0, 9), slice(-9, None)), (slice(-9, None), slice(0, 9))]
    for number, picture in enumerate(heads):
        bright = [picture[place].sum(axis=2).mean() for place in places]
        assert int(np.argmax(bright)) == number
        assert bright[number] > 2 * max(value for place, value in enumerate(bright) if place != number)
    shared = [mean[place].sum(axis=2).mean() for place in places]
    assert max(shared) - min(shared) < 1
    assert min(shared) > 2 * mean[-9:, -9:].sum(axis=2).mean()
    for picture in (photograph, mean, *heads):  # a ring around (40, 30)
        assert (abs(picture[height // 2 + 2, width // 2 + 2 - 7] - (66, 212, 244)) < 60).all()


def test_one_head_has_no_mean_and_an_even_map_is_drawn_too():
    sheet = draw_attention(
        torch.zeros(3, 40, 80, dtype=torch.uint8), (0, 0), torch.full((1, 2, 4), 1 / 8), "layer3.inserted"
    )
    assert sheet.height == GAP + GAP + LINE + SIDE // 2 + LINE + BAR + GAP
    assert sheet.width > 2 * SIDE


def test_all_heads_share_one_scale():
    """A head that looks nearly everywhere alike is no brighter than its share beside one that looks at one cell."""
    maps = torch.stack([torch.full((2, 2), 1 / 4), torch.tensor([[1.0, 0], [0, 0]])])
    sheet = np.asarray(draw_attention(torch.zeros(3, 80, 80, dtype=torch.uint8), (79, 79), maps, "layer4.2"))
    even, pointed = (panel(sheet.astype(int), place, SIDE, SIDE) for place in (2, 3))
    corner = (slice(0, SIDE // 2 - 2), slice(0, SIDE // 2 - 2))
    assert even[corner].sum(axis=2).max() < 0.5 * pointed[corner].sum(axis=2).min()
    assert np.ptp(even[corner].reshape(-1, 3), axis=0).max() == 0  # cells of a coarse map are not blurred
    assert np.ptp(pointed[corner].reshape(-1, 3), axis=0).max() == 0


@pytest.fixture
def photograph(tmp_path):
    """A photograph of 90 x 60, stored lying and marked to be turned: 60 x 90 as everyone sees it."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "lying.png", exif=exif)
    return tmp_path / "lying.png"


@pytest.fixture(scope="module")
def classifier_checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    config = ClassifierConfig(model="botnet50", **TINY)
    content = {
        "botvision": describe(config, ["a", "b"], ["a", "b"]),
        "state_dict": dict(Classifier(config, 2).state_dict()),
        "step": 1,
    }
    path = tmp_path_factory.mktemp("attend") / "classifier.ckpt"
    torch.save(content, path)
    return path


def test_a_picture_for_each_point_of_an_upright_photograph(classifier_checkpoint, photograph, tmp_path):
    source = attention_source(str(classifier_checkpoint))
    assert source.is_trained
    points = [(59, 89), (0, 0)]
    pictures = attend_file(source, photograph, points, tmp_path / "out")
    assert [picture.name for picture in pictures] == ["lying-x59-y89.png", "lying-x0-y0.png"]
    assert sorted((tmp_path / "out").iterdir()) == sorted(pictures)
    first, second = (np.asarray(Image.open(picture)) for picture in pictures)
    assert first.shape == second.shape
    assert (first != second).any()
    with pytest.raises(UserError, match=r"at: 60 0 .*lying\.png.* 60 wide and 90 high"):
        attend_file(source, photograph, [(0, 0), (60, 0)], tmp_path / "none")
    for point in ((0, 90), (-1, 0), (0, -1)):
        with pytest.raises(UserError, match="outside"):
            attend_file(source, photograph, [point], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_photograph_that_is_too_long_is_refused(classifier_checkpoint, tmp_path):
    source = attention_source(str(classifier_checkpoint))
    for size, accepted in (((3000, 1), False), ((1, 3000), False), ((64, 4), True), ((65, 4), False)):
        file = tmp_path / "long.png"
        Image.new("RGB", size).save(file)
        if accepted:
            attend_file(source, file, [(0, 0)], tmp_path / "out")
            continue
        with pytest.raises(UserError, match=r"long\.png: is .* at most 16 times as long as wide: cut a part out of it"):
            attend_file(source, file, [(0, 0)], tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("size", "cells"), [(None, (3, 2)), (32, (2, 1)), (128, (6, 4))])
def test_the_whole_photograph_is_seen_at_the_wanted_size(classifier_checkpoint, photograph, tmp_path, size, cells):
    source = attention_source(str(classifier_checkpoint))
    _, layer = attention_block(source.network)
    seen = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[2:])))
    attend_file(source, photograph, [(5, 5)], tmp_path / "out", input_size=size)
    hook.remove()
    assert seen == [cells]


def test_the_backbone_of_a_detector_can_be_looked_into(finished_run, photograph, tmp_path):
    source = attention_source(str(finished_run))
    detector = load_detector(finished_run).model
    assert (source.input_size, source.side) == (detector.config.input_size, max)
    for name, value in detector.backbone.body.state_dict().items():
        assert torch.equal(source.network.state_dict()[name], value)
    assert attend_file(source, photograph, [(5, 5)], tmp_path / "out")[0].is_file()


def test_a_named_model_is_the_same_every_time():
    first, second = (attention_source("botnet50") for _ in range(2))
    assert not first.is_trained
    assert torch.equal(first.network.conv1.weight, second.network.conv1.weight)
    with pytest.raises(UserError, match=r"botnt50 is neither .* nor a model; did you mean botnet50"):
        attention_source("botnt50")


def test_a_picture_over_the_photograph_is_refused(classifier_checkpoint, photograph, tmp_path):
    taken = photograph.rename(tmp_path / "a-x1-y1.png")
    other = tmp_path / "a.png"
    other.write_bytes(taken.read_bytes())
    source = attention_source(str(classifier_checkpoint))
    assert attend_file(source, other, [(2, 1)], tmp_path)[0].name == "a-x2-y1.png"
    (tmp_path / "a-x1-y1.png").unlink()
    (tmp_path / "a-x1-y1.png").symlink_to(other)
    with pytest.raises(UserError, match=r"a\.png would be overwritten"):
        attend_file(source, other, [(1, 1)], tmp_path)
