"""Letters of every language in pictures, texts that are cut to their room, and images of any channels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from botvision import pictures
from botvision.pictures import OWN_FONT, file_for, fitting, font, letters_in, picture_of

STIX = OWN_FONT.with_name("STIXGeneral.ttf")
CHINESE = "人物"


@pytest.fixture
def installed(monkeypatch):
    """Says which fonts the system has."""

    def fonts(*files) -> None:
        monkeypatch.setattr(pictures, "findSystemFonts", lambda: list(map(str, files)))
        file_for.cache_clear()

    yield fonts
    file_for.cache_clear()


def test_a_font_of_the_system_writes_what_ours_lacks(installed, tmp_path):
    (tmp_path / "a.ttf").write_text("no font")
    installed(tmp_path / "a.ttf", STIX)
    lacking = chr(min(letters_in(STIX) - letters_in(OWN_FONT)))
    assert file_for(lacking) == STIX
    assert file_for("cat, Бобер, قطة\u200d") == OWN_FONT


def test_letters_that_no_font_has_are_warned_of_once(installed, caplog):
    installed(STIX)
    assert [file_for(CHINESE), file_for(CHINESE)] == [None, None]
    (record,) = caplog.records
    assert CHINESE in record.getMessage()


@given(st.text(st.characters(exclude_categories=["C"]), max_size=60), st.integers(0, 300))
@settings(max_examples=50, deadline=None)
def test_a_text_is_cut_where_it_must_be(text, room):
    letters = font(13)
    shown = fitting(text, letters, room)
    if letters.getlength(text) <= room:
        assert shown == text
    else:
        kept = shown.removesuffix("...")
        assert text.startswith(kept)
        assert letters.getlength(shown) <= max(room, letters.getlength("..."))


def test_images_as_stored_are_stretched_between_percentiles_and_bytes_stay_as_they_are():
    image = torch.arange(100.0).reshape(1, 10, 10) * torch.tensor([1.0, 500.0, -3.0, 9.0, 0.0])[:, None, None] + 7
    picture = np.asarray(picture_of(image)).astype(int)
    ramp = np.clip((np.arange(100) - 0.02 * 99) / (0.96 * 99), 0, 1).reshape(10, 10) * 255
    for place, expected in enumerate((ramp, ramp, 255 - ramp)):
        assert abs(picture[:, :, place] - expected).max() <= 0.51
    grey = np.asarray(picture_of(image[1:3])).astype(int)
    assert (grey == picture[:, :, 1:2]).all()
    assert not np.asarray(picture_of(image[4:])).any()  # one value alone
    colours = torch.randint(256, (3, 5, 4), dtype=torch.uint8)
    assert np.array_equal(np.asarray(picture_of(colours)), colours.permute(1, 2, 0).numpy())
