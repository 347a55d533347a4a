"""Keypoint R-CNN against torchvision's, and from drawn images to pictures on the command line."""

import csv
import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torchvision.models.detection import keypointrcnn_resnet50_fpn
from torchvision.models.detection.roi_heads import RoIHeads

from botvision.configuration import FieldError
from botvision.data import Category, CocoDetection
from botvision.data.loading import collate
from botvision.errors import UserError
from botvision.tasks.detection import DetectorConfig, KeypointRCNN
from botvision.tasks.detection.drawing import draw_detections
from botvision.tasks.detection.evaluate import evaluate_detector
from botvision.tasks.detection.results import coco_results
from botvision.tasks.detection.task import DetectionTask
from botvision.tasks.detection.transforms import eval_transform
from botvision.training.schedule import sgd

FIGURE = Category(4, "figure", ("head", "left_hand", "right_hand"), ((1, 2), (1, 3)))
SIZES = [(128, 160), (160, 101)]


@pytest.fixture
def config(tiny) -> DetectorConfig:
    return tiny.replace(detector="keypoint_rcnn", keypoint_head_width=16, keypoint_head_depth=1)


def test_it_has_the_parts_of_torchvisions():
    with torch.device("meta"):
        theirs = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        ours = KeypointRCNN(DetectorConfig(detector="keypoint_rcnn", backbone="resnet50", variant="torchvision"), 1)
    shapes, own = (
        {name: value.shape for name, value in model.state_dict().items() if "num_batches_tracked" not in name}
        for model in (theirs, ours)
    )
    assert own == shapes


def test_the_heads_find_what_torchvisions_find(config):
    torch.manual_seed(0)
    heads = KeypointRCNN(config, 1, 3).eval().roi_heads
    torch.nn.init.normal_(heads.keypoint_predictor.kps_score_lowres.weight)
    parts = ("box_roi_pool", "box_head", "box_predictor")
    more = ("keypoint_roi_pool", "keypoint_head", "keypoint_predictor")
    limits = {"score_thresh": 0.05, "nms_thresh": 0.5, "detections_per_img": 100}
    theirs = RoIHeads(
        *(getattr(heads, name) for name in parts),
        *(0.5, 0.5, 512, 0.25, None),  # of training
        **limits,
        **{name: getattr(heads, name) for name in more},
    ).eval()
    sides = {"p2": 40, "p3": 20, "p4": 10, "p5": 5}
    features = OrderedDict((level, torch.randn(2, config.fpn_channels, side, side)) for level, side in sides.items())
    corners = torch.rand(2, 20, 2) * 60
    proposals = list(torch.cat([corners, corners + 20 + 60 * torch.rand(2, 20, 2)], dim=2))
    with torch.no_grad():
        found, expected = (each(features, proposals, SIZES)[0] for each in (heads, theirs))
    for image, other in zip(found, expected, strict=True):
        assert len(image["boxes"]) > 5
        torch.testing.assert_close(image["boxes"], other["boxes"])
        torch.testing.assert_close(image["keypoints"][..., :2], other["keypoints"][..., :2])
        assert ((image["keypoints"][..., 2] > 0) & (image["keypoints"][..., 2] <= 1)).all()
        surest = image["keypoints"][..., 2].flatten().argsort()[-5:]  # a sharp peak has a high logit too
        assert other["keypoints_scores"].flatten()[surest].mean() > other["keypoints_scores"].mean()


def test_objects_without_keypoints_teach_boxes_and_classes_alone(config):
    torch.manual_seed(0)
    model = KeypointRCNN(config, 1, 3).train()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[5.0, 5, 40, 50], [10, 20, 60, 60]])
    points = torch.tensor([[[10.0, 10, 2], [20, 30, 1], [30, 40, 2]], [[0.5, 0.5, 0]] * 3])

    def losses(points: torch.Tensor) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)  # of the sampling
        target = {"boxes": boxes, "labels": torch.ones(2, dtype=torch.int64), "keypoints": points}
        return model(images, None, [target, target])

    found = losses(points)
    assert tuple(found) == (*KeypointRCNN.loss_names, "proposal_recall")
    sum(found.values()).backward()
    head = [p for name, p in model.named_parameters() if "keypoint" in name]
    assert all(p.grad is not None and p.grad.any() for p in head)
    moved = points.clone()
    moved[1, :, :2] += 20
    assert torch.equal(losses(moved)["keypoint"], found["keypoint"])
    model.zero_grad()
    nothing = losses(torch.zeros(2, 3, 3))
    assert nothing["keypoint"] == 0
    torch.testing.assert_close(nothing["class"], found["class"])
    nothing["keypoint"].backward()
    assert all(p.grad is not None and not p.grad.any() for p in head)  # in the graph, as several processes need it


def test_a_small_detector_learns_the_keypoints_of_drawn_figures(write_figures, tmp_path):
    folder = write_figures(tmp_path / "figures", images=4)
    config = DetectorConfig(
        detector="keypoint_rcnn",
        depths=(1, 1, 1, 1),
        width=8,
        input_size=64,
        norm_momentum=0.1,
        anchor_scale=4.0,
        fpn_channels=32,
        proposals_before_nms=(100, 100),
        proposals=(50, 50),
        roi_samples=16,
        box_head_width=64,
        keypoint_head_width=16,
        keypoint_head_depth=2,
    )
    torch.manual_seed(0)
    model = KeypointRCNN(config, 1, 3).train()
    images = CocoDetection(folder, "train", eval_transform(64), masks=False, keypoints=True)
    batch = collate(list(images))
    sizes = [target["content_size"] for target in batch["targets"]]
    optimizer = sgd(model, lr=0.05, batch_size=64, reference_batch=64, momentum=0.9, weight_decay=1e-4)
    for step in range(80):
        if step == 60:
            for group in optimizer.param_groups:
                group["lr"] /= 10
        optimizer.zero_grad()
        sum(model(batch["images"], sizes, batch["targets"]).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
    evaluation = evaluate_detector(model, images, batch_size=4)
    assert evaluation.scores["box"]["ap50"] > 0.9
    assert evaluation.scores["keypoint"]["ap50"] > 0.9
    assert evaluation.best == evaluation.scores["keypoint"]["ap"]


@pytest.fixture
def flags(write_figures, tmp_path, tiny_flags) -> list[str]:
    """Flags that train two steps on drawn figures, larger than the input."""
    folder = write_figures(tmp_path / "figures", images=4, side=150)
    words = [
        str(folder) if before == "--data" else word
        for before, word in zip(["", *tiny_flags[:-1]], tiny_flags, strict=True)
    ]
    return [*words, "--keypoint-head-width", "16", "--keypoint-head-depth", "1", "--out", str(tmp_path / "run")]


def test_the_command_line_trains_scores_and_draws_keypoints(run, flags, tmp_path):
    status, _, err = run("train", "small/keypoint_botnet50", *flags)
    assert status == 0, err
    with (tmp_path / "run" / "evaluations.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert {"val_box_ap", "val_keypoint_ap", "val_keypoint_ap50"} <= row.keys()
    assert "keypoint" in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    scores = json.loads(run("eval", tmp_path / "run", "--data", tmp_path / "figures", "--json", "--device", "cpu")[1])
    assert scores["keypoint"]["ap"] == pytest.approx(float(row["val_keypoint_ap"]))
    image = tmp_path / "figures" / "val" / "1.png"
    out = tmp_path / "found"
    assert run("predict", tmp_path / "run", image, "--out", out, "--threshold", 0, "--device", "cpu")[0] == 0
    found = json.loads((out / "predictions.json").read_text())
    assert found
    for result in found:
        points = np.array(result["keypoints"]).reshape(3, 3)
        x, y, width, height = result["bbox"]
        assert (
            (points[:, :2] >= np.array([x, y]) - 1.5) & (points[:, :2] <= np.array([x + width, y + height]) + 0.5)
        ).all()
    assert (out / "1.png").is_file()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda content: content["categories"][0].pop("keypoints"), ["no category", "person_keypoints"]),
        (lambda content: [own.pop("keypoints") for own in content["annotations"]], ["4 box without keypoints"]),
    ],
)
def test_data_without_keypoints_is_for_another_detector(
    write_figures, tiny_experiment, config, tmp_path, change, named
):
    folder = write_figures(tmp_path / "figures", images=4)
    file = folder / "annotations" / "person_keypoints_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(FieldError) as caught:
        DetectionTask(tiny_experiment.replace(model=config, data=tiny_experiment.data.replace(data=folder)))
    assert caught.value.path[-1] == "detector"
    for part in [str(file), "mask_rcnn", "faster_rcnn", *named]:
        assert part in str(caught.value)


def test_a_validation_split_with_other_keypoints_is_refused(write_figures, tiny_experiment, config, tmp_path):
    folder = write_figures(tmp_path / "figures", images=1)
    file = folder / "annotations" / "person_keypoints_val.json"
    file.write_text(file.read_text().replace("left_hand", "left_foot"))
    with pytest.raises(UserError, match=r"person_keypoints_val\.json.*left_foot.*left_hand"):
        DetectionTask(tiny_experiment.replace(model=config, data=tiny_experiment.data.replace(data=folder)))


def test_results_give_keypoints_as_the_file_has_them():
    points = torch.tensor([[[3.5, 4.5, 2], [5.25, 7, 1], [0.5, 0.5, 0]]] * 2)
    detections = {"boxes": torch.tensor([[1.0, 1, 9, 9]] * 2), "labels": torch.tensor([1, 2]), "keypoints": points}
    first, second = coco_results(detections, 1, [FIGURE, Category(9, "without")], (20, 20))
    assert first["keypoints"] == [3, 4, 2, 4.75, 6.5, 1, 0, 0, 0]
    assert "keypoints" not in second


def test_a_picture_shows_the_labelled_keypoints_and_lines_between_them():
    def drawn(*visibilities: float) -> np.ndarray:
        places = ((200, 60), (60, 300), (340, 300))
        keypoints = [value for place, seen in zip(places, visibilities, strict=True) for value in (*place, seen)]
        result = {"category_id": 4, "bbox": [20, 20, 360, 360], "keypoints": keypoints}
        picture = draw_detections(torch.zeros(3, 640, 640, dtype=torch.uint8), [result], [FIGURE])
        return np.asarray(picture).any(axis=2)

    dots, middles = ((60, 200), (300, 60), (300, 340)), ((180, 130), (180, 270))
    for visibilities in ((2, 1, 2), (2, 2, 0), (0, 2, 2), (0.9, 0.01, 0.5), (0, 0, 0)):
        picture, sure = drawn(*visibilities), [value > 0.05 for value in visibilities]
        assert [bool(picture[place]) for place in dots] == sure
        assert [bool(picture[place]) for place in middles] == [sure[0] and sure[1], sure[0] and sure[2]]
