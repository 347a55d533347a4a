"""Trained models as files that run without botvision: ONNX, and packages of ``torch.export``."""

from botvision.export.formats import FORMATS
from botvision.export.writing import Export, export_model

__all__ = ["FORMATS", "Export", "export_model"]
