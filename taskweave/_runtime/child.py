"""The main of a child process: functions come in as addresses and bytes, ends go out as bytes.

Theory
  A child runs one function at a time, in its main thread, and lives until its worker closes the channel, stops it, or
  dies. It knows no event loop; what a task imports is the task's affair.
Rules
  channel   one socket of its own, not stdin or stdout: what a task prints goes where the worker's prints go
  orphan    a pipe that only the worker holds open; the kernel kills this process group when it closes, so that even
            code that never comes back to Python dies with its worker. Elsewhere than on Linux a thread watches it.
  SIGTERM   raises Stopped in the running function, so that its `finally` runs; whoever swallows it is killed
  SIGINT    of the terminal is not for children: they have a session of their own, and ignore it besides
  exits     sys.exit in a task ends the process, as it says; after a MemoryError the child is not used again
"""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import os
import signal
import sys
import threading
import typing
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn

from attrs import asdict, define, evolve

from taskweave._codec.signature import Shape, SignatureCodec, Slot
from taskweave._runtime import loading
from taskweave._runtime.address import Address, NotFound, find
from taskweave._runtime.ctx import Ctx, Facts, placed
from taskweave._runtime.ends import RawEnd, raised, returned
from taskweave._runtime.env import SystemEnv
from taskweave._runtime.failures import failure_of
from taskweave._runtime.frames import BODY_BYTES_MAX, PREFIX, Frame, Head, lengths, pack, unpack_head
from taskweave._runtime.loading import refuse_while_loading as refuse_while_loading
from taskweave._runtime.messages import LogToWorker, spec_to_head
from taskweave._runtime.work import CallCodec, Work
from taskweave.core.events import Ending
from taskweave.core.ids import MILLISECOND, Micros
from taskweave.core.job import Progress, Spec
from taskweave.exceptions import DecodeError, MissingMainGuard, TransactionMisused
from taskweave.observe.logging import JobFields, current

PROGRESS_EVERY_US: Final[Micros] = 100 * MILLISECOND


class Stopped(BaseException):
    """Raised in a running task when its worker stops it; let it pass, clean up in `finally`."""


class Link:
    """The child's end of the channel: whole frames, from any thread; closed in processes that a task forks."""

    def __init__(self, fd: int) -> None:
        self._fd, self._lock = fd, threading.Lock()
        os.set_inheritable(fd, False)
        os.register_at_fork(after_in_child=self._forked)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def _forked(self) -> None:
        if not self.closed:
            os.close(self._fd)
        self._fd, self._lock = -1, threading.Lock()

    def send(self, head: Head, body: bytes = b"") -> None:
        """Raises OSError when the worker is gone, BadFrame when a bound is broken."""
        rest = memoryview(pack(head, body))
        with self._lock:
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def receive(self) -> Frame | None:
        """Return the next frame, or None when the worker has closed the channel."""
        prefix = self._read(PREFIX.size)
        if prefix is None:
            return None
        head, body = lengths(prefix)
        text, rest = self._read(head), self._read(body)
        return None if text is None or rest is None else Frame(unpack_head(text), rest)

    def _read(self, size: int) -> bytes | None:
        parts: list[bytes] = []
        while size:
            part = os.read(self._fd, size) if not self.closed else b""
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class Voice:
    """The sink of one run: progress at most every PROGRESS_EVERY_US, the latest wins and is never left behind."""

    def __init__(self, link: Link, run: int, env: SystemEnv) -> None:
        self._link, self._run, self._env = link, run, env
        self._lock = threading.Lock()
        self._latest: Progress | None = None
        self._next: Micros = 0
        self._timer: threading.Timer | None = None

    def progress(self, progress: Progress) -> None:
        with self._lock:
            self._latest = progress
            wait = self._next - self._env.now()
            if wait > 0:
                if self._timer is None:
                    self._timer = threading.Timer(wait / 1e6, self.flush)
                    self._timer.daemon = True
                    self._timer.start()
                return
        self.flush()

    def flush(self) -> None:
        with self._lock:
            latest, self._latest, self._timer = self._latest, None, None
            self._next = self._env.now() + PROGRESS_EVERY_US
        if latest is not None:
            self._link.send({"kind": "progress", "run": self._run, "progress": asdict(latest)})

    def spawn(self, spec: Spec) -> None:
        self._link.send({"kind": "spawn", "run": self._run, "spec": spec_to_head(spec)}, spec.payload)

    def transaction(self) -> NoReturn:
        raise TransactionMisused("ctx.transaction() is called in a process of its own", "use run_in='loop'")


@define
class Loaded:
    fn: Callable[..., Any]
    codec: CallCodec


class Child:
    """Serves frames until there are no more."""

    def __init__(self, link: Link) -> None:
        self._link, self._env = link, SystemEnv()
        self._loaded: dict[tuple[Address, str], Loaded] = {}
        self._running = False
        self._stopped = False
        self._spoiled = False

    def serve(self) -> None:
        signal.signal(signal.SIGINT, _ignored)  # not SIG_IGN, which a task's own children would inherit
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self._link.send({"kind": "ready"})
        while not self._spoiled and (frame := self._link.receive()) is not None:
            end = self._attempt(frame)
            _flush()
            failure = None if end.failure is None else asdict(end.failure)
            head = {"kind": "end", "run": frame.head["run"], "ending": end.ending.name, "failure": failure}
            head |= {"delay_us": end.delay_us, "cause": end.cause, "reason": end.reason, "last": self._spoiled}
            head["returned"] = end.result is not None
            self._link.send(head, end.result or b"")

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopped = True
        if not self._running:
            exit_now(128 + signal.SIGTERM)
        raise Stopped

    def _attempt(self, frame: Frame) -> RawEnd:
        head = frame.head
        address, task, ctx = Address(**head["address"]), head["task"], head["ctx"]
        try:
            loaded = self._load(address, task, ctx, head["task_version"])
        except MissingMainGuard as error:
            self._spoiled = True  # the program ran, partly: its threads and files are still here
            return RawEnd(Ending.ABORTED, failure=failure_of(error), cause="main_guard", reason=error.explain())
        except NotFound as error:
            return RawEnd(Ending.UNFIT, cause="unknown_task", reason=str(error))
        except Exception as error:  # noqa: BLE001 - the user's module failed on import; another worker may have it whole
            reason = f"{address.script or address.module} cannot be loaded: {type(error).__name__}"
            return RawEnd(Ending.UNFIT, failure=failure_of(error), cause="not_loadable", reason=reason)
        try:
            args, kwargs = loaded.codec.decode(frame.body, head["codec"], head["version"])
        except DecodeError as error:
            return RawEnd(Ending.UNFIT, cause="bad_payload", reason=error.explain())
        facts = facts_from(head["facts"])
        voice = Voice(self._link, head["run"], self._env)
        if ctx is not None:
            args = placed(loaded.fn, ctx, Ctx(facts, voice), args, kwargs)
        token = current.set(JobFields(facts.id, facts.task, facts.queue, facts.attempt))
        try:
            end = self._call(loaded, args, kwargs)
        finally:
            current.reset(token)
        voice.flush()
        return end

    def _load(self, address: Address, task: str, ctx: str | None, version: int) -> Loaded:
        key = (address, task)
        if key not in self._loaded:
            loading.load(address)
            fn, outer = find(address, task)
            work = getattr(outer, "work", None)  # a Task has its codec, with its app's limits
            codec = work.codec if isinstance(work, Work) and work.name == task else codec_of(fn, task, ctx, version)
            self._loaded[key] = Loaded(fn, codec)
            self._link.send({"kind": "began"})
        return self._loaded[key]

    def _call(self, loaded: Loaded, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RawEnd:
        self._running = True
        try:
            end = returned(loaded.codec, loaded.fn(*args, **kwargs))
        except SystemExit as error:
            exit_now(_exit_code(error))
        except Stopped:
            exit_now(128 + signal.SIGTERM)
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is the end of its attempt, as data
            self._spoiled = isinstance(error, MemoryError)
            end = raised(error)
        finally:
            self._running = False
        if self._stopped:
            exit_now(128 + signal.SIGTERM)
        return end


def codec_of(fn: Callable[..., Any], task: str, ctx: str | None, version: int) -> CallCodec:
    """The codec that the worker's side made from this function's signature, made again."""
    hints = typing.get_type_hints(fn, include_extras=True)
    slots = tuple(
        Slot(
            each.name,
            each.kind,
            Shape(hints.get(each.name, Any)),
            each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD),
            None if each.default is each.empty else each.default,
        )
        for each in inspect.signature(fn).parameters.values()
        if each.name != ctx
    )
    returns = hints.get("return", Any)
    return SignatureCodec(task, slots, returns, version=version, payload_bytes_max=BODY_BYTES_MAX)


def facts_from(head: Head) -> Facts:
    facts = Facts(**head)
    return evolve(facts, tags=tuple((key, value) for key, value in facts.tags))


def _ignored(_signal: int, _frame: FrameType | None) -> None:
    """Nothing to do."""


def _exit_code(error: SystemExit) -> int:
    """As the interpreter reads it: None is 0, a text is printed and is 1."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a task may have closed or replaced it, its reader may be gone
            stream.flush()


def exit_now(code: int) -> NoReturn:
    """Leave without waiting for threads that a task may have left behind."""
    _flush()
    os._exit(code)


def die_with_worker(lifeline: int) -> None:
    """Arrange that this process group is killed when the worker's end of the pipe closes, for whatever reason."""
    os.set_inheritable(lifeline, False)
    if not hasattr(fcntl, "F_SETSIG"):
        threading.Thread(target=_watch, args=(lifeline,), daemon=True, name="taskweave lifeline").start()
        return
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | fcntl.FASYNC | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):  # nothing to read: the worker is alive
        if not os.read(lifeline, 1):
            os._exit(1)  # it died before the kernel was asked to tell


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    """Serve the worker that started this process with `main channel lifeline path...` until it closes the channel."""
    channel, lifeline = int(sys.argv[1]), int(sys.argv[2])
    die_with_worker(lifeline)
    link = Link(channel)
    hello = link.receive()
    if hello is None:
        return
    sys.argv[:] = hello.head["argv"]
    LogToWorker.install(link.send, lambda: link.closed, hello.head["log_level"])
    try:
        Child(link).serve()
    except Stopped:
        exit_now(128 + signal.SIGTERM)
    except OSError:
        exit_now(1)  # the worker has left, or a task has closed the channel; there is nobody to tell
    exit_now(0)
