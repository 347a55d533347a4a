"""Fine-tuning from published weights: state dicts of torchvision and timm, made at random, fill what they should."""

from urllib.error import URLError

import pytest
import timm
import torch
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models._api import WeightsEnum
from torchvision.models.detection import maskrcnn_resnet50_fpn

from botvision.data import write_generated_coco
from botvision.errors import UserError
from botvision.experiments import find_experiment
from botvision.models import read_state_dict
from botvision.tasks.detection.task import DetectionTask


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    return write_generated_coco(folder, train_images=4, val_images=2, image_size=64, seed=0)


@pytest.fixture
def publish(monkeypatch):
    """Let torchvision and timm give a state dict without a network."""

    def give(model):
        state = model.state_dict()
        monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **options: state)
        monkeypatch.setattr(timm, "create_model", lambda name, pretrained: model)
        return state

    return give


def make(backbone, data, weights):
    experiment = find_experiment(f"finetune/{backbone}").config
    task = DetectionTask(experiment.replace(data=experiment.data.replace(data=data)))
    torch.manual_seed(1)
    model = task.make_model()
    task.load_weights(model, read_state_dict(weights))
    return model


def differing(model, state, prefix=""):
    """Names of the model's tensors that are not those of the state dict."""
    own = {name.removeprefix(prefix): tensor for name, tensor in model.state_dict().items() if name.startswith(prefix)}
    return {
        name
        for name, tensor in own.items()
        if not name.endswith("num_batches_tracked")
        if name not in state or not torch.equal(tensor, state[name])
    }


def test_the_older_weights_of_torchvision_have_a_name(monkeypatch):
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **options: {self.url: torch.zeros(1)})
    oldest, newest = ResNet50_Weights.IMAGENET1K_V1, ResNet50_Weights.DEFAULT
    assert oldest != newest
    assert [*read_state_dict("torchvision/resnet50.IMAGENET1K_V1")] == [oldest.url]
    assert [*read_state_dict("torchvision/resnet50")] == [newest.url]
    with pytest.raises(UserError, match=r"resnet50\.V9"):
        read_state_dict("torchvision/resnet50.V9")


@pytest.mark.parametrize("weights", ["torchvision/resnet50", "timm/resnet50"])
@pytest.mark.parametrize("backbone", ["resnet50", "botnet50"])
def test_an_imagenet_resnet_fills_the_backbone_but_for_the_attention(publish, data, weights, backbone):
    state = publish(resnet50() if weights.startswith("torchvision") else timm.create_model("resnet50"))
    model = make(backbone, data, weights)
    left = differing(model, state, "backbone.body.")
    assert all(".mhsa." in name for name in left)
    assert bool(left) == (backbone == "botnet50")
    body = model.backbone.body.named_parameters()
    moving = {name.split(".")[0] for name, tensor in body if tensor.requires_grad}
    assert moving == {"layer2", "layer3", "layer4"}


def test_torchvisions_mask_rcnn_fills_everything_but_the_classes(publish, data):
    state = publish(maskrcnn_resnet50_fpn(weights=None, weights_backbone=None))
    left = differing(make("resnet50", data, "torchvision/maskrcnn_resnet50_fpn"), state)
    layers = {name.rpartition(".")[0].rpartition(".")[2] for name in left}
    assert layers == {"cls_score", "bbox_pred", "mask_fcn_logits"}


def test_without_a_network_one_line_names_the_weights(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", refuse)
    with pytest.raises(UserError, match=r"torchvision.*resnet50.*no network") as error:
        read_state_dict("torchvision/resnet50")
    assert "\n" not in str(error.value)
