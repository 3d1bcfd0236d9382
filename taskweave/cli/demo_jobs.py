"""What the demo works on: the files of a tree, the stages of its work, and the job that each pair of them is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from attrs import evolve, frozen

from taskweave.app import App
from taskweave.cli import demo_tasks
from taskweave.core.ids import Micros, uuid7
from taskweave.core.job import Spec
from taskweave.core.retry import Retry
from taskweave.exceptions import InvalidValue
from taskweave.task import Task

QUEUE: Final = "demo"
KEPT: Final = "7d"  # as long as the jobs, so that a later run can still report on them
FILES_MAX: Final = 100_000
_LEFT_OUT: Final = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})


@frozen
class Stage:
    name: str
    task: Task[[str], Any]


@frozen
class Source:
    """One file as it was found."""

    path: str
    size: int
    changed_us: Micros

    def job_id(self, stage: str) -> str:
        """The same for the same stage of the same file: enqueueing it again changes nothing."""
        key = f"{stage}\0{self.path}\0{self.size}\0{self.changed_us}".encode()
        return uuid7(self.changed_us, int.from_bytes(blake2b(key, digest_size=10).digest(), "big") >> 4)


def stages_of(app: App) -> tuple[Stage, ...]:
    """Registers the demo's tasks, one for each run mode."""
    retry = Retry(3, base="200ms", cap="1s")
    hashing = app.task(demo_tasks.hash_file, queue=QUEUE, retry=retry, result_ttl=KEPT)
    compressing = app.task(demo_tasks.compress_file, queue=QUEUE, retry=retry, result_ttl=KEPT, run_in="thread")
    parsing = app.task(demo_tasks.parse_file, queue=QUEUE, retry=retry, result_ttl=KEPT, run_in="process", timeout="1m")
    return Stage("hash", hashing), Stage("compress", compressing), Stage("parse", parsing)


def sources_of(root: Path, limit: int | None) -> list[Source]:
    """The Python files under root by path, at most `limit`. Raises InvalidValue where there are none."""
    found: list[Source] = []
    for path in _walk(root):
        try:
            path.encode()
            status = os.stat(path)
        except (UnicodeEncodeError, FileNotFoundError):
            continue  # a name that no JSON can hold, or a file removed between the listing and the look
        found.append(Source(path, status.st_size, max(0, status.st_mtime_ns // 1_000)))
        if len(found) >= (limit or FILES_MAX):
            break
    if not found:
        raise InvalidValue("PATH", str(root), "a folder that holds Python files")
    return found


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(each for each in folders if each not in _LEFT_OUT and not each.startswith("."))
        yield from (os.path.join(folder, name) for name in sorted(files) if name.endswith(".py"))


@frozen
class Placed:
    """One job of the demo: a stage of a file."""

    stage: Stage
    source: Source

    @property
    def id(self) -> str:
        return self.source.job_id(self.stage.name)

    @property
    def path(self) -> str:
        return self.source.path

    def spec(self) -> Spec:
        return evolve(self.stage.task.call(self.source.path).spec(), id=self.id)
