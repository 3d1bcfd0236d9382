"""One unique key, many processes: exactly one job (I13), and everybody is told which."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from taskweave.core.verbs import TakeDump
from taskweave.stores.sqlite import SQLiteTaskStore

PRODUCER = Path(__file__).parent / "unique_producer.py"
PROCESSES, EACH = 4, 50


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PRODUCER), str(path), str(EACH)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PRODUCER.parents[2])},
    )


@pytest.mark.proves(8)
def test_two_hundred_enqueues_of_four_processes_make_one_job(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with ExitStack() as stack:
        producers = [stack.enter_context(start(path)) for _ in range(PROCESSES)]
        for producer in producers:
            assert producer.stdout is not None
            assert producer.stdout.readline() == "up\n"
        for producer in producers:
            assert producer.stdin is not None
            producer.stdin.write("go\n")
            producer.stdin.flush()
        said = [line.split() for producer in producers for line in producer.communicate(timeout=60)[0].splitlines()]
        assert [producer.returncode for producer in producers] == [0] * PROCESSES
    assert len(said) == PROCESSES * EACH
    assert sorted(word for word, _ in said) == ["created"] + ["deduplicated"] * (PROCESSES * EACH - 1)

    async def jobs() -> list[str]:
        async with SQLiteTaskStore(path) as store:
            assert await store.check() == []
            return [job.id for job in (await store.apply(TakeDump())).jobs]

    (id,) = anyio.run(jobs)
    assert {told for _, told in said} == {id}
