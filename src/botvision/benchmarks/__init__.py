"""Benchmarks: each prints a table of ratios against named peers, measured in interleaved runs of one process."""

from botvision.benchmarks.attention_layer import Row, Setting, bench_attention
from botvision.benchmarks.attention_report import about, as_data, attention_table, header, notes, write_report
from botvision.benchmarks.implementations import IMPLEMENTATIONS

__all__ = [
    "IMPLEMENTATIONS",
    "Row",
    "Setting",
    "about",
    "as_data",
    "attention_table",
    "bench_attention",
    "header",
    "notes",
    "write_report",
]
