"""taskweave dev: a worker that starts again whenever a source file beside the app changes.

The worker is a child process; its stdin is a pipe that we hold, so that it drains when we close it, and also when we
are killed. It is in a session of its own: Ctrl-C reaches us alone, and we tell it. Files are watched by looking at
their times and sizes twice a second, off the loop; folders that hold no sources of the app are left out.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, TypeAlias

import anyio
import anyio.to_thread
import click
from anyio.abc import Process

from taskweave.cli.loops import backend_option, run_on
from taskweave.cli.output import say

LOOK_EVERY_SECONDS: Final = 0.5
DRAIN_SECONDS_MAX: Final = 5.0
FILES_MAX: Final = 10_000
_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "build", "dist"})

Snapshot: TypeAlias = dict[str, tuple[int, int]]


def snapshot(root: Path) -> Snapshot:
    """Time and size of each Python file under root, at most FILES_MAX of them; vanished files are not there."""
    found: Snapshot = {}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(each for each in folders if each not in _LEFT_OUT and not each.startswith("."))
        for name in files:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                try:
                    status = os.stat(path)
                except FileNotFoundError:
                    continue  # an editor replaced it between the listing and the look: the next look sees it
                found[path] = (status.st_mtime_ns, status.st_size)
        if len(found) >= FILES_MAX:
            break
    return found


def changed(before: Snapshot, after: Snapshot) -> list[str]:
    """The files that are new, gone or different."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("target", metavar="APP")
@click.option("--store", metavar="URL", envvar="TASKWEAVE_STORE", show_envvar=True, help="Instead of the app's store.")
@click.option("--concurrency", "-c", type=int, help="How many jobs may run at once.")
@click.option("--queues", "-q", metavar="A,B=3", help="The queues to take from, with weights.")
@click.option("--metrics", metavar="[HOST]:PORT", help="Serve /metrics and /healthz.")
@backend_option
def dev(
    target: str, store: str | None, concurrency: int | None, queues: str | None, metrics: str | None, backend: str
) -> None:
    """Run the worker of APP (module:attribute or file.py), and start it again when a file changes."""
    command = [sys.executable, "-m", "taskweave", "worker", target, "--until-eof", "--log-successes"]
    command += ["--grace", "2s", "--backend", backend]
    options = {"--store": store, "--concurrency": concurrency, "--queues": queues, "--metrics": metrics}
    for name, value in options.items():
        if value is not None:
            command += [name, str(value)]
    place = target.split(":")[0]
    root = Path(place).resolve().parent if place.endswith(".py") else Path.cwd()
    run_on("asyncio", lambda: watch(command, root))


async def watch(command: list[str], root: Path) -> None:
    """Keep one child running on the newest sources, until SIGINT or SIGTERM; then it drains."""
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, group.cancel_scope)
        while True:
            before = await anyio.to_thread.run_sync(snapshot, root)
            child = await anyio.open_process(
                command, stdin=subprocess.PIPE, stdout=None, stderr=None, start_new_session=True
            )
            try:
                files = await _next_change(root, before, child)
            finally:
                await _drained(child)
            shown = ", ".join(path.removeprefix(f"{root}{os.sep}") for path in files[:3])
            say(f"taskweave dev: {shown}{' …' * (len(files) > 3)} changed; starting again")


async def _next_change(root: Path, before: Snapshot, child: Process) -> list[str]:
    """Wait for sources that differ from `before`; says so once when the child ends meanwhile."""
    told = False
    while True:
        await anyio.sleep(LOOK_EVERY_SECONDS)
        after = await anyio.to_thread.run_sync(snapshot, root)
        if files := changed(before, after):
            return files
        if child.returncode is not None and not told:
            told = True
            say(f"taskweave dev: the worker ended (exit code {child.returncode}); waiting for a change in {root}")


async def _drained(child: Process) -> None:
    """The child has ended: by itself once its stdin is closed, else by force."""
    with anyio.CancelScope(shield=True):
        if child.stdin is not None:
            await child.stdin.aclose()
        with anyio.move_on_after(DRAIN_SECONDS_MAX):
            await child.wait()
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _stop_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async for _ in received:
            scope.cancel()
            return
