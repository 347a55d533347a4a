"""Images from anywhere in, COCO results and pictures out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image

from botvision.data import Category, CocoDetection, read_image
from botvision.errors import UserError
from botvision.pictures import picture_names
from botvision.tasks.detection.checkpoint import LoadedDetector
from botvision.tasks.detection.drawing import draw_detections
from botvision.tasks.detection.evaluate import evaluate_detector
from botvision.tasks.detection.predict import detect, detect_files, draw_beside_truth
from botvision.tasks.detection.transforms import eval_transform

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


@pytest.fixture(scope="module")
def detector(lively_model) -> LoadedDetector:
    categories = [Category(number, f"kind {number}") for number in (1, 2, 4, 7, 8, 11)]
    return LoadedDetector(lively_model, categories, Path("lively.ckpt"))


def save_image(path: Path, width: int = 60, height: int = 40, **options) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def test_results_are_coco_results_in_pixels_of_the_image(detector, tmp_path):
    file = save_image(tmp_path / "a.png")
    results = detect_files(detector, [file], tmp_path / "out", threshold=0.1)
    (found,) = detect(detector, [read_image(file)])
    confident = found["scores"] >= 0.1
    assert 5 < confident.sum() < len(confident)
    assert [result["score"] for result in results] == pytest.approx(found["scores"][confident].tolist(), abs=1e-6)
    masks = paste_masks_in_image(found["masks"], found["boxes"], (40, 60))[:, 0] > 0.5
    kept = zip(results, found["boxes"][confident], masks[confident], found["labels"][confident], strict=True)
    for result, box, mask, label in kept:
        x1, y1, x2, y2 = box.tolist()
        assert (result["image_id"], result["file_name"]) == (1, str(file))
        category = detector.categories[label - 1]
        assert (result["category_id"], result["category_name"]) == (category.id, category.name)
        assert result["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-3)
        assert result["segmentation"]["size"] == [40, 60]
        assert coco_mask.area(result["segmentation"]) == mask.sum()


def test_prediction_and_evaluation_find_the_same(detector, shapes):
    dataset = CocoDetection(shapes, "val", eval_transform(64), limit=1)
    results = evaluate_detector(detector.model, dataset, batch_size=1).results
    (found,) = detect(detector, [read_image(dataset.images[0].path)])
    assert [result["score"] for result in results] == pytest.approx(found["scores"].tolist(), abs=1e-5)


def test_a_picture_shows_the_boxes_that_were_found(detector, tmp_path):
    file = tmp_path / "grey.png"
    Image.new("RGB", (800, 600), (128, 128, 128)).save(file)
    results = detect_files(detector, [file], tmp_path / "out", threshold=0.15)
    assert results
    picture = np.asarray(Image.open(tmp_path / "out" / "grey.png").convert("RGB")).astype(int)
    for result in results:
        x, y, width, height = result["bbox"]
        corner = picture[round(min(y + height, 599)) - 1, round(min(x + width, 799)) - 1]
        assert (corner != 128).any(), result["bbox"]


@pytest.mark.parametrize(("size", "factor"), [((60, 40), 11), ((64, 64), 10), ((500, 30), 2), ((640, 10), 1)])
def test_a_picture_has_the_size_of_its_image_or_a_multiple(detector, tmp_path, size, factor):
    file = save_image(tmp_path / "a.jpg", *size)
    detect_files(detector, [file], tmp_path / "out", threshold=0.9)
    assert Image.open(tmp_path / "out" / "a.png").size == (size[0] * factor, size[1] * factor)


def test_photographs_are_turned_upright(detector, tmp_path):
    """EXIF orientation 6: the camera was held upright, viewers turn the stored pixels by 90 degrees clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = save_image(tmp_path / "stored.png", 60, 40)
    upright = tmp_path / "upright.png"
    Image.open(stored).rotate(-90, expand=True).save(upright)
    marked = tmp_path / "marked.png"
    Image.open(stored).save(marked, exif=exif)
    of_upright, of_marked = (
        detect_files(detector, [file], tmp_path / "out", threshold=0.1) for file in (upright, marked)
    )
    assert Image.open(tmp_path / "out" / "marked.png").size == (40 * 11, 60 * 11)
    assert [{**r, "file_name": ""} for r in of_marked] == [{**r, "file_name": ""} for r in of_upright]
    assert of_marked[0]["segmentation"]["size"] == [60, 40]


@pytest.mark.parametrize(
    "names",
    [
        ["x/a.png", "y/a.png", "y/a.jpg"],
        ["x/a.png", "a-2.png", "y/a.png"],
        ["x/a.png", "y/a.png", "a-2.png"],
        ["x/a.png", "y/A.png"],  # one name on many file systems
    ],
)
def test_images_of_one_name_get_pictures_of_their_own(names):
    pictures = picture_names([Path(name) for name in names])
    assert len({name.lower() for name in pictures}) == len(names)
    assert pictures[0] == "a.png"
    assert all(name.endswith(".png") for name in pictures)


def test_pictures_of_images_of_one_name_do_not_overwrite_each_other(detector, tmp_path):
    files = [save_image(tmp_path / "x" / "a.png", 60, 40), save_image(tmp_path / "y" / "a.png", 30, 50)]
    results = detect_files(detector, files, tmp_path / "out", threshold=0.1)
    assert {result["image_id"] for result in results} == {1, 2}
    sizes = {Image.open(file).size for file in (tmp_path / "out").iterdir()}
    assert sizes == {(60 * 11, 40 * 11), (30 * 13, 50 * 13)}


def test_a_picture_never_overwrites_an_image(detector, tmp_path):
    files = [save_image(tmp_path / "a.jpg"), save_image(tmp_path / "b.png")]
    before = files[1].read_bytes()
    with pytest.raises(UserError, match=r"holds the image .*a\.jpg"):
        detect_files(detector, files, tmp_path / "." / "", threshold=0.5)
    assert sorted(tmp_path.iterdir()) == files
    assert files[1].read_bytes() == before


def test_found_and_true_are_drawn_beside_each_other(detector, shapes, tmp_path):
    dataset = CocoDetection(shapes, "val")
    files = draw_beside_truth([], dataset, range(2), tmp_path, threshold=0.5)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    sheet = torch.from_numpy(np.array(Image.open(files[0])))
    image, target = dataset[0]
    half = image.shape[2] * (sheet.shape[1] // (2 * image.shape[2]))
    left, right = sheet[24:, :half].float(), sheet[24:, -half:].float()
    assert left.shape == right.shape
    assert (left != right).any(dim=2).float().mean() > 0.05 * len(target["labels"])  # masks on the right alone


def test_as_many_detections_as_objects_are_drawn_without_a_threshold(detector, shapes, tmp_path):
    """The picture is that of the strongest detections, and shrunk where it is asked for."""
    dataset = CocoDetection(shapes, "val")
    results = evaluate_detector(detector.model, CocoDetection(shapes, "val", eval_transform(64)), batch_size=4).results
    objects = len(dataset[0][1]["labels"])
    own = [result for result in results if result["image_id"] == dataset.images[0].id]
    assert objects < len(own)
    pictures = []
    for number, found in enumerate((results, own[:objects], own[: objects - 1])):
        (file,) = draw_beside_truth(found, dataset, [0], tmp_path / str(number))
        pictures.append(Image.open(file).tobytes())
    assert pictures[0] == pictures[1] != pictures[2]
    (small,) = draw_beside_truth(results, dataset, [0], tmp_path / "small", longest=200)
    assert max(Image.open(small).size) == 200


def test_where_nothing_is_found_the_best_score_and_the_threshold_are_named(detector, tmp_path, caplog):
    file = save_image(tmp_path / "a.png")
    best = detect(detector, [read_image(file)])[0]["scores"].max().item()
    assert detect_files(detector, [file], tmp_path / "out", threshold=1.0) == []
    (record,) = caplog.records
    assert record.msg.path == ("threshold",)
    assert "1.0 or more" in record.getMessage()
    assert f"{best:.3g}" in record.getMessage()
    caplog.clear()
    assert detect_files(detector, [file], tmp_path / "out", threshold=best / 2)
    assert not caplog.records


def test_a_bad_image_among_good_ones_is_left_out_with_a_warning(detector, tmp_path, caplog):
    bad, good = save_image(tmp_path / "a.png"), save_image(tmp_path / "b.png")
    bad.write_bytes(bad.read_bytes()[:200])
    results = detect_files(detector, [bad, good], tmp_path / "out", threshold=0.1)
    assert {(result["image_id"], result["file_name"]) for result in results} == {(2, str(good))}
    assert [picture.name for picture in (tmp_path / "out").iterdir()] == ["b.png"]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"left out {bad}: cannot be read as an image")
    with pytest.raises(UserError, match=r"no image can be read: .*a\.png"):
        detect_files(detector, [bad], tmp_path / "none", threshold=0.1)
    assert not (tmp_path / "none").exists()


def test_results_do_not_depend_on_the_batch(detector, tmp_path, caplog):
    """Images of different sizes, the third of five damaged."""
    sizes = [(60, 40), (33, 64), (90, 90), (200, 31), (64, 64)]
    files = [save_image(tmp_path / f"{number}.png", *size) for number, size in enumerate(sizes)]
    files[2].write_bytes(files[2].read_bytes()[:200])
    alone, together = (
        detect_files(detector, files, tmp_path / f"out{count}", threshold=0.05, batch_size=count) for count in (1, 3)
    )
    assert {result["image_id"] for result in alone} == {1, 2, 4, 5}
    assert len(caplog.records) == 2
    for one, other in zip(alone, together, strict=True):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-2)
    names = [{file.name for file in (tmp_path / f"out{count}").iterdir()} for count in (1, 3)]
    assert names == [{"0.png", "1.png", "3.png", "4.png"}] * 2


def test_letters_of_other_languages_are_drawn():
    def drawn(name: str) -> bytes:
        found = [{"category_id": 1, "bbox": [10, 40, 80, 50]}]
        return draw_detections(torch.zeros(3, 320, 320, dtype=torch.uint8), found, [Category(1, name)]).tobytes()

    assert len({drawn(name) for name in ("\U000f0000", *"üéßñБł")}) == 7


def test_a_name_that_cannot_be_written_is_replaced_by_its_id(monkeypatch):
    def drawn(name: str) -> bytes:
        found = [{"category_id": 7, "bbox": [10, 40, 80, 50]}]
        return draw_detections(torch.zeros(3, 640, 320, dtype=torch.uint8), found, [Category(7, name)]).tobytes()

    assert drawn("\U000f0000") == drawn("class 7") != drawn("class 8")


def test_a_long_name_leaves_its_score_in_the_picture():
    def drawn(score: float) -> bytes:
        found = [{"category_id": 1, "bbox": [300, 0, 340, 100], "score": score}]
        return draw_detections(torch.zeros(3, 640, 640, dtype=torch.uint8), found, [Category(1, "x" * 1000)]).tobytes()

    assert drawn(0.51) != drawn(0.52)
