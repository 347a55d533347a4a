"""The cost of every model beside the published one, and the stages of a model as in Table 1; without PyTorch."""

from dataclasses import dataclass
from itertools import chain, groupby

from rich import box
from rich.table import Table

from botvision.errors import UserError, nearest
from botvision.layers.costs import shrink
from botvision.models.catalogue import CATALOGUE, Published, list_models, model_config
from botvision.models.config import STAGES
from botvision.models.stages import network_cost, stage_blocks

CLASSES = 1000
"""Of the classifier that is counted."""


@dataclass(frozen=True)
class ModelSummary:
    """One model at one image size."""

    name: str
    input_size: int
    """Image height and width, in pixels."""
    params: int
    """Learned values, with a classifier of 1000 classes."""
    madds: int
    """Multiply-adds of one image."""
    published_params: float | None
    """Million, as the paper prints them."""
    published_madds: float | None
    """Billion, as the paper prints them."""
    source: str
    """Where the paper prints them."""
    why: str
    """Why ours and the paper's differ; empty where they agree."""


@dataclass(frozen=True)
class StageSummary:
    """One line of Table 1: of a stage (c1 to c5, or "head"), so many blocks with the same layers."""

    stage: str
    height: int
    width: int
    """Of the stage's output, in positions."""
    channels: int
    layers: tuple[str, ...]
    """Of one block, or of the stage itself where it has no blocks."""
    blocks: int


def summarize(pattern: str | None = None) -> list[ModelSummary]:
    """Count the catalogue's models at each size that the paper publishes, or at their own where it publishes none.

    Args:
        pattern: a name, a part of one, or one with wildcards such as ``botnet_t*``; None for all.

    Raises:
        UserError: no model has such a name.
    """
    names = list_models(pattern or "")
    if not names:
        raise UserError(f"no model matches {pattern!r}{nearest(pattern or '', list(CATALOGUE))}")
    rows = []
    for name in names:
        entry = CATALOGUE[name]
        for paper in entry.published or (Published(entry.input_size, None, None, source=""),):
            cost = network_cost(entry.config, paper.input_size, paper.input_size, CLASSES)
            published = (paper.params, paper.madds, paper.source, paper.why)
            rows.append(ModelSummary(name, paper.input_size, cost.parameters, cost.multiply_adds, *published))
    return rows


def tree(name: str, input_size: int | None = None) -> list[StageSummary]:
    """The stages of a model with the sizes of their outputs, as Table 1 prints them.

    Args:
        name: an entry of the catalogue.
        input_size: image height and width, in pixels; the size of its first published figure by default.

    Raises:
        UserError: unknown name.
    """
    config = model_config(name)
    side = input_size or CATALOGUE[name].input_size
    size = shrink((side, side), 2)
    stages = [StageSummary("c1", *size, config.width, (f"7x7, {config.width}, stride 2",), 1)]
    size = shrink(size, 2)
    stages.append(StageSummary("c2", *size, config.width, ("3x3 max pool, stride 2",), 1))
    for stage, channels, stride, blocks in zip(
        STAGES, config.channels, config.strides, stage_blocks(config), strict=True
    ):
        size = shrink(size, stride)
        for layers, group in groupby(block.shape.description for block in blocks):
            stages.append(StageSummary(stage, *size, channels, layers, len(list(group))))
    head = ("global average pool", f"fully connected, {CLASSES}")
    return [*stages, StageSummary("head", 1, 1, CLASSES, head, 1)]


def render_models(summaries: list[ModelSummary]) -> Table:
    """The models as a table for a terminal: ours beside the paper's, and the reasons as its caption."""
    title = "Models: parameters (million) and multiply-adds (billion), each with the paper's"
    table = Table(title=title, caption_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in ("model", "input", "params", "paper", "madds", "paper", "source"):
        is_text = heading in ("model", "source")
        # Of a table that is too wide for the terminal, the source alone is broken into lines.
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=heading != "source")
    reasons = list(dict.fromkeys(row.why for row in summaries if row.why))
    for row in summaries:
        mark = f" [{reasons.index(row.why) + 1}]" if row.why else ""
        counts = (f"{row.params / 1e6:.2f}", f"{row.madds / 1e9:.2f}")
        paper = ("" if figure is None else f"{figure:g}" for figure in (row.published_params, row.published_madds))
        pairs = chain(*zip(counts, paper, strict=True))
        table.add_row(row.name, str(row.input_size), *pairs, row.source + mark)
    table.caption = "\n".join(f"[{number}] {reason}" for number, reason in enumerate(reasons, start=1))
    return table


def render_tree(stages: list[StageSummary]) -> Table:
    """The stages of a model as a table for a terminal."""
    table = Table("stage", "output", "channels", "layers", "blocks")
    for name, rows in groupby(stages, key=lambda stage: stage.stage):
        for number, row in enumerate(rows):
            output = f"{row.height}x{row.width}"
            first = (name, output) if number == 0 else ("", "")
            table.add_row(*first, str(row.channels), "\n".join(row.layers), f"x {row.blocks}")
        table.add_section()
    return table
