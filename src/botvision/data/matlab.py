"""MATLAB's file format, version 5, as far as ImageNet's development kit needs it: structs of texts and numbers.

Written from MathWorks' description of the format ("MAT-File Format", MATLAB 5). A dependency on SciPy would be a
hundred times its size.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15  # kinds of element
NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
STRUCT, CHAR = 2, 4  # classes of array
NUMERIC = range(6, 16)
EMPTY = (2, b"")  # what an array without content may leave out

Value = str | list[float] | list[dict[str, "Value"]] | None


def read_variables(content: bytes) -> dict[str, Value]:
    """The variables of a file by name.

    Returns:
        texts, flat lists of numbers, and lists of structs as dictionaries; None for arrays of any other class.

    Raises:
        ValueError: not such a file, or it ends early.
    """
    if content[HEADER_BYTES - 4 : HEADER_BYTES] != b"\x00\x01IM":
        raise ValueError("is no little-endian MATLAB 5 file")
    try:
        return dict([_array(payload) for kind, payload in _elements(content[HEADER_BYTES:]) if kind == MATRIX])
    except (struct.error, zlib.error, IndexError, KeyError, StopIteration) as error:
        raise ValueError("is damaged or ends early") from error


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of the elements that follow one another, unpacked."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind >> 16:  # a small element: size and kind share four bytes, the payload has the other four
            yield kind & 0xFFFF, data[at + 4 : at + 4 + (kind >> 16)]
            at += 8
            continue
        payload = data[at + 8 : at + 8 + size]
        if len(payload) < size:
            raise IndexError("element is cut off")
        if kind == COMPRESSED:
            yield from _elements(zlib.decompress(payload))
            at += 8 + size
        else:
            yield kind, payload
            at += 8 + size + -size % 8


def _array(payload: bytes) -> tuple[str, Value]:
    """Name and content of one array."""
    if not payload:  # how an empty field is stored
        return "", None
    parts = _elements(payload)
    array_class = next(parts)[1][0]
    next(parts)  # its shape
    name = next(parts)[1].decode("latin-1")
    if array_class == STRUCT:
        length = struct.unpack("<i", next(parts)[1])[0]
        names = next(parts)[1]
        fields = [names[at : at + length].split(b"\0")[0].decode("latin-1") for at in range(0, len(names), length)]
        values = [_array(inner)[1] for _, inner in parts]
        return name, [
            dict(zip(fields, values[at : at + len(fields)], strict=True)) for at in range(0, len(values), len(fields))
        ]
    if array_class == CHAR:
        kind, text = next(parts, EMPTY)
        return name, text.decode(TEXTS[kind])
    if array_class in NUMERIC:
        kind, numbers = next(parts, EMPTY)
        return name, np.frombuffer(numbers, NUMBERS[kind]).astype(float).tolist()
    return name, None
