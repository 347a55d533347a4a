"""When images that cannot be read stop a run."""

import logging

import pytest

from botvision.training.skipped_images import SkippedImages


def see(skipped: SkippedImages, good: int, bad: list[str]) -> str | None:
    skipped.count({"size": good, "skipped": [(name, "not an image") for name in bad]})
    return skipped.problem


def test_each_is_named_once_in_a_warning(caplog):
    skipped = SkippedImages(50)
    with caplog.at_level(logging.WARNING, "botvision"):
        for _ in range(3):
            see(skipped, 49, ["a.jpg"])
    (record,) = caplog.records
    assert "a.jpg" in record.getMessage()
    assert "not an image" in record.getMessage()


def test_one_alone_never_stops_a_run_however_few_the_images():
    for _ in range(10):
        assert see(SkippedImages(5), 4, ["a.jpg"]) is None


@pytest.mark.parametrize(("images", "bearable"), [(50, 1), (200, 2), (1000, 10), (10**6, 10)])
def test_more_than_one_percent_of_a_data_set_or_of_its_first_thousand_images_stops_it(images, bearable):
    skipped = SkippedImages(images)
    for number in range(bearable):
        assert see(skipped, 7, [f"{number}.jpg"]) is None
    problem = see(skipped, 7, ["last.jpg"])
    assert f"{bearable + 1} images" in problem
    assert "\n" not in problem
    assert all(f"{name}.jpg (not an image)" in problem for name in (*range(bearable), "last"))


def test_in_a_long_run_one_percent_of_the_images_seen_so_far_counts():
    skipped = SkippedImages(10**6)
    see(skipped, 5000, [])
    assert see(skipped, 0, [f"{number}.jpg" for number in range(50)]) is None
    assert "of 505" in see(skipped, 0, ["last.jpg", "very last.jpg"])


def test_what_is_seen_again_in_the_next_epoch_makes_no_difference():
    skipped = SkippedImages(1000)
    for _ in range(5):
        assert see(skipped, 990, [f"{number}.jpg" for number in range(10)]) is None
    assert (skipped.seen, len(skipped.bad)) == (1000, 10)


def test_a_long_list_is_cut(caplog):
    problem = see(SkippedImages(10**6), 0, [f"{number}.jpg" for number in range(25)])
    assert "and 5 more" in problem
    assert "19.jpg" in problem
    assert "20.jpg" not in problem
    assert "20.jpg" in caplog.text


def test_a_batch_of_a_task_that_skips_nothing():
    skipped = SkippedImages(10)
    skipped.count({"size": 3})
    assert (skipped.seen, skipped.problem) == (3, None)


def test_counts_go_on_in_any_number_of_processes():
    whole = {"seen": 90, "bad": {f"{number}.jpg": "not an image" for number in range(5)}}
    shares = [SkippedImages.shared(300, **whole, rank=rank, world=3) for rank in range(3)]
    assert [(share.images, share.seen) for share in shares] == [(100, 30)] * 3
    assert {path for share in shares for path in share.bad} == whole["bad"].keys()
    assert sum(len(share.bad) for share in shares) == 5
    assert SkippedImages.shared(300, **whole, rank=0, world=1).of_all() == whole
