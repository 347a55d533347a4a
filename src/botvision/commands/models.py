"""`botvision models`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from botvision.errors import UserError
from botvision.flags import parse
from botvision.models.summary import render_models, render_tree, summarize, tree
from botvision.training.config import at_least


@dataclass
class ModelsArguments:
    """Every model: parameters and multiply-adds, published beside ours."""

    pattern: Positional[str | None] = None
    """A name, a part of one, or one with wildcards such as 'botnet_t*'; all by default."""
    tree: bool = False
    """Show what one model is made of, stage by stage."""
    input_size: int | None = None
    """Image height and width for --tree, in pixels; the model's own by default."""
    json: bool = False
    """Print as JSON."""


def models(argv: Sequence[str]) -> int:
    """`botvision models [PATTERN]`."""
    arguments = parse(ModelsArguments, "models", argv)
    if arguments.tree and not arguments.pattern:
        raise UserError("--tree needs one model: botvision models botnet50 --tree")
    if arguments.input_size is not None and not arguments.tree:
        raise UserError("--input-size needs --tree: botvision models botnet50 --tree --input-size 512")
    at_least(1, {"--input-size": arguments.input_size})
    if arguments.tree:
        rows: list[Any] = list(tree(arguments.pattern, arguments.input_size))
        table = render_tree(rows)
    else:
        rows = list(summarize(arguments.pattern))
        table = render_models(rows)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        Console().print(table)
    return 0
