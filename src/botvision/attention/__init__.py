"""The operator: global attention over a 2-D map, with relative positions or any bias of rows and columns.

``reference.py`` defines the result. ``biased.py`` is the primitive, and ``relative.py`` has the kinds of the paper's
Table 4 on it, with the position terms of ``positions.py`` and ``tables.py``. ``choose.py`` chooses among ``backends/``;
``custom_op.py`` makes one operator of PyTorch of those that compute without the matrix of logits, and
``position_op.py`` one of the position terms, for Triton and for graphs compiled under autocast.
"""

from botvision.attention.biased import biased_attention
from botvision.attention.checks import map_size
from botvision.attention.choose import BACKENDS, backend
from botvision.attention.positions import padding_biases
from botvision.attention.reference import figure_4_attention, reference_attention
from botvision.attention.relative import (
    absolute_attention,
    content_attention,
    position_attention,
    relative_attention,
)
from botvision.attention.tables import adapt_relative_table, adapt_table

__all__ = [
    "BACKENDS",
    "absolute_attention",
    "adapt_relative_table",
    "adapt_table",
    "backend",
    "biased_attention",
    "content_attention",
    "figure_4_attention",
    "map_size",
    "padding_biases",
    "position_attention",
    "reference_attention",
    "relative_attention",
]
