"""What the tests of refusals share: a data set to damage, and a training that must be refused."""

import json
import shutil

import pytest


@pytest.fixture
def data(shapes, tmp_path):
    """A copy of the data set, to damage."""
    return shutil.copytree(shapes, tmp_path / "data")


@pytest.fixture
def change():
    """Edits a JSON file: change(file, lambda content: ...)."""

    def changed(file, edit) -> None:
        content = json.loads(file.read_text())
        edit(content)
        file.write_text(json.dumps(content))

    return changed


@pytest.fixture
def refused_training(refusal, data, tiny_flags, tmp_path):
    """Trains on the damaged data set, which must be refused and leave no run folder."""

    def train(*more) -> str:
        out = tmp_path / "run"
        line = refusal("train", "small/botnet50", *tiny_flags, "--data", data, "--out", out, *more)
        assert not out.exists()
        return line

    return train
