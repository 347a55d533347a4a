"""`botvision models`."""

from dataclasses import asdict
from typing import Any

from botvision.cli.output import print_results
from botvision.configuration import Count, FieldError
from botvision.models.summary import render_models, render_tree, summarize
from botvision.models.summary import tree as stages_of


def models(
    pattern: str | None = None, /, *, tree: bool = False, input_size: Count | None = None, json: bool = False
) -> int:
    """List every model: parameters and multiply-adds, the paper's figures beside ours.

    Args:
        pattern: A name, a part of one, or one with wildcards such as 'botnet_t*'; all by default.
        tree: Show what one model is made of, stage by stage.
        input_size: Image height and width for --tree, in pixels; the model's own by default.
        json: Print as JSON.
    """
    if tree and not pattern:
        raise FieldError(("tree",), "needs one model: botvision models botnet50 --tree")
    if input_size is not None and not tree:
        raise FieldError(("input_size",), "needs --tree: botvision models botnet50 --tree --input-size 512")
    rows: list[Any] = list(stages_of(pattern, input_size)) if tree and pattern else list(summarize(pattern))
    print_results([asdict(row) for row in rows], [render_tree(rows) if tree else render_models(rows)], as_json=json)
    return 0
