"""One measurement in a process of its own: `python -m taskweave.cli.bench_measures NAME LOOP STORE JOBS`.

It prints one JSON object; whoever runs it repeats it, in turns with others.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import anyio

from taskweave.cli.bench_speed import Facts, beside, claim, drain, enqueue, floor, is_server, taken
from taskweave.cli.bench_waits import imported, latency, latency_across, memory, produce, rest

MEASURES: Final[dict[str, Callable[[str, int, str], Awaitable[Facts]]]] = {
    each.__name__: each for each in (drain, floor, enqueue, latency, latency_across, claim, rest, memory, imported)
}
LOOPS: Final[dict[str, dict[str, Any]]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


def main(name: str, loop: str, kind: str, jobs: str) -> None:
    kind = taken(kind)
    kind = beside(kind) if is_server(kind) else kind
    with tempfile.TemporaryDirectory(prefix="taskweave-bench-") as folder:
        facts = anyio.run(partial(MEASURES[name], kind, int(jobs), folder), **LOOPS[loop])
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "producer":
        anyio.run(produce, taken(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main(*sys.argv[1:])
