"""Benchmarks: each prints a table of ratios against named peers, measured in interleaved runs of one process."""

from botvision.benchmark.attention import Row, Setting, bench_attention
from botvision.benchmark.peers import WAYS
from botvision.benchmark.report import about, as_data, attention_table, header, notes, write_report

__all__ = [
    "WAYS",
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
