"""`botvision report`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from botvision.cli.output import say
from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.tasks.registry import task_named


def report(runs: Annotated[tuple[Path, ...], Field(min_length=1)], /, *, out: Path | None = None) -> int:
    """Write one page about an evaluation, or about several beside each other: a file for any browser, without network.

    Args:
        runs: Run folders that were evaluated, or folders that botvision eval wrote.
        out: The file to write; report.html in the run folder by default, or here where there are several runs.
    """
    from botvision.tasks.evaluated import METRICS, PAGE, read_evaluated

    found = [read_evaluated(run) for run in runs]
    names = [run.name for run in found]
    found = [
        run._replace(name=str(path)) if names.count(run.name) > 1 else run
        for run, path in zip(found, runs, strict=True)
    ]
    tasks = {run.analysis["task"] for run in found}
    if len(tasks) > 1:
        raise UserError(f"the runs are of different tasks ({', '.join(sorted(tasks))}); give those of one task")
    path = out or (runs[0] / PAGE if len(runs) == 1 else Path(PAGE))
    try:
        task_named(tasks.pop()).write_report(path, found)
    except (FieldError, LookupError, TypeError) as error:
        raise UserError(
            f"{', '.join(map(str, runs))}: the files of an evaluation are damaged or of another version ({error}); "
            "evaluate again: botvision eval"
        ) from error
    say(f"written to {path}")
    for file in (file for run in runs for file in sorted(run.glob(f"eval/*/{METRICS}"))):
        say(f"{file.parent} has an evaluation of its own, which is not on the page: botvision report {file.parent}")
    return 0
