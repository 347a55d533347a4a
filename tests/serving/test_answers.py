"""What the page is told, without a server."""

import pytest
import torch

from botvision.errors import UserError
from botvision.serving.answers import Answers
from botvision.tasks.predictor import Predictor


def test_an_image_goes_through_the_network_once_for_all_its_points(detector_file, photograph, shapes):
    answers = Answers(Predictor(detector_file, device="cpu"))
    passes = []
    hook = answers.blocks["layer4.0"].qkv.register_forward_hook(lambda *_: passes.append(1))
    other = next((shapes / "val2017").iterdir())
    found = [
        answers.attend(image.read_bytes(), image.name, x, 20, "layer4.0")["heads"]
        for image, x in ((photograph, 5), (photograph, 50), (other, 5), (photograph, 5))
    ]
    hook.remove()
    assert len(passes) == 3  # the last image is kept, others are not
    first, second, of_other, again = map(torch.tensor, found)
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)
    assert first.shape != of_other.shape
    torch.testing.assert_close(first.sum(dim=(1, 2)), torch.ones(len(first)))


def test_a_network_without_attention_is_served_too(make_classifier_file, photograph):
    answers = Answers(Predictor(make_classifier_file("resnet50"), device="cpu"))
    assert answers.about()["blocks"] == []
    assert len(answers.predict(photograph.read_bytes(), photograph.name)["classes"]) == 3
    with pytest.raises(UserError, match="no attention block"):
        answers.attend(photograph.read_bytes(), photograph.name, 1, 1, "layer4.0")
