"""Records of a JSON file, checked one by one; what is wrong names the file, the record and the field."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from botvision.data.findings import Findings
from botvision.errors import UserError, short

LONGEST_NAME = 1000
Id = int | str
T = TypeVar("T")


def load_json(file: Path) -> dict:
    """The object in a JSON file in UTF-8.

    Raises:
        UserError: it cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{file}: not valid JSON at line {error.lineno} column {error.colno} (character {error.pos}): {error.msg}; "
            "the file may be cut off, copy it again"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not text at byte {error.start}; an annotation file is JSON in UTF-8") from error
    except (RecursionError, ValueError) as error:  # the second of a number of thousands of digits
        raise UserError(f"{file}: holds lists inside lists, or a number, too long to be of an annotation") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: must be a JSON object with 'images', 'annotations' and 'categories'")
    return content


def records(content: dict, key: str, file: Path, read: Callable[[dict], T], findings: Findings | None) -> Iterator[T]:
    """What `read` makes of every record under `key`, whose id is checked first.

    Args:
        content: of the file.
        key: of a list of objects.
        file: for messages.
        read: raises a ValueError where a record is wrong.
        findings: takes in wrong records, which are passed over.

    Raises:
        UserError: no list, or without `findings` the first wrong record, by its place and id.
    """
    listed = content.get(key)
    if not isinstance(listed, list):
        raise UserError(f"{file}: '{key}' must be a list, as in COCO's instances files; {what_is_there(content, key)}")
    seen = set()
    for position, record in enumerate(listed):
        try:
            if not isinstance(record, dict):
                raise ValueError(f"must be a JSON object, not {short(record)}")
            record["id"] = own = identity_of(record, "id")
            if own in seen:
                raise ValueError("a second record has this id; ids must be unique")
            seen.add(own)
            made = read(record)
        except ValueError as error:
            given = record.get("id") if isinstance(record, dict) else None
            about = f"{key}[{position}]" + (f" (id {short(given)})" if given is not None else "")
            if findings is None:
                raise UserError(f"{file}: {about}: {error}") from error
            findings.refuse_record(file, key, given, about, str(error))
        else:
            yield made


def identity_of(record: dict, field: str) -> Id:
    """An id: a whole number or a text; raises a ValueError for anything else."""
    value = record.get(field)
    return value if isinstance(value, str) and value else whole(record, field, "a whole number or a text")


def whole(record: dict, field: str, wanted: str = "a whole number") -> int:
    """A whole number, also one that is written as 80.0; raises a ValueError for anything else."""
    value = record.get(field)
    if type(value) is float and value.is_integer():  # as tables write whole numbers beside missing ones
        return int(value)
    if type(value) is not int:
        raise ValueError(f"'{field}' must be {wanted}, {what_is_there(record, field)}")
    return value


def text(record: dict, field: str) -> str:
    """A text that files and terminals take; raises a ValueError for anything else."""
    value = record.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME or not _writable(value):
        raise ValueError(f"'{field}' must be a text of 1 to {LONGEST_NAME} characters, {what_is_there(record, field)}")
    return value


def _writable(text: str) -> bool:
    """Whether files and terminals take the text: no NUL, and no half of a character but what stands for a byte."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def what_is_there(record: dict, field: str) -> str:
    """What a field holds, for a message."""
    return f"found {short(record[field])}" if field in record else "and is missing"
