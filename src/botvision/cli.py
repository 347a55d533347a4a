"""The command line: finds the command, runs it, leaves with its exit status.

What the user can mend ends with one line on standard error and exit status 2.
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from botvision.commands import COMMANDS, INTERRUPTED, find_command
from botvision.errors import UserError
from botvision.version import __version__

READER_GONE = 141
"""Exit status where nobody reads the output any more, as shells have it."""

USAGE = """\
botvision: Bottleneck Transformers for visual recognition

  botvision demo                                    the main job on generated data, on any machine
  botvision models [PATTERN]                        every model: parameters, multiply-adds, published beside ours
  botvision train EXPERIMENT [--field VALUE ...]    train (botvision train --help lists the experiments)
  botvision train --resume RUN                      go on with an interrupted run
  botvision eval RUN-or-CHECKPOINT --data DIR       COCO's numbers, or accuracy and calibration
  botvision predict RUN-or-CHECKPOINT IMAGE... --out DIR
  botvision attend RUN-or-CHECKPOINT-or-MODEL IMAGE --at X Y --out DIR
  botvision shards FOLDER --out DIR                 images of classes as WebDataset shards
  botvision bench attention                         the attention layer beside its peers
  botvision bench data [--data DIR]                 the input pipeline of classification beside torchvision's

--help after a command lists its options, --version prints the version, --debug shows tracebacks.
"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and leave with its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        try:
            status = run([word for word in words if word != "--debug"])
        finally:
            sys.stdout.flush()  # here, where a reader that has gone can still be answered
        sys.exit(status)
    except BrokenPipeError:  # as with `botvision models | head -1`: no error of anyone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own last flush
        sys.exit(READER_GONE)
    except (UserError, OSError) as error:  # the system's own errors name the file and what is wrong
        if debug:
            raise
        print(f"botvision: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("botvision: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def run(words: list[str]) -> int:
    """Find the command and run it."""
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        from botvision.models.catalogue import nearest  # here, because it imports PyTorch

        raise UserError(f"unknown command {words[0]!r}{nearest(words[0], list(COMMANDS))}")
    return find_command(words[0])(words[1:])
