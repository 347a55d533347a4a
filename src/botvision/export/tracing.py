"""From a model to a program of ``torch.export`` with open batch, height and width."""

import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from botvision.tasks.exportable import Exportable

MOST_IMAGES = 1024
"""Of a batch."""
MOST_SIDE = 8192
"""Of open height and width, in pixels."""
OPEN_SIZES = (2, 13)
"""The first PyTorch that exports a pooling of any size."""


def why_fixed(exportable: Exportable) -> str | None:
    """Why height and width cannot stay open, or None where they can."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < OPEN_SIZES:
        return "PyTorch before 2.13 exports poolings of one size alone"
    least = exportable.least_side
    return f"images are smaller than {least} pixels" if exportable.input_size < least else None


def traced(exportable: Exportable, program: nn.Module, image: Tensor) -> ExportedProgram:
    """The program as a graph of PyTorch's operators.

    Args:
        exportable: the model.
        program: what is traced, with the inputs of ``exportable.program``.
        image: as photographs are; its size is that of the program's images where :func:`why_fixed` gives a reason. Its
            pixels stay out of the program, which keeps what it was traced with.
    """
    dims = {"batch": Dim("batch", min=1, max=MOST_IMAGES)}
    if why_fixed(exportable) is None:
        dims |= {name: Dim(name, min=exportable.least_side, max=MOST_SIDE) for name in ("height", "width")}
    shapes = tuple(
        {axis: dims[name] for axis, name in axes.items() if name in dims} for axes in exportable.axes.values()
    )
    inputs = tuple(torch.cat([tensor, tensor]) for tensor in exportable.inputs(torch.zeros_like(image)))
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        found = torch.export.export(program, inputs, dynamic_shapes=shapes, strict=False)
    for module in found.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # it has paths of this machine
    return found
