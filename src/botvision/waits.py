"""What surrounds each wait for data: nothing, but in a training run what ends the wait where the run is to stop."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

surrounding: Callable[[], AbstractContextManager[None]] = nullcontext
