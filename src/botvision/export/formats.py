"""The formats: each writes a program with its metadata, and opens such a file."""

import json
import logging
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.export import ExportedProgram

from botvision.attention.choose import backend
from botvision.errors import UserError
from botvision.tasks.detection.suppression import as_one_operator
from botvision.tasks.exportable import Exportable, Tensors

METADATA_KEY = "botvision"
"""Of ONNX's metadata properties, and of the package's extra files, with ".json" there."""


class Format(ABC):
    """A kind of file."""

    suffix: ClassVar[str]

    @abstractmethod
    def check_installed(self) -> None:
        """Raise a UserError that says what to install, where something is missing."""

    @abstractmethod
    def operators(self) -> AbstractContextManager[None]:
        """The context to trace a program in: by which operators attention and suppression are computed."""

    @abstractmethod
    def write(self, program: ExportedProgram, exportable: Exportable, path: Path) -> None:
        """Write the file."""

    @abstractmethod
    def open(self, path: Path) -> Callable[..., Tensors]:
        """What the file computes, from tensors to a dictionary of tensors."""


class OnnxFormat(Format):
    """ONNX by PyTorch's exporter, computed by onnxruntime."""

    suffix = ".onnx"

    def check_installed(self) -> None:
        """It needs the extra "onnx"."""
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise UserError(f"format onnx needs {error.name}: pip install 'botvision[onnx]'") from error

    @contextmanager
    def operators(self) -> Iterator[None]:
        """Our own, which ``onnx_operators`` translates."""
        with backend("blocks"), as_one_operator():
            yield

    def write(self, program: ExportedProgram, exportable: Exportable, path: Path) -> None:
        """One file, weights included."""
        from botvision.export.onnx_operators import attention, sorted_stably, suppressed

        ours = torch.ops.botvision
        translations: dict[Any, Any] = {
            ours.attention.default: attention,
            ours.suppressed.default: suppressed,
            torch.ops.aten.sort.stable: sorted_stably,
        }
        with quiet("onnxscript", "onnx_ir", "torch.onnx"):
            try:
                found = torch.onnx.export(
                    program,
                    (),
                    dynamo=True,
                    verbose=False,
                    input_names=list(exportable.axes),
                    output_names=list(exportable.outputs),
                    custom_translation_table=translations,
                )
            except torch.onnx.OnnxExporterError as error:
                versions = f"torch {torch.__version__} and onnxscript {version('onnxscript')}"
                raise UserError(f"{versions} cannot write this model as ONNX; newer ones may") from error
        assert found is not None  # as it always is with dynamo=True
        name_dimensions(found.model, exportable.axes)
        for node in found.model.graph.all_nodes():
            node.metadata_props.clear()  # where PyTorch had each node from, with paths of this machine
        found.model.metadata_props[METADATA_KEY] = json.dumps(exportable.metadata)
        found.save(path, external_data=False)

    def open(self, path: Path) -> Callable[..., Tensors]:
        """A session of onnxruntime on the processor."""
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would slow PyTorch's
        session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        outputs = [value.name for value in session.get_outputs()]

        def run(*inputs: Tensor) -> Tensors:
            given = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
            return dict(zip(outputs, map(torch.from_numpy, session.run(outputs, given)), strict=True))

        return run


class TorchFormat(Format):
    """A package of ``torch.export``."""

    suffix = ".pt2"

    def check_installed(self) -> None:
        """PyTorch is there."""

    def operators(self) -> AbstractContextManager[None]:
        """PyTorch's and torchvision's own: the package runs where botvision is not installed."""
        return backend("folded")

    def write(self, program: ExportedProgram, exportable: Exportable, path: Path) -> None:
        """One file, weights included."""
        content = BytesIO()  # PyTorch's own writing to a file ends the process where the disk is full
        with quiet("torch.export"):
            torch.export.save(program, content, extra_files={f"{METADATA_KEY}.json": json.dumps(exportable.metadata)})
        path.write_bytes(content.getbuffer())

    def open(self, path: Path) -> Callable[..., Tensors]:
        """The program on the processor."""
        return torch.export.load(path).module()


FORMATS: dict[str, Format] = {"onnx": OnnxFormat(), "torch": TorchFormat()}
"""By the names that ``botvision export --format`` takes."""


def name_dimensions(model: Any, axes: dict[str, dict[int, str]]) -> None:  # noqa: ANN401 (onnx_ir's, an extra)
    """Give the open dimensions of inputs and outputs their names; the exporter calls them s34 and the like."""
    names = {str(value.shape[axis]): name for value in model.graph.inputs for axis, name in axes[value.name].items()}
    words = re.compile(r"\b(" + "|".join(names) + r")\b")
    for value in (*model.graph.inputs, *model.graph.outputs):
        shape = [
            size if isinstance(size, int) else words.sub(lambda word: names[word[1]], str(size)) for size in value.shape
        ]
        value.shape = type(value.shape)(shape)


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Hide warnings, and what other packages log below an error."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
