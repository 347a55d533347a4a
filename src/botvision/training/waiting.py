"""How long a run waits for its data."""

import time
from collections.abc import Iterator

from torch.utils.data import DataLoader

from botvision.data.loading import Batch


class TimedLoader:
    """The batches of a loader; ``waited`` is the time that asking for them has taken so far, in seconds."""

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.waited = 0.0

    def __len__(self) -> int:
        """Batches of the whole run."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the loader, whose workers start when the first one is asked for."""
        started = time.perf_counter()
        for batch in self.loader:
            self.waited += time.perf_counter() - started
            yield batch
            started = time.perf_counter()
