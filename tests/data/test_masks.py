"""Run lengths that other programs wrote: read, or refused, also where they are damaged."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from botvision.data.masks import decode_masks, usable_segmentation

SIZES = st.sampled_from([(1, 1), (1, 7), (4, 5), (30, 20)])


def decompressed(text: str) -> list[int]:
    """COCO's compression undone: 6 bits a letter, 5 of them of the number, and differences to the run but one before.

    Written from the description in pycocotools' maskApi.c; IndexError where the text ends inside a number.
    """
    runs: list[int] = []
    place = 0
    while place < len(text):
        number = shift = 0
        while True:
            letter = ord(text[place]) - 48
            number |= (letter & 31) << shift
            place, shift = place + 1, shift + 5
            if not letter & 32:
                break
        if letter & 16:
            number -= 1 << shift
        runs.append(number + runs[-2] if len(runs) > 2 else number)
    return runs


def compressed(runs: list[int]) -> str:
    text = ""
    for place, run in enumerate(runs):
        number = run - runs[place - 2] if place > 2 else run
        while True:
            letter, number = number & 31, number >> 5
            more = number != (-1 if letter & 16 else 0)
            text += chr(letter + 48 + 32 * more)
            if not more:
                break
    return text


def meaning(runs: list[int], height: int, width: int) -> np.ndarray | None:
    """The mask (H, W) of run lengths, None where they do not cover the image exactly."""
    if min(runs, default=-1) < 0 or sum(runs) != height * width:
        return None
    values = np.arange(len(runs)) % 2
    return np.repeat(values, runs).reshape(width, height).T


def assert_read_or_refused(counts: list[int] | str, expected: np.ndarray | None, height: int, width: int) -> None:
    segmentation = {"size": [height, width], "counts": counts}
    if expected is None:
        with pytest.raises(ValueError, match=r"'counts' that are no run lengths"):
            usable_segmentation(segmentation, height, width)
        return
    usable = usable_segmentation(segmentation, height, width)
    assert (usable is not None) == bool(expected.any())
    assert np.array_equal(decode_masks([usable], height, width)[0].numpy(), expected)


@settings(max_examples=300, deadline=None)
@given(size=SIZES, data=st.data(), change=st.sampled_from(["none", "shorter", "longer", "cut", "letter"]))
def test_run_lengths_mean_what_their_description_says_or_are_refused(size, data, change):
    height, width = size
    edges = sorted(data.draw(st.lists(st.integers(0, height * width), max_size=6)))
    runs = np.diff([0, *edges, height * width]).tolist()
    if change in ("shorter", "longer"):
        runs[-1] += data.draw(st.integers(1, 40)) * (1 if change == "longer" else -1)
    assert_read_or_refused(runs, meaning(runs, height, width), height, width)
    text = compressed(runs)
    assert decompressed(text) == runs
    if change == "cut":
        text = text[: data.draw(st.integers(0, len(text) - 1))]
    if change == "letter":
        place = data.draw(st.integers(0, len(text) - 1))
        text = text[:place] + data.draw(st.characters(min_codepoint=48, max_codepoint=111)) + text[place + 1 :]
    try:
        expected = meaning(decompressed(text), height, width)
    except IndexError:  # cut off inside a number
        expected = None
    assert_read_or_refused(text, expected, height, width)


def test_run_lengths_that_end_inside_a_number_are_refused():
    """Without its mark that the number goes on, this is the 7 pixels of the image."""
    assert_read_or_refused("W", None, 1, 7)
    assert_read_or_refused("", None, 1, 7)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=12))
@example(text="o" * 1000)
@example(text="_" * 1000)
def test_any_text_is_read_or_refused(text):
    try:
        usable = usable_segmentation({"size": [4, 5], "counts": text}, 4, 5)
    except ValueError as error:
        assert "'counts' that are no run lengths" in str(error)
    else:
        assert decode_masks([usable], 4, 5).shape == (1, 4, 5)
