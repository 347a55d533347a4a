"""Letters of every language in pictures, and texts that are cut to their room."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botvision import pictures
from botvision.pictures import OWN_FONT, file_for, fitting, font, letters_in

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
