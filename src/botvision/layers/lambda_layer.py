"""The lambda layer (Bello 2021, "LambdaNetworks: Modeling Long-Range Interactions Without Attention")."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from botvision.attention import adapt_relative_table
from botvision.configuration import FieldError
from botvision.layers.costs import KEY_WIDTH, WINDOW, lambda_products
from botvision.layers.tables import PositionTables


class LambdaLayer(PositionTables):
    """Each position gets a linear function, its lambda, made from the context, and applies it to its queries.

    With context positions m around the query position n, softmax of the keys over all positions, and batch norm on
    queries and values:

        lambda_n = sum_m softmax(k)_m v_m^T  +  sum_m E[m - n] v_m^T          (|k|, |v|), shared by the heads
        out_n    = lambda_n^T q_n for each head, concatenated                 (multi-query lambdas, |u| = 1)

    The first sum is over the whole map. With a ``window`` the second is over window x window positions around n, a
    convolution of the values ("lambda convolution"). Without one it is over the whole map, with E[dy, dx] =
    R_h[dy] + R_w[dx] split as in BoTNet, so that it takes one convolution of the sums over rows and one of the sums
    over columns; Bello's global embeddings are not split. The input can have any height and width: ``size`` is only
    the map that the tables R_h and R_w are made for.

    Args:
        channels: C, of input and output.
        heads: number of heads (paper: 4); the values have C / heads channels.
        window: side of the local context, odd; None for a global one.
        size: (H, W) of the map that the tables of the global context are made for; None with a window.
        norm: makes the normalisation of queries and values.

    Raises:
        UserError: ``heads`` does not divide ``channels``, or a global context without a size.

    Shape:
        input and output (B, C, H, W), the output in channels-last memory.
    """

    relates_all_positions = True

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        window: int | None = WINDOW,
        size: tuple[int, int] | None = None,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise FieldError(("heads",), f"should divide the channels, got {heads} heads and {channels} channels")
        self.heads = heads
        self.widths = [heads * KEY_WIDTH, KEY_WIDTH, channels // heads]
        self.qkv = nn.Conv2d(channels, sum(self.widths), kernel_size=1, bias=False)
        self.norm_q = norm(self.widths[0])
        self.norm_v = norm(self.widths[2])
        self.positions = None
        if window is not None:
            self.positions = nn.Conv2d(1, KEY_WIDTH, window, padding=window // 2, bias=False)
        elif size is None:
            raise FieldError(("size",), "is missing: a global context has position tables for a map size")
        else:
            self.add_tables(size, KEY_WIDTH)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw projections from N(0, 1/C) and position vectors from N(0, 1/|k|)."""
        nn.init.normal_(self.qkv.weight, std=self.qkv.in_channels**-0.5)
        for vectors in (*self.tables(), *(self.positions.parameters() if self.positions else ())):
            nn.init.normal_(vectors, std=KEY_WIDTH**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        size = x.shape[2:]
        queries, keys, values = self.qkv(x).split(self.widths, dim=1)
        queries = self.norm_q(queries).flatten(2).unflatten(1, (self.heads, KEY_WIDTH))
        values = self.norm_v(values)
        content = values.flatten(2) @ keys.flatten(2).softmax(dim=-1).transpose(1, 2)
        lambdas = self.position_lambdas(values).flatten(3) + content[..., None]  # (B, |v|, |k|, H * W)
        out = torch.einsum("bhkn,bvkn->bnhv", queries, lambdas)
        return out.flatten(2).unflatten(1, size).permute(0, 3, 1, 2)

    def position_lambdas(self, values: Tensor) -> Tensor:
        """The second sum at every position: values (B, |v|, H, W) -> (B, |v|, |k|, H, W)."""
        batch = values.shape[:2]
        planes = values.flatten(0, 1)[:, None]
        if self.positions is not None:
            return self.positions(planes).unflatten(0, batch)
        sums = (planes.sum(dim=3), planes.sum(dim=2))  # over the columns of each row, over the rows of each column
        kernels = [adapt_relative_table(t, line.shape[2]) for t, line in zip(self.tables(), sums, strict=True)]
        vertical, horizontal = (
            F.conv1d(line, kernel.T[:, None].to(line.dtype), padding=line.shape[2] - 1)
            for line, kernel in zip(sums, kernels, strict=True)
        )
        return (vertical[..., None] + horizontal[:, :, None]).unflatten(0, batch)

    def multiply_adds(self, height: int, width: int) -> int:
        """Multiply-adds on one map without the two convolutions inside, which are counted as such."""
        return lambda_products(self.heads, self.widths[2], (height, width), is_global=self.positions is None)

    def extra_repr(self) -> str:
        """What ``print(layer)`` shows beside its parts."""
        return f"heads={self.heads}, {'local' if self.positions else 'global'} context"
