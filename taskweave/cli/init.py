"""taskweave init: a small project that runs as it is, to be changed into one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from taskweave.cli.output import say
from taskweave.exceptions import InvalidValue

TASKS: Final = '''\
"""The tasks of this project. Run them with: taskweave dev tasks.py"""

import hashlib
from pathlib import Path

from taskweave import App, Retry

app = App("sqlite:///jobs.db")


@app.task
async def greet(name: str) -> str:
    """An async function runs in the event loop."""
    return f"hello {name}"


@app.task(retry=Retry(3, base="1s", on=(OSError,)), timeout="1m")
def checksum(path: str) -> str:
    """A plain function runs in a thread; OSError is tried again."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@app.task(run_in="process")
def count_primes(below: int) -> int:
    """Work that keeps a processor busy belongs into a process."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, below))
'''

ENQUEUE: Final = '''\
"""Enqueue three jobs and wait for their results: python enqueue.py"""

import anyio
from tasks import app, checksum, count_primes, greet


async def main() -> None:
    async with app:
        handles = [
            await greet.enqueue("world"),
            await checksum.enqueue(__file__),
            await count_primes.enqueue(20_000),
        ]
        for handle in handles:
            print(handle.id, await handle.result(timeout="30s"))


if __name__ == "__main__":
    anyio.run(main)
'''

README: Final = """\
# PROJECT

Background jobs with [taskweave](https://pypi.org/project/taskweave/).

    pip install 'taskweave[all]'
    taskweave dev tasks.py          # a worker that starts again when a file changes
    python enqueue.py               # in another terminal: three jobs, three results

What happened:

    taskweave job list --app tasks.py
    taskweave job show ID --app tasks.py
    taskweave queue list --app tasks.py
    taskweave doctor --app tasks.py

In production: `taskweave worker tasks.py --metrics :9090 --log json` under a supervisor that sends SIGTERM.
"""

GITIGNORE: Final = "*.db\n*.db-shm\n*.db-wal\n__pycache__/\n.venv/\n"

FILES: Final = {"tasks.py": TASKS, "enqueue.py": ENQUEUE, "README.md": README, ".gitignore": GITIGNORE}


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def init(folder: Path, dry_run: bool) -> None:
    """Write a project that runs into DIR (default: here). Files that are there already are never touched."""
    taken = [name for name in FILES if (folder / name).exists()]
    if taken:
        raise InvalidValue("DIR", str(folder), f"a folder without {', '.join(taken)}")
    for name, text in FILES.items():
        if not dry_run:
            _write(folder / name, text.replace("PROJECT", folder.resolve().name))
        say(f"{'would write' if dry_run else 'wrote'} {folder / name}")
    where = "" if folder == Path() else f"cd {folder} && "
    say(f"next: {where}taskweave dev tasks.py")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InvalidValue("DIR", str(path.parent), f"a folder that can be written ({error.strerror})") from error
