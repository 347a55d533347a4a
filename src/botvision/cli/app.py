"""The program ``botvision``: finds the command, runs it, and turns errors into one line and an exit status.

``--help``, ``--version`` and an unknown command import neither PyTorch nor the library that parses flags.
"""

import logging
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn

from botvision.errors import UserError, nearest
from botvision.version import __version__

if TYPE_CHECKING:
    from cyclopts import App

REFUSED = 2
"""Exit status after an error that the user can fix."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells."""
TRY_AGAIN = 75
"""Exit status where a scheduler's signal stopped a run, or a process of it was lost: EX_TEMPFAIL of sysexits.h, "try
again later". No shell, no Python and no signal ends with it, so that a scheduler can be told to start such jobs again
(SLURM's RequeueExit)."""
READER_GONE = 141
"""Exit status where nobody reads the output any more (SIGPIPE), as in shells."""

COMMANDS = {
    "demo": ("demo:demo", "[--out DIR]", "the main job on generated data, on any machine"),
    "models": ("models:models", "[PATTERN]", "every model: parameters, multiply-adds, the paper's figures beside ours"),
    "data": ("data:data", "{check,convert,split} ...", "look at annotated images as a whole, convert and split them"),
    "train": ("train:train", "EXPERIMENT [--field VALUE ...]", "train; without words, list the experiments"),
    "eval": ("eval:evaluate", "RUN-or-CHECKPOINT --data DIR", "COCO's numbers, or accuracy and calibration"),
    "predict": ("predict:predict", "RUN-or-CHECKPOINT IMAGE... --out DIR", "results as JSON, and pictures"),
    "attend": ("attend:attend", "RUN-or-CHECKPOINT-or-MODEL IMAGE --at X Y --out DIR", "where points attend"),
    "serve": ("serve:serve", "RUN-or-CHECKPOINT [--port N]", "a page to try a model and look into its attention"),
    "export": ("export:export", "RUN-or-CHECKPOINT --format {onnx,torch}", "a file that runs without botvision"),
    "paper": ("paper:paper", "[TABLE] [--runs DIR]", "the paper's tables: published, measured here, not run, commands"),
    "report": ("report:report", "RUN... [--out FILE]", "one page about an evaluation, or about several"),
    "shards": ("shards:shards", "FOLDER --out DIR", "images of classes as WebDataset shards"),
    "bench": (
        "bench:bench",
        "{attention,step,inference,pareto,growth,detector,data,scale,evaluation,blocks}",
        "time and memory beside others",
    ),
}
"""For each command its function in this folder (loaded when it is needed), its arguments, and what it is for."""

USAGE = "\n".join(
    [
        "botvision: Bottleneck Transformers (BoTNet) for visual recognition\n",
        *(f"  botvision {name} {words}\n      {purpose}" for name, (_, words, purpose) in COMMANDS.items()),
        "  botvision paper context [--out DIR]\n      the paper's claim about far-apart things, on a processor",
        "  botvision train --resume RUN [--steps N]\n      continue an interrupted run, or make a run longer; so does"
        " the command that began it",
        "  botvision --install-completion\n      completion of commands and options in bash, zsh or fish",
        "\nhelp COMMAND lists its options, --version prints the version, --debug shows tracebacks.",
    ]
)


class PlainLines(logging.Formatter):
    """Log records as plain lines; one about a field names the field's flag."""

    def format(self, record: logging.LogRecord) -> str:
        """The message of a record."""
        from botvision.cli.messages import message_of  # here, because it imports pydantic

        return (isinstance(record.msg, Exception) and message_of(record.msg)) or super().format(record)


def show_log() -> None:
    """Show what the package logs, and the warnings of other packages, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainLines())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("botvision").setLevel(logging.INFO)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and leave with its exit status."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of PyTorch's parts in C++, which each process would warn of
    show_log()
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    if isinstance(sys.stdout, TextIOWrapper):  # file and class names may have letters that the terminal has not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            status = run([word for word in words if word != "--debug"])
        finally:
            sys.stdout.flush()  # here, where a closed pipe can still be handled
        sys.exit(status)
    except BrokenPipeError:  # for example `botvision models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own last flush
        sys.exit(READER_GONE)
    except KeyboardInterrupt:
        print("botvision: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        from botvision.cli.messages import message_of  # here, because it imports pydantic

        message = message_of(error)
        told, status = last_words(error, message)
        if debug or message is None:
            raise
        if told:
            print(f"botvision: {told}", file=sys.stderr)
        sys.exit(status)


def last_words(error: Exception, message: str | None) -> tuple[str | None, int]:
    """What this process prints of an error, nothing where another one does, and its exit status.

    The other processes of a run get to know of the error.
    """
    if "torch" not in sys.modules:  # the command does not exist, or the like
        return message, REFUSED
    from botvision.cli.messages import is_lost_process
    from botvision.device import first_process  # here, because they import PyTorch
    from botvision.training.farewell import failure_elsewhere, tell_failure
    from botvision.training.sharing import is_told_by_first

    is_first = first_process()
    if not is_lost_process(error):
        is_told = is_told_by_first(error)
        tell_failure(error, message or type(error).__name__)
        return (message if is_first or not is_told else None), REFUSED
    failed = failure_elsewhere()
    if failed is None:
        return message, TRY_AGAIN
    return (f"another process of the run has ended: {failed}" if is_first else None), REFUSED


def run(words: list[str]) -> int:
    """Find the command and run it; gives its exit status.

    Raises:
        UserError: an unknown command.
    """
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
    elif words[0] == "--version":
        print(__version__)
    elif words[0] in (*COMMANDS, "--install-completion", "__complete"):
        return make_app(for_completion=words[0] == "--install-completion")(words) or 0
    else:
        raise UserError(f"unknown command {words[0]!r}{nearest(words[0], list(COMMANDS))}")
    return 0


def make_app(for_completion: bool = False) -> "App":
    """The commands; each is imported only when it runs.

    ``for_completion`` gives train, which otherwise parses its own flags, those of all experiments.
    """
    from cyclopts import App

    from botvision.cli.examples import examples, has_parts
    from botvision.cli.settings import APP_SETTINGS

    app = App(name="botvision", version=__version__, **APP_SETTINGS)
    for name, (function, _, _) in COMMANDS.items():
        function = "train_completion:train" if for_completion and name == "train" else function
        settings: dict[str, Any] = {} if has_parts(name) else {"help_epilogue": examples(name)}
        if name == "train":  # answers --help itself, because the help depends on the experiment
            settings["help_flags"] = ()
        app.command(f"botvision.cli.{function}", name=name, **settings)
    app.register_install_completion_command()
    return app
