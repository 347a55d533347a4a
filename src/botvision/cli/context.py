"""`botvision paper context`."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from botvision.cli.fields import flag_of, flags, with_flags
from botvision.cli.output import print_results, stderr
from botvision.configuration import Count, FieldError
from botvision.device import pick_device
from botvision.errors import nearest
from botvision.experiments.context import COLUMNS, ROWS, ContextRecipe, Results
from botvision.progress import Reporter


def context(
    *,
    out: Path = Path("runs/context"),
    rows: tuple[str, ...] = tuple(ROWS),
    columns: tuple[str, ...] = tuple(COLUMNS),
    seeds: Count = 3,
    jobs: Count = 2,
    device: Literal["auto", "cpu", "cuda"] = "cpu",
    json: bool = False,
    markdown: bool = False,
    **given: Any,  # noqa: ANN401 (of ContextRecipe)
) -> int:
    """Train small networks on generated scenes whose classes are decided far away, and show what they reach.

    What is in the folder already is not trained again, so that the same call goes on with an interrupted table. The
    folder gets results.json, README.md and context.png, and the data and runs of the detectors.

    Args:
        out: Folder of the results.
        rows: The networks to train.
        columns: The kinds of scenes, and detect for the detectors.
        seeds: Trainings of each.
        jobs: Trainings at a time, each on one processor core, or all on one GPU.
        device: cpu; cuda, where a training takes seconds; or auto, a GPU where there is one.
        json: Print the table as JSON.
        markdown: Print it as Markdown.
    """
    from botvision.experiments.context_report import in_markdown, in_text, plain, write_report
    from botvision.experiments.context_runs import cells_of, run_context

    check_known("rows", rows, ROWS)
    check_known("columns", columns, COLUMNS)
    if json and markdown:
        raise FieldError(("markdown",), "and --json are two formats; choose one")
    results = Results(out / "results.json", ContextRecipe(**given))
    results.read()
    with Reporter(stderr()) as reporter:
        run_context(
            results,
            cells_of(rows, columns, seeds),
            jobs,
            pick_device(device),
            lambda done, total: reporter.show("training", done, total),
        )
    recipe = (word for name, value in given.items() for word in (flag_of(name), str(value)))
    command = shlex.join(["botvision", "paper", "context", "--out", str(out), "--seeds", str(seeds), *recipe])
    write_report(results, command)
    print_results(plain(results), in_markdown(results, command) if markdown else in_text(results), as_json=json)
    return 0


with_flags(context, flags(ContextRecipe, "Recipe", ContextRecipe()))


def check_known(field: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name that is not known."""
    for name in names:
        if name not in known:
            raise FieldError((field,), f"{name!r} is unknown{nearest(name, list(known))}")
