"""`botvision data`: check."""

from typing import Any

from cyclopts import App

from botvision.cli.app import REFUSED
from botvision.cli.fields import flags, with_flags
from botvision.cli.output import image_progress, print_results, say
from botvision.tasks.checked import CheckOptions, check_tables, write_check
from botvision.tasks.registry import task_of_data

data = App(name="data", help="Look at data sets.")


def check(folder: str, /, *, json: bool = False, **given: Any) -> int:  # noqa: ANN401 (of CheckOptions)
    """Look at a whole data set, objects or classes, and report all that training would refuse, leave out or change.

    Every image is read. The exit status is 2 if training would refuse the data, else 0.

    Args:
        folder: A folder that train takes as --data.
        json: Print JSON.
    """
    options = CheckOptions(**given)
    with image_progress("checking") as on_image:
        checked = task_of_data(folder).check_data(folder, options, on_image)
    print_results(checked.plain(), check_tables(checked), as_json=json)
    if options.out:
        write_check(options.out, checked)
        say(f"written to {options.out}")
    return REFUSED if checked.findings.refused else 0


data.command(with_flags(check, flags(CheckOptions, "Check")))
