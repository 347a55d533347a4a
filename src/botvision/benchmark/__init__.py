"""Benchmarks: each prints a table of ratios against named peers, measured in interleaved runs of one process."""

from botvision.benchmark.attention import bench_attention, timings_table

__all__ = ["bench_attention", "timings_table"]
