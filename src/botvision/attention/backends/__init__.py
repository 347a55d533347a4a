"""The backends: each computes :func:`~botvision.attention.reference.reference_attention` in a way of its own.

``query_blocks.py`` serves every device, with one block of the matrix in memory; ``triton_*.py`` NVIDIA cards;
``folded_sdpa.py`` other cards, by PyTorch's own attention. ``attention/choose.py`` chooses.
"""
