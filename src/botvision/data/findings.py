"""What is wrong with a data set, all of it: `botvision data check` collects what training stops at or passes over."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from botvision.errors import SeveralErrors, UserError, printable

Effect = Literal["refused", "left out", "changed", "noted"]
"""What follows in training: it is refused; the thing is left out; it is repaired; or nothing, but look at it."""
EFFECTS: tuple[Effect, ...] = get_args(Effect)
MOST, MOST_REFUSED = 20, 1000
"""Findings of a kind that are kept; the others are counted. What training stops at has to be mended one by one."""
OF_AN_IMAGE = "annotations of an image cannot be read"
FIELD = re.compile(r"'(\w+)'")
LEADING_NAMES, CLAUSE_END = re.compile(r"^(%s([:;,] |$))+"), re.compile(r"[:;,] ")
COUNT, OTHER = re.compile("%d "), re.compile("%[a-z]")
"""In the forms of warnings."""


class Finding(NamedTuple):
    """One thing that was found."""

    file: str
    record: str
    """Such as "annotations[3] (id 7)"; empty where it is about the whole file."""
    problem: str
    """What is wrong, and what would be right."""

    def __str__(self) -> str:
        """In one line."""
        return ": ".join(part for part in self if part)


class Findings:
    """Findings by what follows from them and by their kind; of each kind the first ones are kept and all are counted.

    Attributes:
        counts: how many there are, by effect and kind.
        first: the first of them, `MOST` or `MOST_REFUSED`.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[Effect, str]] = Counter()
        self.first: dict[tuple[Effect, str], list[Finding]] = {}
        self._refused_ids: set[tuple[str, object]] = set()
        self._errors: set[str] = set()

    def add(
        self, effect: Effect, kind: str, file: Path | str, problem: str, record: str = "", *, count: int = 1
    ) -> None:
        """Take in a finding, or one that stands for `count` of its kind."""
        self.counts[effect, kind] += count
        kept = self.first.setdefault((effect, kind), [])
        if len(kept) < (MOST_REFUSED if effect == "refused" else MOST):
            kept.append(Finding(printable(str(file)), printable(record), printable(problem)))

    def refuse_record(self, file: Path, key: str, identity: object, record: str, problem: str) -> None:
        """Take in a record of an annotation file that cannot be read; its kind is the field that is wrong."""
        field = FIELD.search(problem)
        self.add("refused", f"{key}, field '{field[1]}'" if field else f"{key}: record", file, problem, record)
        if isinstance(identity, int | str):
            self._refused_ids.add((key, identity))

    def has_refused(self, key: str, identity: object) -> bool:
        """Whether the record of this id is one that cannot be read."""
        return isinstance(identity, int | str) and (key, identity) in self._refused_ids

    def refuse(self, error: UserError, kind: str) -> None:
        """Take in an error at which training stops, once; its message names the file.

        Of one that stands for several files, each of them is a finding.
        """
        for problem in error.problems if isinstance(error, SeveralErrors) else [error]:
            if str(problem) not in self._errors:
                self._errors.add(str(problem))
                self.add("refused", OF_AN_IMAGE if problem is not error else kind, "", str(problem))

    @property
    def refused(self) -> int:
        """How many things training stops at."""
        return sum(count for (effect, _), count in self.counts.items() if effect == "refused")

    def plain(self) -> list[dict[str, Any]]:
        """For JSON: of each kind its effect, count and first findings; what training stops at comes first."""
        kinds = sorted(self.counts, key=lambda key: EFFECTS.index(key[0]))
        return [
            {
                "effect": effect,
                "kind": kind,
                "count": self.counts[effect, kind],
                "first": [finding._asdict() for finding in self.first[effect, kind]],
            }
            for effect, kind in kinds
        ]


class WarningsAsFindings(logging.Handler):
    """Takes in what the package warns of."""

    def __init__(self, findings: Findings) -> None:
        super().__init__(logging.WARNING)
        self.findings = findings
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Add the warning, once, as the splits of a data set are read one after the other; the form is its kind."""
        if (text := record.getMessage()) not in self._seen:
            self._seen.add(text)
            self.findings.add("noted", kind_of(str(record.msg)), "", text)


def kind_of(form: str) -> str:
    """The first words of a form such as "%s: left out %d images, such as %s": "left out images"."""
    words = LEADING_NAMES.sub("", form)
    return OTHER.sub("...", COUNT.sub("", CLAUSE_END.split(words)[0])).strip() or "warning"


@contextmanager
def warnings_noted(findings: Findings) -> Iterator[None]:
    """Make findings of the package's warnings instead of showing them."""
    logger, handler = logging.getLogger("botvision"), WarningsAsFindings(findings)
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)
