"""One server process of the tests: started with a fate bound to ours, stopped, paused and killed with all its children.

Rules:
- It dies with this process, even when that is killed: Linux sends it SIGKILL when the thread that started it ends, so
  one thread that lives as long as the process starts them all.
- Never as root where the server refuses that: then as `nobody`, who must also be able to reach program and data.
- Kill and pause take the whole tree. PostgreSQL's backends are in sessions of their own; those left over from a killed
  postmaster would hold its shared memory, and those of a stopped one would go on answering.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import queue
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

START_S, STOP_S = 60.0, 30.0
PORTS = range(20_000, 32_000)  # below the ephemeral ports: no client's socket takes the port of a server that is down

Start = Callable[[], "subprocess.Popen[bytes]"]
_orders: queue.SimpleQueue[tuple[Start, queue.SimpleQueue[object]]] = queue.SimpleQueue()
_starter_lock = threading.Lock()
_starters: dict[int, threading.Thread] = {}  # by process: a fork has to have its own


def free_port() -> int:
    """A port that nobody listens on now; the caller retries when somebody else was quicker."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port found between {PORTS.start} and {PORTS.stop}")


def new_folder(kind: str, *, unprivileged: bool = False) -> Path:
    """A folder of its own on a real disk, that the server's user owns and can reach; its path is short for sockets."""
    base = Path(tempfile.gettempdir())
    if unprivileged and os.geteuid() == 0 and not _open_to_all(base):
        base = Path("/var/tmp")
    folder = Path(tempfile.mkdtemp(prefix=f"taskweave-{kind}-", dir=base))
    if unprivileged:
        give_away(folder)
    return folder


def give_away(path: Path) -> None:
    """Make it belong to the user that a server runs as, when that is not ours."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def reachable(program: Path, keep_in: Path) -> Path:
    """The program where `nobody` can run it: a virtual environment under /root is closed to everybody else."""
    if os.geteuid() != 0 or _open_to_all(program.parent):
        return program
    package = program.parents[2]  # of a wheel: package/pginstall/bin, with its libraries in package.libs
    home, whole = (
        (package.parent, (package.name, f"{package.name}.libs"))
        if "site-packages" in package.parts
        else (program.parents[2], (program.parents[1].name,))
    )
    copied = keep_in / "program"
    for name in whole:
        if (home / name).exists() and not (copied / name).exists():
            shutil.copytree(home / name, copied / name, symlinks=True)
    return copied / program.relative_to(home)


def _open_to_all(folder: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (folder, *folder.resolve().parents))


def prefixed(command: list[str], *, unprivileged: bool) -> list[str]:
    """The command with the user and the fate that it is to have."""
    drop: list[str] = []
    if unprivileged and os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        drop = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if drop:
            raise FileNotFoundError("setpriv (util-linux) is needed to start this server as another user than root")
        return command
    return [setpriv, "--pdeathsig", "KILL", *drop, *command]


def run(command: list[str], *, unprivileged: bool = False, **options: object) -> None:
    """Run a program to its end; what it said is in the error when it failed."""
    done = subprocess.run(
        prefixed(command, unprivileged=unprivileged),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=START_S,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed with {done.returncode}:\n{done.stdout.decode(errors='replace')}")


class ServerProcess:
    """A running server and its children; `log` is the file that it writes to."""

    def __init__(self, command: list[str], log: Path, cwd: Path, *, unprivileged: bool = False) -> None:
        self.log, self._unprivileged = log, unprivileged
        full = prefixed(command, unprivileged=unprivileged)

        def start() -> subprocess.Popen[bytes]:
            with log.open("ab") as out:
                return subprocess.Popen(
                    full, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd, start_new_session=True
                )

        self._popen = _started(start)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else "(no log)"

    def tree(self) -> list[int]:
        """Its process id and those of its living children."""
        return [self.pid, *_descendants(self.pid)]

    def send(self, number: int) -> None:
        """Send this to it and to all its children."""
        for pid in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL, and return when nothing of it is left."""
        if self.alive:
            os.kill(self.pid, signal.SIGSTOP)  # it starts no more children while they are counted
        pids = self.tree()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.wait(STOP_S)
        until(lambda: not any(_lives(pid) for pid in pids[1:]), STOP_S, "its children to end")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end, and kill it if it does not."""
        if self.alive:
            self.send(signal.SIGCONT)
            self._popen.send_signal(number)
            try:
                self._popen.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return when the condition holds, or raise TimeoutError after these seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.01)


def _started(start: Start) -> subprocess.Popen[bytes]:
    with _starter_lock:
        if os.getpid() not in _starters:
            thread = threading.Thread(target=_serve_orders, name="server starter", daemon=True)
            _starters[os.getpid()] = thread
            thread.start()
    answer: queue.SimpleQueue[object] = queue.SimpleQueue()
    _orders.put((start, answer))
    given = answer.get(timeout=START_S)
    if isinstance(given, BaseException):
        raise given
    assert isinstance(given, subprocess.Popen)
    return given


def _serve_orders() -> None:
    while True:
        start, answer = _orders.get()
        try:
            answer.put(start())
        except Exception as error:  # noqa: BLE001 - whoever ordered is told
            answer.put(error)


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                yield int(child)
                yield from _descendants(int(child))


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
