"""Pages: text is never markup, ticks are round, pictures are bounded."""

import base64
import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from botvision.pages import Line, jpeg, line_chart, table, ticks, write_page


@given(low=st.floats(-1e6, 1e6), size=st.floats(1e-3, 1e6))
def test_ticks_lie_inside_their_range_at_equal_distances(low, size):
    high = low + size
    found = ticks(low, high)
    assert 1 <= len(found) <= 6
    assert low - 1e-6 * size <= found[0] <= found[-1] <= high + 1e-6 * size
    steps = [after - before for before, after in pairwise(found)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3) if steps else True


def test_ticks_are_round():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert ticks(7, 131) == pytest.approx([50, 100])
    assert ticks(0.113, 2.32) == pytest.approx([0.5, 1, 1.5, 2])


def test_text_in_tables_charts_and_titles_is_escaped(tmp_path):
    bad = "<script>\udcff & \"x\" 'y'"
    parts = [table([bad], [[bad]]), line_chart(bad, [Line(bad, [(0, 1)])], bad)]
    write_page(tmp_path / "page.html", bad, parts)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;\\udcff &amp; &quot;x&quot; &#x27;y&#x27;") == 8


def test_pictures_are_shrunk():
    shown = Image.open(io.BytesIO(base64.b64decode(jpeg(Image.new("RGBA", (300, 100)), 60))))
    assert (shown.format, shown.size) == ("JPEG", (60, 20))
