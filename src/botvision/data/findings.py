"""What is wrong with a data set, all of it: `botvision data check` collects what training stops at or passes over."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from botvision.errors import UserError, printable

Effect = Literal["refused", "left out", "changed", "noted"]
"""What follows in training: it is refused; the thing is left out; it is repaired; or nothing, but look at it."""
EFFECTS: tuple[Effect, ...] = get_args(Effect)
MOST = 20
"""Findings of a kind that are kept; the others are counted."""
FIELD = re.compile(r"'(\w+)'")


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
        first: the first `MOST` of them.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[Effect, str]] = Counter()
        self.first: dict[tuple[Effect, str], list[Finding]] = {}
        self._refused_ids: set[tuple[str, object]] = set()

    def add(
        self, effect: Effect, kind: str, file: Path | str, problem: str, record: str = "", *, count: int = 1
    ) -> None:
        """Take in a finding, or one that stands for `count` of its kind."""
        self.counts[effect, kind] += count
        kept = self.first.setdefault((effect, kind), [])
        if len(kept) < MOST:
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
        """Take in an error at which training stops; its message names the file."""
        self.add("refused", kind, "", str(error))

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

    def emit(self, record: logging.LogRecord) -> None:
        """Add the warning; those of one form are of one kind."""
        kind = str(record.msg).replace("%s: ", "").replace("%s", "...").replace("%d", "...").strip()
        self.findings.add("noted", kind, "", record.getMessage())


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
