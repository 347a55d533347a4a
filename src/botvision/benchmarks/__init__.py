"""Benchmarks: each prints a table of ratios against named peers, measured in interleaved runs of one process."""

from typing import TYPE_CHECKING

from botvision.lazy import lazy_names

if TYPE_CHECKING:
    from botvision.benchmarks.attention_layer import Row, Setting, bench_attention
    from botvision.benchmarks.attention_report import about, as_data, attention_table, header, notes, write_report
    from botvision.benchmarks.implementations import IMPLEMENTATIONS

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "IMPLEMENTATIONS": "implementations",
        **dict.fromkeys(("Row", "Setting", "bench_attention"), "attention_layer"),
        **dict.fromkeys(("about", "as_data", "attention_table", "header", "notes", "write_report"), "attention_report"),
    },
)

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
