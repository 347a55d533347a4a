"""The named models: entries of one table, and ``create_model`` that builds any of them."""

import difflib
from dataclasses import dataclass, replace
from typing import Any

from botvision.models.config import NetworkConfig
from botvision.models.network import Network


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue: the network, and what the paper publishes of it."""

    config: NetworkConfig
    counted_at: int
    """Image height and width, in pixels, at which the paper counts it."""
    published_params: float | None = None
    """Million parameters, as printed."""
    published_madds: float | None = None
    """Billion multiply-adds of one image, as printed."""
    source: str = ""
    """Where the figures are printed."""


R50 = (3, 4, 6, 3)

CATALOGUE: dict[str, Entry] = {
    "resnet50": Entry(NetworkConfig(R50), 1024, 25.5, 85.4, "Table 1"),
    "botnet50": Entry(NetworkConfig(R50, attention_in=("c5",)), 1024, 20.8, 102.98, "Table 1"),
}


def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    features_only: bool = False,
    **overrides: Any,  # noqa: ANN401
) -> Network:
    """Build a named model with random weights.

    Args:
        name: an entry of the catalogue, such as "botnet50".
        num_classes: width of the classifier; 0 gives pooled features (B, 32 * width).
        features_only: give the maps [c2, c3, c4, c5] of strides 4, 8, 16, 32 instead of logits.
        overrides: fields of :class:`~botvision.models.config.NetworkConfig`, such as ``input_size=640``,
            ``depths=(1, 1, 1, 1)`` or ``width=32``.

    Returns:
        A module from normalised images (B, 3, H, W), any H and W, to logits (B, num_classes) or the four maps.

    Raises:
        ValueError: unknown name (the nearest ones are named), unknown field, or a value that cannot be built.
    """
    return Network(model_config(name, **overrides), num_classes=num_classes, features_only=features_only)


def model_config(name: str, **overrides: Any) -> NetworkConfig:  # noqa: ANN401
    """The configuration of a named model with some fields replaced; errors as in :func:`create_model`."""
    if name not in CATALOGUE:
        raise ValueError(f"unknown model {name!r}{nearest(name, list(CATALOGUE))}")
    fields = NetworkConfig.__dataclass_fields__
    for field in overrides:
        if field not in fields:
            raise ValueError(f"unknown model field {field!r}{nearest(field, list(fields))}")
    return replace(CATALOGUE[name].config, **overrides)


def nearest(word: str, known: list[str]) -> str:
    """The end of an error message: the known words that look most like ``word``, or all where none does."""
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.4) or sorted(known)
    return f"; did you mean {' or '.join(close)}?" if len(close) <= 3 else f"; known: {', '.join(close)}"
