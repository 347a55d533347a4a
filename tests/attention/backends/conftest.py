import numpy as np
import pytest


def version(package) -> tuple[int, int]:
    major, minor = package.__version__.split(".")[:2]
    return int(major), int(minor)


@pytest.fixture(scope="session")
def triton_interpreter():
    """Skips what Triton's interpreter should run where there is none that works."""
    triton = pytest.importorskip("triton")
    if version(triton) <= (3, 6) and version(np) >= (2, 5):
        pytest.skip("the interpreter of Triton 3.6 takes arrays of one element for numbers, which NumPy 2.5 ended")
