"""A short name for what is in a data set, by which two of them, or one at two times, are compared."""

import hashlib
from collections.abc import Iterable

DIGITS = 12


def digest(images: int, parts: Iterable[bytes]) -> str:
    """The number of images, and hexadecimal digits of SHA-256 over all that tells a data set from others."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return f"{images}, digest {found.hexdigest()[:DIGITS]}"
