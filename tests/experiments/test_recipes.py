"""The recipes of classification against what the paper prints, and their small versions."""

import pytest
import torch

from botvision.errors import UserError
from botvision.experiments import RECIPES, find_experiment, smoke, train_by
from botvision.models import CATALOGUE
from botvision.tasks.classification import Classifier

IMAGENET_IMAGES = 1_281_167


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "decay", "smoothing", "randaugment"),
    [  # Tables 9 and 10; the third as in ResNet-RS
        ("table9/botnet50", 100, 1024, 1e-4, 0, None),
        ("table10/botnet50_s1", 200, 4096, 8e-5, 0.1, (2, 10)),
        ("figure5/botnet_t3", 350, 4096, 4e-5, 0.1, (2, 10)),  # 224 pixels
        ("figure5/botnet_t5", 350, 4096, 4e-5, 0.1, (2, 15)),  # 256
        ("imagenet/senet_s1", 100, 1024, 1e-4, 0, None),
    ],
)
def test_the_papers_settings(name, epochs, batch, decay, smoothing, randaugment):
    experiment = find_experiment(name).config
    run, optimizer = experiment.run, experiment.optimizer
    assert (run.epochs, run.batch_size) == (epochs, batch)
    assert (optimizer.weight_decay, optimizer.label_smoothing) == (decay, smoothing)
    assert experiment.data.randaugment == randaugment
    assert experiment.model.model == name.split("/")[1]


@pytest.mark.parametrize(
    ("recipe", "steps", "lr"), [("regular", 125_114, 0.4), ("improved", 62_557, 1.6), ("scaling", 109_475, 1.6)]
)
def test_steps_and_rates_on_imagenet(recipe, steps, lr):
    """1 281 167 images, 100 epochs in batches of 1024, or 200 and 350 in batches of 4096."""
    experiment = train_by(recipe, "botnet50")
    assert experiment.run.total_steps(IMAGENET_IMAGES) == steps
    assert experiment.optimizer.lr * experiment.run.batch_size / 256 == pytest.approx(lr)


def test_only_the_scaling_recipe_regularises_the_network():
    for recipe in RECIPES:
        network = train_by(recipe, "botnet_t3").model.network()
        expected = (0.25, 0.1, 0.9999) if recipe == "scaling" else (0, 0, None)
        assert (
            network.dropout,
            network.stochastic_depth,
            train_by(recipe, "botnet_t3").run.ema_decay,
        ) == expected
    assert find_experiment("figure5/botnet_t5").config.model.stochastic_depth == 0.1  # 256 pixels
    assert find_experiment("figure5/botnet_t6").config.model.stochastic_depth == 0.2  # 320


def test_models_keep_their_own_image_size():
    sizes = {
        name: find_experiment(f"figure5/{name}").config.model.image_size
        for name in ("botnet_t3", "botnet_t7", "senet_s5")
    }
    assert sizes == {"botnet_t3": 224, "botnet_t7": 384, "senet_s5": 384}


@pytest.mark.parametrize("model", CATALOGUE)
def test_every_model_has_a_small_version_by_every_recipe(model):
    for recipe in RECIPES:
        full = train_by(recipe, model)
        small = smoke(full)
        classifier = Classifier(small.model, 10)
        assert sum(parameter.numel() for parameter in classifier.parameters()) < 2_000_000
        assert small.optimizer == full.optimizer.replace(lr=small.optimizer.lr, warmup_epochs=0)
        assert small.data == full.data.replace(workers=1)
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    assert classifier(images).shape == (2, 10)


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match="improved"):
        train_by("improvd", "botnet50")


def test_options_choose_the_settings_that_an_experiment_starts_from():
    entry = find_experiment("imagenet/botnet50")
    assert entry.build(entry.options(recipe="improved")) == train_by("improved", "botnet50")
    assert entry.build(entry.options(recipe="improved", smoke=True)) == smoke(train_by("improved", "botnet50"))
    assert entry.config == train_by("regular", "botnet50")
    row = find_experiment("table10/botnet50")
    assert row.build(row.options(smoke=True)) == smoke(row.config)
    with pytest.raises(UserError, match="recipe"):
        row.options(recipe="regular")  # a row of the paper has its own
