"""A trained model on the Hugging Face Hub. Needs the package huggingface-hub."""

from typing import Any

from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import nn

from botvision.tasks.model_card import TAGS
from botvision.tasks.registry import task_named

PAPER = "https://arxiv.org/abs/2101.11605"


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="botvision", tags=TAGS, paper_url=PAPER):
    """The module that the hub stores: a model with random weights from its description, what a checkpoint says of it.

    Args:
        task: its task's name.
        version: of botvision that wrote the description.
        model: the model as data.
        labels: what its outputs stand for.
    """

    def __init__(self, task: str, version: str, model: dict[str, Any], **labels: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.model, _ = task_named(task).build({"version": version, "model": model, **labels})

    def generate_model_card(self, text: str = "", **others: Any) -> ModelCard:  # noqa: ANN401
        """The card of :func:`~botvision.tasks.model_card.model_card`; without it the hub's own."""
        return ModelCard(text) if text else super().generate_model_card(**others)
