"""The operator: global attention on a 2-D map with relative positions.

``definition.py`` says what it is. ``blocks.py`` (processor), ``kernel.py`` (GPU, behind ``gpu.py``) and ``folded.py``
(stock kernels) compute it without the matrix of logits; ``operation.py`` makes the first two one operator of PyTorch;
``operator.py`` is what users call, and chooses.
"""

from botvision.attention.definition import definition_attention
from botvision.attention.folded import folded_attention
from botvision.attention.operator import (
    absolute_attention,
    content_attention,
    position_attention,
    relative_attention,
)
from botvision.attention.tables import adapt_relative_table, adapt_table

__all__ = [
    "absolute_attention",
    "adapt_relative_table",
    "adapt_table",
    "content_attention",
    "definition_attention",
    "folded_attention",
    "position_attention",
    "relative_attention",
]
