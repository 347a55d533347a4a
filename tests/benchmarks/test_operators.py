"""Shares of operators are those that PyTorch's own table of a profile has."""

from types import SimpleNamespace

from torch.autograd import DeviceType

from botvision.benchmarks.operators import longest


def event(key, time, device=DeviceType.CPU):
    return SimpleNamespace(key=key, count=2, device_type=device, self_device_time_total=time)


def test_a_kernel_is_counted_with_its_operator_and_not_again():
    """Two operators of 300 and 100 microseconds on a GPU, whose profile has their kernels too."""
    events = [event("mm", 100), event("relu", 300), event("view", 0)]
    events += [event("gemm_kernel", 100, DeviceType.CUDA), event("relu_kernel", 300, DeviceType.CUDA)]
    found = longest(events, "self_device_time_total", 2)
    assert [(one.name, one.ms, one.share) for one in found] == [("relu", 0.3, 0.75), ("mm", 0.1, 0.25)]
