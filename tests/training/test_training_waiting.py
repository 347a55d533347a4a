"""The time that a run waits for its data."""

import time

from botvision.training.waiting import TimedLoader


class Slow:
    """A loader that makes one wait before each batch, by moving the clock."""

    def __init__(self, clock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 3

    def __iter__(self):
        for batch in range(3):
            self.clock.now += 2
            yield batch


class Clock:
    now = 0.0


def test_the_time_of_the_loader_counts_and_the_time_of_the_training_does_not(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    loader = TimedLoader(Slow(clock))
    assert len(loader) == 3
    waited = []
    for batch in loader:
        waited.append((batch, loader.waited))
        clock.now += 5
    assert waited == [(0, 2), (1, 4), (2, 6)]
    assert loader.waited == 6
