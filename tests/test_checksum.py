"""Every byte that is cut off or changed in a checkpoint shows."""

import random
import zipfile

import pytest
import torch

from botvision.checkpoint import read_checkpoint
from botvision.checksum import add_checksum, damage_of
from botvision.errors import UserError
from botvision.models.weights import read_state_dict

CONTENT = {
    "botvision": {"task": "linear"},
    "step": 3,
    "state_dict": {"weight": torch.arange(600).float().view(20, 30), "bias": torch.ones(7)},
}


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(CONTENT, path)
    add_checksum(path)
    return path


def test_it_stays_a_file_of_torch_and_a_zip_archive(sealed):
    assert damage_of(sealed) is None
    read = torch.load(sealed, weights_only=True)
    assert torch.equal(read["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert read_checkpoint(sealed)["step"] == 3
    with zipfile.ZipFile(sealed) as archive:
        assert archive.testzip() is None
    with pytest.raises(ValueError, match=r"last\.ckpt"):
        add_checksum(sealed)


@pytest.mark.parametrize("kind", ["cut", "flip"])
def test_a_cut_and_a_flipped_bit_are_found_at_any_byte(sealed, kind):
    whole, draw = sealed.read_bytes(), random.Random(0)
    ends = [0, 1, 2, 3, *range(len(whole) - 100, len(whole))]  # the begin, and the checksum with what is around it
    for place in ends + draw.sample(range(len(whole)), 100):
        changed = whole[place] ^ (1 << draw.randrange(8))
        sealed.write_bytes(whole[:place] + (bytes([changed]) + whole[place + 1 :] if kind == "flip" else b""))
        for read in (read_checkpoint, read_state_dict):
            with pytest.raises(UserError, match=r"last\.ckpt") as caught:
                read(sealed)
            assert "\n" not in str(caught.value)


def test_a_file_without_our_checksum_is_judged_by_its_own(tmp_path):
    path = tmp_path / "old.ckpt"
    torch.save(CONTENT, path)
    assert read_checkpoint(path)["step"] == 3
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        part = next(one for one in archive.infolist() if one.file_size == 2400)
    inside = whole.index(CONTENT["state_dict"]["weight"].numpy().tobytes()) + 1000
    path.write_bytes(whole[:inside] + bytes([whole[inside] ^ 4]) + whole[inside + 1 :])
    with pytest.raises(UserError, match=f"{part.filename}"):
        read_checkpoint(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"old\.ckpt is damaged"):
        read_checkpoint(path)
