"""Scenes whose classes are decided elsewhere in the image: where things are, and that nothing else gives them away."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botvision.data import CocoDetection
from botvision.data.context_scenes import COLOURS, RADIUS, SCENES, draw_scene, write_context_coco
from botvision.data.images import read_image

kinds = pytest.mark.parametrize("name", SCENES)


def coloured(pixels):
    """Where an image is not grey: (H, W) bool."""
    return (pixels.max(axis=2).astype(int) - pixels.min(axis=2)) > 0


@kinds
@given(seed=st.integers(0, 2**32 - 1))
def test_every_cue_is_painted_whole_and_as_far_as_the_kind_says(name, seed):
    kind = SCENES[name]
    scene = draw_scene(kind, np.random.default_rng(seed))
    assert scene.pixels.shape == (kind.image_size, kind.image_size, 3)
    expected = np.zeros(scene.pixels.shape[:2], bool)
    for (x, y), colour in zip(scene.cues, scene.colours, strict=True):
        square = scene.pixels[y - RADIUS : y + RADIUS + 1, x - RADIUS : x + RADIUS + 1]
        assert square.shape[:2] == (2 * RADIUS + 1, 2 * RADIUS + 1)
        assert (square == list(COLOURS.values())[colour]).all()
        expected[y - RADIUS : y + RADIUS + 1, x - RADIUS : x + RADIUS + 1] = True
        distance = max(abs(x - scene.object[0]), abs(y - scene.object[1]))
        assert kind.distance[0] <= distance <= kind.distance[1]
    assert (coloured(scene.pixels) == expected).all()
    white = (scene.pixels == 255).all(axis=2)
    rows, columns = np.nonzero(white)
    assert white.sum() == (2 * RADIUS + 1) ** 2
    assert (columns.mean(), rows.mean()) == scene.object


@pytest.mark.parametrize("name", ["which", "near"])
@given(seed=st.integers(0, 2**32 - 1))
def test_of_four_cues_one_lies_in_each_direction_and_the_left_one_decides(name, seed):
    scene = draw_scene(SCENES[name], np.random.default_rng(seed))
    x, y = scene.object
    assert scene.object == (SCENES[name].image_size // 2,) * 2
    dx, dy = (np.array(scene.cues) - scene.object).T
    sideways = np.abs(dx) > np.abs(dy)
    assert [sideways.tolist(), (dx < 0)[:2].tolist(), (dy < 0)[2:].tolist()] == [
        [True, True, False, False],
        [True, False],
        [True, False],
    ]
    (left,) = [index for index, (cx, cy) in enumerate(scene.cues) if cx < x - abs(cy - y)]
    assert scene.label == scene.colours[left]


@kinds
def test_colours_are_equally_likely_and_independent(name):
    scenes = [draw_scene(SCENES[name], np.random.default_rng([7, index])) for index in range(400)]
    drawn = np.array([scene.colours for scene in scenes])
    for cue in drawn.T:  # 100 of each are expected, with a standard deviation of 8.7
        assert all(abs(count - 100) < 44 for count in np.bincount(cue, minlength=4))
    for other in drawn.T[1:]:  # 25 of each pair, with a standard deviation of 4.8
        pairs = Counter(zip(drawn[:, 0].tolist(), other.tolist(), strict=True))
        assert len(pairs) == 16
        assert all(abs(count - 25) < 24 for count in pairs.values())
    brightness = [scene.pixels[0, 0].mean() for scene in scenes]
    for hint in (brightness, [scene.object[0] for scene in scenes], [scene.cues[0][0] for scene in scenes]):
        # Five standard deviations of the correlation of independent values.
        assert all(abs(np.corrcoef(hint, drawn[:, 0] == c)[0, 1]) < 0.25 for c in range(4) if np.std(hint))


def test_the_coco_files_hold_the_object_alone_with_the_colour_of_the_cue(tmp_path):
    folder = write_context_coco(tmp_path / "data", scene="what", train_images=6, val_images=3, seed=1)
    assert write_context_coco(folder, scene="what", train_images=6, val_images=3, seed=1) == folder
    content = json.loads((folder / "annotations" / "instances_train2017.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert (len(content["images"]), len(content["annotations"])) == (6, 6)
    for image, record in zip(content["images"], content["annotations"], strict=True):
        assert record["image_id"] == image["id"]
        x, y, width, height = (int(value) for value in record["bbox"])
        pixels = read_image(folder / "train2017" / image["file_name"]).permute(1, 2, 0).numpy().astype(int)
        assert pixels[y + 2 : y + height - 2, x + 2 : x + width - 2].min() > 220  # white, after JPEG
        spread = pixels.max(axis=2) - pixels.min(axis=2)
        cue = pixels[np.unravel_index(spread.argmax(), spread.shape)]
        colours = {name: np.abs(cue - rgb).sum() for name, rgb in COLOURS.items()}
        assert names[record["category_id"]] == min(colours, key=colours.get)
    assert CocoDetection(folder, "val", masks=False).objects == 3
