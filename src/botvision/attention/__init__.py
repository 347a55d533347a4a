"""The operator: global attention on a 2-D map with relative positions.

``definition.py`` says what it is, ``folded.py`` computes it without the (N, N) matrix, ``operator.py`` chooses.
"""

from botvision.attention.definition import definition_attention
from botvision.attention.folded import folded_attention
from botvision.attention.operator import position_attention, relative_attention
from botvision.attention.tables import adapt_relative_table, adapt_table

__all__ = [
    "adapt_relative_table",
    "adapt_table",
    "definition_attention",
    "folded_attention",
    "position_attention",
    "relative_attention",
]
