"""The activations of networks, in place where that saves memory."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SiLU(nn.SiLU):
    """``nn.SiLU``, which with ``inplace`` works in place only where no gradient is asked for.

    Its gradient needs its input. So PyTorch first copies what it overwrites: no memory is saved, and the copy is one
    more pass over the map. ReLU's gradient needs only the result.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        return F.silu(x, inplace=self.inplace and not needs_gradient)
