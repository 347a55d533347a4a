"""When images that cannot be read stop a run."""

import logging

import pytest

from botvision.errors import UserError
from botvision.training.skipped import SkippedImages


def see(skipped: SkippedImages, good: int, bad: list[str]) -> None:
    batch = {"targets": [{}] * good, "skipped": [(name, "not an image") for name in bad]}
    skipped.on_train_batch_start(None, None, batch, 0)


def test_each_is_named_once_in_a_warning(caplog):
    skipped = SkippedImages(50)
    with caplog.at_level(logging.WARNING, "botvision"):
        for _ in range(3):
            see(skipped, 49, ["a.jpg"])
    assert [record.getMessage() for record in caplog.records] == ["left out a.jpg: not an image"]


def test_one_alone_never_stops_a_run_however_few_the_images():
    for _ in range(10):
        see(SkippedImages(5), 4, ["a.jpg"])


@pytest.mark.parametrize(("images", "bearable"), [(50, 1), (200, 2), (1000, 10), (10**6, 10)])
def test_more_than_one_percent_of_a_data_set_or_of_its_first_thousand_images_stops_it(images, bearable):
    skipped = SkippedImages(images)
    for number in range(bearable):
        see(skipped, 7, [f"{number}.jpg"])
    with pytest.raises(UserError, match=f"{bearable + 1} images could not be read") as caught:
        see(skipped, 7, ["last.jpg"])
    assert "\n" not in str(caught.value)
    assert "more than 1 %" in str(caught.value)
    assert all(f"{name}.jpg (not an image)" in str(caught.value) for name in (*range(bearable), "last"))


def test_in_a_long_run_one_percent_of_the_images_seen_so_far_counts():
    skipped = SkippedImages(10**6)
    see(skipped, 5000, [])
    see(skipped, 0, [f"{number}.jpg" for number in range(50)])
    with pytest.raises(UserError, match="more than 1 % of 505"):
        see(skipped, 0, ["last.jpg", "very last.jpg"])


def test_what_is_seen_again_in_the_next_epoch_makes_no_difference():
    skipped = SkippedImages(1000)
    for _ in range(5):
        see(skipped, 990, [f"{number}.jpg" for number in range(10)])
    assert (skipped.seen, len(skipped.bad)) == (1000, 10)


def test_a_long_list_is_cut(caplog):
    with pytest.raises(UserError, match=r"and 5 more, each in a warning above") as caught:
        see(SkippedImages(10**6), 0, [f"{number}.jpg" for number in range(25)])
    assert "19.jpg" in str(caught.value)
    assert "20.jpg" not in str(caught.value)
    assert "20.jpg" in caplog.text


def test_the_counts_survive_a_resume():
    before, after = SkippedImages(200), SkippedImages(200)
    see(before, 20, ["a.jpg", "b.jpg"])
    after.load_state_dict(before.state_dict())
    assert after.seen == 22
    with pytest.raises(UserError, match="3 images"):
        see(after, 20, ["c.jpg"])


def test_a_batch_of_a_task_that_skips_nothing():
    SkippedImages(10).on_train_batch_start(None, None, {"targets": [{}]}, 0)
