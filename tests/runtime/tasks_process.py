"""Functions for process mode: each does one thing that a child process has to survive, or must not survive."""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from taskweave._runtime.ctx import Ctx
from taskweave.core.job import Spec
from taskweave.exceptions import Abort, Cancel, RetryAfter, Snooze


def add(a: int, b: int = 1) -> int:
    return a + b


def pid() -> int:
    return os.getpid()


def echo(text: str) -> str:
    return text


def fail(message: str) -> None:
    raise FileNotFoundError(message)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


def fail_mutely() -> None:
    raise Mute


def control(verb: str) -> None:
    raise {
        "snooze": Snooze("30s", "later"),
        "retry": RetryAfter(2),
        "cancel": Cancel("no need"),
        "abort": Abort("bad"),
    }[verb]


def bad_delay() -> None:
    raise Snooze("soon")


def spin(started: str) -> None:
    Path(started).write_text(str(os.getpid()))
    while True:
        pass


def spin_in_c(started: str) -> None:
    """Holds the interpreter for good: no Python thread or signal handler of this process runs any more."""
    Path(started).write_text(str(os.getpid()))
    sum(itertools.repeat(0))


def spin_and_clean(started: str, cleaned: str) -> None:
    try:
        Path(started).write_text(str(os.getpid()))
        while True:
            pass
    finally:
        Path(cleaned).write_text("cleaned")


def spin_stubbornly(started: str) -> None:
    Path(started).write_text(str(os.getpid()))
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001 - the very thing to survive
            continue


def with_grandchild(started: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(started).write_text(str(child.pid))
    child.wait()


def forks_and_dies(started: str) -> None:
    """A forked process outlives the child that made it, holding all that it had open."""
    forked = os.fork()
    if forked == 0:
        signal.pause()
    Path(started).write_text(str(forked))
    os._exit(7)


def leave(how: str) -> None:
    if how == "exit":
        sys.exit(3)
    if how == "text":
        sys.exit("because")
    if how == "_exit":
        os._exit(4)
    if how == "segv":
        ctypes.string_at(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "closed":
        os.closerange(3, 256)
    if how == "abort":
        os.abort()
    raise AssertionError(how)


def overflow_c_stack() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(10**9)

    class Deep:
        def __getattr__(self, name: str) -> object:
            return getattr(self, name + "x"[:0])

    list(map(lambda f: f(f), [lambda f: list(map(lambda g: g(g), [f]))]))  # noqa: C417 - C frames between Python's


def eat_memory() -> int:
    limit = 600 << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return len(bytearray(2 << 30))


def noisy(count: int) -> str:
    print("printed out", flush=True)
    print("printed err", file=sys.stderr, flush=True)
    os.write(1, b"\x00\x00\x00\x02\x00\x00\x00\x00{}" * count)
    os.write(2, b"\xff\xff\xff\xff\xff\xff\xff\xff" * count)
    return "quiet"


def huge() -> str:
    return "x" * (2 << 20)


def unserialisable() -> object:
    return object()


def progresses(count: int, ctx: Ctx) -> int:
    for done in range(count):
        ctx.progress(done + 1, count, "step")
    return ctx.attempt


def progresses_then_waits(gate: str, ctx: Ctx) -> None:
    ctx.progress(1)
    ctx.progress(2)
    with open(gate) as pipe:  # until the test opens its other end
        pipe.read()


class _Call:
    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def spec(self) -> Spec:
        return self._spec


def spawns(ctx: Ctx) -> str:
    return ctx.enqueue(_Call(Spec("child-1", "other", "queue", b"[[],{}]", tags=(("a", "b"),))))


def logs(ctx: Ctx) -> None:
    ctx.log.warning("from the task %d", 1)
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("some.library").exception("from a library")
    thread = threading.Thread(target=logging.getLogger("a.thread").error, args=("from a thread",))
    thread.start()
    thread.join()


def burn(rounds: int) -> int:
    total = 0
    for number in range(rounds):
        total ^= number * number
    return total


def sleeps(seconds: float) -> None:
    time.sleep(seconds)


def leaves_thread_behind() -> int:
    threading.Thread(target=threading.Event().wait).start()
    return os.getpid()


def stdin_is_empty() -> str:
    return sys.stdin.read()


def not_async() -> None: ...


async def is_async() -> None: ...


def lies(head: int, body: int) -> None:
    """Claims a frame of these lengths on the channel, behind the back of the child's main."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and os.readlink(f"/proc/self/fd/{fd}").startswith("socket"):
            os.write(fd, struct.pack(">II", head, body) + b"not json")
    signal.pause()


def interrupt_group() -> str:
    """What a terminal does on Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)
    return "not interrupted"
