"""Images from anywhere in, likeliest classes and pictures out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from botvision.data import open_classes, read_image
from botvision.errors import UserError
from botvision.pictures import GAP, LINE, SIDE
from botvision.tasks.classification import Classifier, ClassifierConfig
from botvision.tasks.classification.checkpoint import LoadedClassifier
from botvision.tasks.classification.drawing import draw_ranking
from botvision.tasks.classification.evaluate import evaluate_classifier
from botvision.tasks.classification.predict import classify, classify_files
from botvision.tasks.classification.transforms import eval_crop

CLASSES = ["n1", "n2", "n3"]
NAMES = ["tabby, a cat of stripes with a name that is much too long for its place", "dog", "Бобер"]


@pytest.fixture(scope="module")
def classifier() -> LoadedClassifier:
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(depths=(1, 1, 1, 1), width=16, input_size=64), len(CLASSES))
    with torch.no_grad():
        model.network.fc.weight.normal_(std=1.0)
    return LoadedClassifier(model.eval(), CLASSES, NAMES, Path("tiny.ckpt"))


def save_image(path: Path, width: int = 90, height: int = 70, seed: int = 0, **options) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 5, width // 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST).save(path, **options)
    return path


def test_results_are_the_models_probabilities_likeliest_first(classifier, tmp_path):
    file = save_image(tmp_path / "a.png")
    with torch.no_grad():
        logits = classifier.model(eval_crop(64)(read_image(file))[None])[0]
    expected = sorted(zip(logits.softmax(dim=0).tolist(), CLASSES, NAMES, strict=True), reverse=True)
    for top in (1, 2, 3, 5):
        (result,) = classify_files(classifier, [file], tmp_path / "out", top=top)
        assert result["path"] == str(file)
        assert [entry["probability"] for entry in result["classes"]] == pytest.approx([p for p, *_ in expected[:top]])
        assert [entry["class"] for entry in result["classes"]] == [class_ for _, class_, _ in expected[:top]]
        assert [entry["name"] for entry in result["classes"]] == [name for *_, name in expected[:top]]


def test_prediction_and_evaluation_say_the_same(classifier, tmp_path):
    for number in range(6):
        save_image(tmp_path / "val" / CLASSES[number % 3] / f"{number}.png", seed=number)
    dataset = open_classes(tmp_path, "val", eval_crop(64))
    predictions = evaluate_classifier(classifier.model, dataset, classifier.class_names, batch_size=4).results
    for row in predictions:
        (found,) = classify(classifier, [read_image(Path(row["path"]))], top=1)
        assert found.class_ids.tolist() == [row["predicted"]]
        assert found.scores.tolist() == [pytest.approx(row["probability"], rel=1e-4)]


def test_photographs_are_turned_upright(classifier, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = save_image(tmp_path / "stored.png")
    Image.open(stored).save(tmp_path / "marked.png", exif=exif)
    Image.open(stored).rotate(-90, expand=True).save(tmp_path / "upright.png")
    marked, upright = (
        classify_files(classifier, [tmp_path / name], tmp_path / "out", top=3)[0]["classes"]
        for name in ("marked.png", "upright.png")
    )
    assert marked == upright
    with Image.open(tmp_path / "out" / "marked.png") as picture:
        assert picture.height == SIDE + 2 * GAP  # it stands


def test_bars_are_as_long_as_the_probabilities(tmp_path):
    ranking = [("one", 0.75), ("two", 0.2), ("three", 0.0)]
    picture = np.asarray(draw_ranking(torch.full((3, 40, 80), 90, dtype=torch.uint8), ranking)).astype(int)
    assert picture.shape[:2] == (SIDE // 2 + 2 * GAP, 2 * SIDE + 3 * GAP)
    assert (picture[GAP : GAP + SIDE // 2, GAP : GAP + SIDE] == 90).all()
    for place, (_, probability) in enumerate(ranking):
        top = GAP + 2 * LINE * place
        bar = picture[top + LINE + 4, SIDE + 2 * GAP :][:SIDE]
        assert (bar[:, 2] - bar[:, 0] > 60).sum() == pytest.approx(probability * SIDE, abs=1)
        assert (
            picture[GAP + 2 * LINE * place : GAP + 2 * LINE * place + LINE - 2, SIDE + 2 * GAP :] < 100
        ).any()  # names


def test_letters_of_other_languages_are_drawn():
    """Each as a sign of its own, and not as the box that stands for what a font lacks."""
    image = torch.zeros(3, 20, 20, dtype=torch.uint8)
    unknown = np.asarray(draw_ranking(image, [("\U000f0000", 1.0)]))
    pictures = [np.asarray(draw_ranking(image, [(letter, 1.0)])) for letter in "üéßñБł"]
    assert all((picture != unknown).any() for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


@pytest.mark.parametrize(("size", "top"), [((500, 20), 10), ((20, 500), 3), ((3, 2), 1)])
def test_pictures_of_images_of_any_shape(size, top):
    image = torch.zeros(3, size[1], size[0], dtype=torch.uint8)
    picture = draw_ranking(image, [(NAMES[0], 1 / top)] * top)
    assert picture.width > SIDE
    assert picture.height >= 2 * LINE * top


def test_pictures_of_images_of_one_name_do_not_overwrite_each_other(classifier, tmp_path):
    files = [save_image(tmp_path / folder / "a.png") for folder in "xy"]
    classify_files(classifier, files, tmp_path / "out", top=2)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a-2.png", "a.png"]


def test_pictures_do_not_go_among_the_images(classifier, tmp_path):
    file = save_image(tmp_path / "x" / "a.jpg")
    (tmp_path / "linked.jpg").symlink_to(file)
    for given in (file, tmp_path / "linked.jpg"):
        with pytest.raises(UserError, match=r"x: holds the image .*; choose another folder"):
            classify_files(classifier, [given], tmp_path / "y" / ".." / "x", top=2)
    assert list((tmp_path / "x").iterdir()) == [file]


def test_a_bad_image_among_good_ones_is_left_out_with_a_warning(classifier, tmp_path, caplog):
    files = [save_image(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    files[1].write_bytes(files[1].read_bytes()[:100])
    seen = []
    results = classify_files(
        classifier, files, tmp_path / "out", top=2, on_image=lambda done, total: seen.append((done, total))
    )
    assert [result["path"] for result in results] == [str(files[0]), str(files[2])]
    assert sorted(picture.name for picture in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"left out {files[1]}: cannot be read as an image")
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_results_do_not_depend_on_the_batch(classifier, tmp_path):
    files = [save_image(tmp_path / f"{seed}.png", 60 + 20 * seed, 150 - 25 * seed, seed) for seed in range(5)]
    files[2].write_bytes(files[2].read_bytes()[:100])
    alone, together = (classify_files(classifier, files, tmp_path / "out", top=3, batch_size=n) for n in (1, 3))
    assert [result["path"] for result in alone] == [result["path"] for result in together]
    assert len(alone) == 4
    for one, other in zip(alone, together, strict=True):
        assert [entry["name"] for entry in one["classes"]] == [entry["name"] for entry in other["classes"]]
        probabilities = [[entry["probability"] for entry in result["classes"]] for result in (one, other)]
        assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-4)


def test_images_that_are_all_bad_are_refused(classifier, tmp_path, caplog):
    files = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for file in files:
        file.write_text("no image")
    with pytest.raises(UserError, match=r"no image can be read: .*b\.jpg: .*of no known image format"):
        classify_files(classifier, files, tmp_path / "out", top=2)
    assert str(files[0]) in caplog.text
    assert not (tmp_path / "out").exists()


def test_images_are_read_once(classifier, tmp_path, monkeypatch):
    files = [save_image(tmp_path / name) for name in ("a.png", "b.png")]
    read = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or path.open("rb").read())
    classify_files(classifier, files, tmp_path / "out", top=1)
    assert read == files
