"""Faster R-CNN against torchvision's, and a run on data without masks."""

import json

import torch
from rich.console import Console
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from botvision.data import write_generated_coco
from botvision.experiments import find_experiment
from botvision.tasks.detection import DetectorConfig, FasterRCNN
from botvision.tasks.detection.options import DetectionPredictOptions
from botvision.tasks.detection.task import DetectionTask
from botvision.tasks.predictor import Predictor
from botvision.training.trainer import start


def test_it_has_the_parts_of_torchvisions():
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=8)
    ours = FasterRCNN(DetectorConfig(detector="faster_rcnn", backbone="resnet50", variant="torchvision"), 7)
    shapes = {name: value.shape for name, value in theirs.state_dict().items() if "num_batches_tracked" not in name}
    own = {name: value.shape for name, value in ours.state_dict().items() if "num_batches_tracked" not in name}
    assert own == shapes


def test_a_step_needs_no_masks_and_reaches_every_parameter(tiny):
    torch.manual_seed(0)
    model = FasterRCNN(tiny.replace(detector="faster_rcnn"), 3).train()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    target = {"boxes": torch.tensor([[5.0, 5, 40, 50]]), "labels": torch.tensor([2])}
    losses = model(images, None, [target, target])
    assert tuple(losses) == (*FasterRCNN.loss_names, "proposal_recall")
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.no_grad():
        found = model.eval()(images)[0]
    assert found.keys() == {"boxes", "labels", "scores"}


def test_a_run_on_boxes_alone_is_scored_by_boxes(tiny, tmp_path):
    data = write_generated_coco(tmp_path / "data", train_images=4, val_images=2, image_size=64, seed=0)
    for file in (data / "annotations").iterdir():
        content = json.loads(file.read_text())
        for annotation in content["annotations"]:
            del annotation["segmentation"]
        file.write_text(json.dumps(content))
    experiment = find_experiment("small/faster_botnet50").config
    run = experiment.run.replace(out=tmp_path / "run", steps=2, batch_size=2)
    model = tiny.replace(detector=experiment.model.detector)
    task = DetectionTask(experiment.replace(model=model, data=experiment.data.replace(data=data, workers=0), run=run))
    outcome = start(task, "small/faster_botnet50", Console(stderr=True))
    assert outcome.scores.keys() == {"classes", "box"}
    losses, scores = ((outcome.folder / f"{table}.csv").read_text() for table in ("metrics", "evaluations"))
    assert "val_box_ap" in scores
    assert "mask" not in losses + scores
    image = next((data / "val2017").iterdir())
    found = DetectionTask.predict_files(
        Predictor(outcome.folder, device="cpu").trained,
        [image],
        DetectionPredictOptions(threshold=0, out=tmp_path / "out", device="cpu"),
        1,
        lambda done, total: None,
    )
    names = {"image_id", "category_id", "category_name", "bbox", "score", "file_name"}
    assert all(result.keys() == names for result in found)
    assert (tmp_path / "out" / f"{image.stem}.png").is_file()
