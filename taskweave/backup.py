"""A store in a file: one line for each job, readable in ten years without the program that wrote it.

The first line is the header (format, store, when, counts, pauses, aging), then come the jobs, oldest first, each as
`_codec.jobs` writes it, and the last line is the trailer: how many jobs, and a digest of every byte before it. A file
whose name ends in .gz is compressed.

What a backup is: each page of it (500 jobs, or 8 MiB) is one instant, the whole is not, so workers need not stop. A job
that was there from the first page to the last is in it once, as it was when its page was read; one that ran is in it
as given back. A job that came later, or was removed before its page was read, may be missing. So what a task enqueued
while the backup ran may be there without its parent's end, or the other way round.

What a restore is: the whole file is read and checked before the first job is stored, and it may be run again.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import zlib
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Final, Self, cast

from attrs import define, field, frozen

from taskweave._codec.jobs import FORMAT, job_of
from taskweave.abc import TaskStore
from taskweave.core.ids import Micros
from taskweave.core.job import Job
from taskweave.core.moving import PAGE_BYTES_MAX, PAGE_MAX, check_jobs, size
from taskweave.core.verbs import Count, Export, Stats
from taskweave.exceptions import InvalidBackup, InvalidInput
from taskweave.transfer import Tally, Told
from taskweave.view import moment

KIND: Final = "taskweave backup"
LINE_BYTES_MAX: Final = 1 << 30  # of one job: more than any payload and result as JSON escapes
JOB_BYTES_MAX: Final = 1 << 26  # of one payload: what one store took, another takes

_GZIP: Final = b"\x1f\x8b"
_DAMAGE: Final = (EOFError, gzip.BadGzipFile, zlib.error)


@frozen
class Header:
    """What a backup says of itself before its jobs."""

    store: str
    paused: tuple[str, ...]
    aging_us: Micros | None


# --- writing ------------------------------------------------------------------------------------------------------


async def write(store: TaskStore, path: Path, told: Told) -> Tally:
    """A whole backup under this name, with mode 0600, or nothing. Raises StoreError, and OSError for the file.

    Writing to the file blocks the loop: this is for programs that do nothing else meanwhile.
    """
    stats = await store.apply(Count())
    page = await store.apply(Export())
    tally = Tally()
    with _new_file(path) as file:
        digest = _Digest(file)
        digest.write(_header(store, stats, page.paused, page.aging_us))
        while True:
            for job in page.jobs:
                digest.write(tally.add(job))
            told(len(page.jobs))
            if page.next is None:
                break
            page = await store.apply(Export(page.next))
        digest.end(tally)
    return tally


def _header(store: TaskStore, stats: Stats, paused: tuple[str, ...], aging_us: Micros | None) -> str:
    counts = [[queue.queue, state.value, number] for queue in stats.queues for state, number in queue.counts]
    document = {
        "kind": KIND,
        "format": FORMAT,
        "store": store.url,
        "taken_at": moment(stats.now).isoformat(),
        "counts": counts,
        "paused": paused,
        "aging_us": aging_us,
    }
    return json.dumps(document)


@define
class _Digest:
    """Lines on their way into the file, and the digest of them."""

    file: IO[bytes]
    hash: blake2b = field(factory=lambda: blake2b(digest_size=16))

    def write(self, line: str) -> None:
        data = line.encode() + b"\n"
        self.hash.update(data)
        self.file.write(data)

    def end(self, tally: Tally) -> None:
        counts = [[queue, state.value, number] for (queue, state), number in tally.counts.items()]
        trailer = {"jobs": tally.jobs, "counts": counts, "checksum": self.hash.hexdigest()}
        self.file.write(json.dumps(trailer).encode() + b"\n")


@contextmanager
def _new_file(path: Path) -> Generator[IO[bytes]]:
    """A file beside the one that is meant, which takes its name when it is complete and on the disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


# --- reading ------------------------------------------------------------------------------------------------------


class Backup:
    """A file that was read to its end and found whole: `header`, `tally`, and the jobs in pages.

    Making it raises InvalidBackup, and OSError for a file that cannot be read; leaving it closes the file. The jobs
    are read from the same open file, so what takes its name meanwhile is not looked at.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            self.header = self._read_header(next(self._lines(), b""))
            self.tally = Tally()
            for job in self._checked():
                self.tally.add(job)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    async def pages(self) -> AsyncIterator[tuple[Job, ...]]:
        """The jobs, as many at a time as one restore takes."""
        page: list[Job] = []
        page_bytes = 0
        for job in self._checked():
            if len(page) == PAGE_MAX or page_bytes >= PAGE_BYTES_MAX:
                yield tuple(page)
                page, page_bytes = [], 0
            page.append(job)
            page_bytes += size(job)
        if page:
            yield tuple(page)

    def _read_header(self, line: bytes) -> Header:
        document = self._document(line, "it is no backup of taskweave")
        if document.get("kind") != KIND:
            raise self._invalid("it is no backup of taskweave")
        if document.get("format") != FORMAT:
            raise self._invalid(f"its format is {document.get('format')}, this taskweave reads {FORMAT}")
        store, paused, aging_us = (document.get(name) for name in ("store", "paused", "aging_us"))
        well = isinstance(store, str) and _names(paused) and (aging_us is None or aging_us.__class__ is int)
        if not well:
            raise self._invalid("its header is damaged")
        return Header(cast(str, store), tuple(cast("list[str]", paused)), cast("Micros | None", aging_us))

    def _checked(self) -> Iterator[Job]:
        """Every job; all of it has been compared with the trailer when this ends."""
        digest = blake2b(digest_size=16)
        number, pending = 0, b""
        for number, line in enumerate(self._lines(), 1):
            if number > 2:
                digest.update(pending)
                yield self._job(pending, number - 1)
            elif number == 2:
                digest.update(pending)
            pending = line
        trailer = self._document(pending, "its end is missing") if number > 1 else {}
        if trailer.get("checksum") != digest.hexdigest() or trailer.get("jobs") != number - 2:
            raise self._invalid("its end is missing, or it was changed since it was written")

    def _job(self, line: bytes, number: int) -> Job:
        try:
            job = job_of(line.decode("ascii"), f"line {number}")
            check_jobs((job,), JOB_BYTES_MAX)
        except UnicodeDecodeError as error:
            raise self._invalid(f"line {number} is not ASCII") from error
        except InvalidInput as error:
            raise self._invalid(f"line {number}: {error.explain()}") from error
        return job

    def _document(self, line: bytes, otherwise: str) -> dict[str, Any]:
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._invalid(otherwise) from error
        if not isinstance(document, dict):
            raise self._invalid(otherwise)
        return cast("dict[str, Any]", document)

    def _lines(self) -> Iterator[bytes]:
        """Every line with its end, unpacked."""
        self._file.seek(0)
        packed = self._file.read(2) == _GZIP
        self._file.seek(0)
        file = cast("IO[bytes]", gzip.GzipFile("", "rb", fileobj=self._file)) if packed else self._file
        number = 0
        try:
            while line := file.readline(LINE_BYTES_MAX):
                number += 1
                if not line.endswith(b"\n"):
                    raise self._invalid(f"line {number} is cut off")
                yield line
        except _DAMAGE as error:
            raise self._invalid(f"it is damaged after line {number} ({error})") from error

    def _invalid(self, problem: str) -> InvalidBackup:
        return InvalidBackup(str(self.path), problem)


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[object]", value))
