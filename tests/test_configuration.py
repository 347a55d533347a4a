"""Configurations: what is refused names the field, and what is accepted comes back from plain data."""

import math
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from botvision.configuration import Config, Count, CountOrZero, FieldError, NotNegative, Positive, Share, ShareBelow1


class Inner(Config):
    width: Count = 64
    """Channels."""
    workers: CountOrZero = 0
    """Processes."""
    lr: Positive = 0.1
    """Learning rate."""
    decay: NotNegative = 0.0
    """Weight decay."""
    flip: Share = 0.5
    """Probability."""
    momentum: ShareBelow1 = 0.9
    """Of SGD."""
    depths: tuple[Count, Count] = (1, 2)
    """Blocks."""
    ratios: Annotated[tuple[float, ...], Field(min_length=1)] = (1.0,)
    """Anchors."""
    norm: Literal["batch", "none"] = "batch"
    """Normalisation."""
    out: Path | None = None
    """Folder."""

    @model_validator(mode="after")
    def check_together(self) -> "Inner":
        """A check of two fields against each other."""
        if self.workers > self.width:
            raise ValueError(f"workers should be at most width, got {self.workers} and {self.width}")
        return self


class Middle(Config):
    inner: Inner = Inner()
    """Innermost."""


class Outer(Config):
    middle: Middle = Middle()
    """Nested."""
    name: str
    """Required."""


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("width", 0, "1"),
        ("width", 1.5, "whole"),
        ("width", "four", "whole"),
        ("width", None, "whole"),
        ("workers", -1, "0"),
        ("lr", 0, "0"),
        ("lr", math.inf, "finite"),
        ("lr", math.nan, "finite"),
        ("lr", "fast", "number"),
        ("decay", -1, "0"),
        ("flip", 1.5, "1"),
        ("momentum", 1, "1"),
        ("depths", (1, 0), "1"),
        ("ratios", (), "1"),
        ("norm", "layer", "'batch' or 'none'"),
    ],
)
def test_a_refused_value_names_field_limit_and_value(field, value, limit):
    with pytest.raises(FieldError) as caught:
        Outer(name="x", middle={"inner": {field: value}})
    assert caught.value.path == ("middle", "inner", field)
    assert str(caught.value).startswith(f"middle.inner.{field}: ")
    assert limit in caught.value.problem
    assert "\n" not in str(caught.value)
    if field != "ratios" and field != "depths":
        assert repr(value) in caught.value.problem


@pytest.mark.parametrize(("values", "path"), [({}, ("name",)), ({"name": "x", "widht": 3}, ("widht",))])
def test_missing_and_unknown_fields_are_named(values, path):
    with pytest.raises(FieldError) as caught:
        Outer(**values)
    assert caught.value.path == path


@pytest.mark.parametrize("build", [lambda: Inner(width=1, workers=2), lambda: Inner().replace(width=1, workers=2)])
def test_fields_that_do_not_go_together_are_both_named(build):
    with pytest.raises(FieldError) as caught:
        build()
    assert "workers" in str(caught.value)
    assert "width" in str(caught.value)


def test_a_configuration_cannot_be_changed_in_place():
    inner = Inner()
    with pytest.raises(ValueError, match="width"):
        inner.width = 3
    assert inner.replace(width=3).width == 3
    assert inner.width == 64


@given(
    width=st.integers(1, 10**6),
    lr=st.floats(1e-12, 1e6),
    flip=st.floats(0, 1),
    depths=st.tuples(st.integers(1, 99), st.integers(1, 99)),
    norm=st.sampled_from(["batch", "none"]),
    out=st.none() | st.sampled_from([Path("a/b"), Path("/c")]),
)
def test_plain_data_gives_the_configuration_back(width, lr, flip, depths, norm, out):
    outer = Outer(
        name="x", middle=Middle(inner=Inner(width=width, lr=lr, flip=flip, depths=depths, norm=norm, out=out))
    )
    assert Outer(**outer.plain()) == outer


@given(st.floats())
def test_a_share_is_between_0_and_1_and_nothing_else(value):
    if 0 <= value <= 1:
        assert Inner(flip=value).flip == value
    else:
        with pytest.raises(FieldError) as caught:
            Inner(flip=value)
        assert caught.value.path == ("flip",)
