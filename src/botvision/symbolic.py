"""Programs that PyTorch compiles or exports: what they are traced for, and sizes that they leave open."""

import torch
from torch import SymBool

try:
    from torch.fx.experimental.symbolic_shapes import statically_known_true as _known_true
except ImportError:  # an experimental module, which may move
    _known_true = None  # type: ignore[assignment]


def always_true(condition: bool | SymBool) -> bool:
    """Whether a comparison of sizes holds for every size that a traced program may see.

    A comparison of plain numbers is its own answer. Asking a symbolic one for its truth would fix the size in the
    program; this does not.
    """
    if _known_true is not None:  # first: under torch.compile, isinstance takes an open comparison for a plain bool
        return bool(_known_true(condition))
    return bool(condition) if not isinstance(condition, SymBool) else False


def is_exporting() -> bool:
    """Whether ``torch.export`` traces a program.

    ``torch.compiler.is_exporting`` says so to every compiled program, too (PyTorch 2.11); what it reads is right.
    """
    flag = getattr(torch.compiler, "_is_exporting_flag", None)
    return torch.compiler.is_exporting() if flag is None else bool(flag)
