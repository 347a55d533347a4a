"""The detections of an evaluation, in a file on disk: all those of a data set would fill the memory."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch.distributed as dist

from botvision.data.annotations import Id
from botvision.files import room_for, whole_file
from botvision.training.sharing import gather_or_raise, on_first_process

ENCODER = json.JSONEncoder(allow_nan=False, default=bytes.decode)
"""Also takes run lengths as bytes, as pycocotools gives them."""
CHUNK = 2**24
"""Bytes that a process sends at once."""


class StoredResults:
    """Detections in COCO's results format, a line of JSON for each image that has some.

    The file has no name: the system removes it when the process ends, however that ends. Iteration gives the rows one
    after the other, in the order of the images; ``len`` counts them.
    """

    def __init__(self, image_ids: Sequence[Id]) -> None:
        """Start without detections.

        Args:
            image_ids: COCO ids of all images of the data set, in its order.
        """
        self._image_ids = image_ids
        self._folder = Path(tempfile.gettempdir())
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as this object lives)
        self._places: dict[Id, tuple[int, int]] = {}  # where the line of an image begins, and how many bytes it has
        self._rows = 0

    def append(self, image_id: Id, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store the detections of an image, strongest first. Each image comes once.

        Raises:
            UserError: no space is left for temporary files.
        """
        if rows:
            line = ENCODER.encode(rows).encode() + b"\n"
            self._places[image_id] = self._add(line), len(line)
            self._rows += len(rows)

    def __len__(self) -> int:
        """Number of detections."""
        return self._rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The detections, image after image."""
        for image_id in self._image_ids:
            yield from self.of_image(image_id)

    def of_image(self, image_id: Id) -> list[dict[str, Any]]:
        """The detections of an image, strongest first."""
        if image_id not in self._places:
            return []
        rows: list[dict[str, Any]] = json.loads(self._read(*self._places[image_id]))
        return rows

    def write_json(self, path: Path) -> None:
        """Write all detections as a list in COCO's results format, whole or not at all."""
        with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            write_list(self, file)

    def gather(self) -> None:
        """Give the first process the detections of all processes, which have evaluated different images.

        Each process has to call it. Files are sent in pieces: no process holds a whole one in memory, and the machines
        of a run need no folder in common.

        Raises:
            UserError: no space is left for temporary files, on the first process; all raise it.
        """
        shares = gather_or_raise(lambda: (self._places, self._rows))
        for rank, (places, rows) in enumerate(shares[1:], start=1):
            is_sender = dist.get_rank() == rank
            size = sum(size for _, size in places.values())
            begin = on_first_process(lambda: self._file.seek(0, 2))
            for start in range(0, size, CHUNK):
                pieces = gather_or_raise(lambda: self._read(start, CHUNK) if is_sender else b"")  # noqa: B023
                on_first_process(lambda: self._add(pieces[rank]))  # noqa: B023
            if dist.get_rank() == 0:
                self._places |= {image_id: (begin + start, size) for image_id, (start, size) in places.items()}
                self._rows += rows

    def _add(self, line: bytes) -> int:
        """Append bytes to the file; gives where they begin."""
        with room_for(self._folder):
            begin = self._file.seek(0, 2)
            self._file.write(line)
            self._file.flush()
        return begin

    def _read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)


def rows_by_image(results: StoredResults | Iterable[dict[str, Any]]) -> Callable[[Id], list[dict[str, Any]]]:
    """What gives the rows of an image by its id, in their order; also of a plain list."""
    if isinstance(results, StoredResults):
        return results.of_image
    rows: dict[Id, list[dict[str, Any]]] = defaultdict(list)
    for row in results:
        rows[row["image_id"]].append(row)
    return lambda image_id: rows.get(image_id, [])


def write_list(rows: Iterable[Mapping[str, Any]], file: IO[str]) -> None:
    """Write rows as one JSON list, a line each, without holding them in memory."""
    separator = "["
    for row in rows:
        file.write(separator + ENCODER.encode(row))
        separator = ",\n"
    file.write("[]\n" if separator == "[" else "]\n")
