"""For programs that run Triton's interpreter."""

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle


def multiply_bfloat16_in_the_interpreter() -> None:
    """Triton's interpreter (3.9) multiplies the bit patterns of bfloat16 matrices, as whole numbers."""
    create_dot = InterpreterBuilder.create_dot

    def as_float(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    InterpreterBuilder.create_dot = lambda self, a, b, *rest: create_dot(self, as_float(a), as_float(b), *rest)
