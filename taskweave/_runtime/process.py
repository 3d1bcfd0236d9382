"""Process mode: functions run in child processes of this worker, which can really be killed.

Theory
  A pool of children, started when they are needed, up to `processes`, and used again. One run has one child; a run
  that is cancelled takes its child with it, and the next run starts another. Payload and result stay bytes on the
  worker's side: the child decodes and encodes with the codec that it made from the function's own signature.
Rules
  Whatever the function does to its process, the run ends with a RawEnd: DIED when the process has exited.
  Cancelling a run returns when its process is gone: SIGTERM, and SIGKILL after `grace` seconds.
  A child that breaks the protocol, claims too much memory, or does not get past loading is stopped.
Limits: a run that waits for a free child already counts as running, its timeout included. Tasks must not change the
  limits of their process (setrlimit) for those that come after them.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import AsyncExitStack
from typing import Final

import anyio
from attrs import asdict, evolve

from taskweave._runtime.address import Address, address_of
from taskweave._runtime.ctx import Facts, Sink
from taskweave._runtime.ends import RawEnd
from taskweave._runtime.frames import BadFrame, Frame
from taskweave._runtime.messages import log_from, spec_from
from taskweave._runtime.offspring import Offspring
from taskweave._runtime.work import Work
from taskweave.core.events import Ending
from taskweave.core.job import Failure, Progress, Spec
from taskweave.observe.logging import JobFields, current

GRACE_SECONDS: Final = 0.5
LOAD_SECONDS_MAX: Final = 120.0

log = logging.getLogger("taskweave.process")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ProcessMode:
    """Keeps up to `processes` children and leaves none behind; open it with `async with`, in any task.

    `grace` is how many seconds a stopped child has for its `finally` blocks before it is killed, `load_seconds_max`
    how long it may take to start and to import a task's module.
    """

    def __init__(
        self,
        processes: int | None = None,
        *,
        grace: float = GRACE_SECONDS,
        load_seconds_max: float = LOAD_SECONDS_MAX,
    ) -> None:
        self.processes = processes or processors()
        self._grace, self._load_seconds_max = grace, load_seconds_max
        self._slots = anyio.Semaphore(self.processes)
        self._idle: list[Offspring] = []
        self._busy: set[Offspring] = set()
        self._addresses: dict[str, Address] = {}
        self._runs = 0

    @property
    def pids(self) -> list[int]:
        """The children there are, busy or idle."""
        return [child.pid for child in (*self._busy, *self._idle)]

    async def __aenter__(self) -> ProcessMode:
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for child in self._idle:
                    group.start_soon(child.dismiss, self._grace)
                for child in self._busy:  # their runs were cancelled, or are given up here
                    group.start_soon(child.stop, 0.0)
        self._idle.clear()
        self._busy.clear()

    async def run_raw(self, work: Work, payload: bytes, codec: str, version: int, facts: Facts, voice: Sink) -> RawEnd:
        """Run one attempt in a child and return how it ended; cancelling returns when the child is gone.

        `voice` is told of progress and spawned jobs while the function runs; the child's log records go to this
        process's loggers. Raises InvalidTask when a child cannot find the function.
        """
        address = self._addresses.get(work.name)
        if address is None:
            address = self._addresses[work.name] = address_of(work.fn, work.name)
        self._runs = run = self._runs + 1  # kept here: others come while this one waits for a child
        head = {"kind": "run", "run": run, "task": work.name, "ctx": work.ctx, "address": asdict(address)}
        head |= {"codec": codec, "version": version, "facts": asdict(facts)}
        head["task_version"] = getattr(work.codec, "version", 1)
        async with self._slots, AsyncExitStack() as stack:
            try:
                child = await self._take()
            except OSError as error:
                return RawEnd(Ending.UNFIT, cause="process_start", reason=f"no child process can be started: {error}")
            stack.push_async_callback(self._give_back, child)
            talk = _Talk(child, run, facts, voice)
            try:
                await child.send(head, payload)
                end = await self._loaded(talk, address, work.name) or await talk.until_end()
            except BadFrame as error:
                end = _broken(str(error))
            if end is None:
                self._busy.discard(child)
                end = _died(await child.reap(self._grace))
            elif talk.reusable:
                self._busy.discard(child)
                self._idle.append(child)
            return end

    async def _take(self) -> Offspring:
        """An idle child that lives, or a new one; those that died meanwhile are reaped."""
        while self._idle:
            child = self._idle.pop()
            if not child.gone():
                self._busy.add(child)
                return child
            await child.reap(self._grace)
        child = Offspring(logging.getLogger().getEffectiveLevel())
        self._busy.add(child)
        return child

    async def _give_back(self, child: Offspring) -> None:
        """Stop a child whose run has not ended in a way that lets it be used again."""
        if child in self._busy:
            await child.stop(self._grace)
            self._busy.discard(child)

    async def _loaded(self, talk: _Talk, address: Address, task: str) -> RawEnd | None:
        """Wait until the child has the function; the end if it says so first, or takes too long."""
        if (address, task) in talk.child.known:
            return None
        end: RawEnd | None = None
        with anyio.move_on_after(self._load_seconds_max) as scope:
            end = await talk.until_began()
        if scope.cancelled_caught:
            where = address.script or address.module
            reason = f"{where} was not loaded after {self._load_seconds_max:g} s; does it start work when imported?"
            return RawEnd(Ending.ABORTED, failure=_failure("LoadTimeout", reason), cause="not_loadable", reason=reason)
        if talk.began:
            talk.child.known.add((address, task))
        return end


class _Talk:
    """What one run and its child say to each other."""

    def __init__(self, child: Offspring, run: int, facts: Facts, voice: Sink) -> None:
        self.child, self._run, self._facts, self._voice = child, run, facts, voice
        self.began = False
        self.reusable = False
        self._spawned: list[Spec] = []

    async def until_began(self) -> RawEnd | None:
        """None when the function has begun, or the child died before it could."""
        while not self.began:
            frame = await self.child.receive()
            if frame is None:
                return None
            if (end := self._hear(frame)) is not None:
                return end
        return None

    async def until_end(self) -> RawEnd | None:
        """The end, or None when the child died."""
        while (frame := await self.child.receive()) is not None:
            if (end := self._hear(frame)) is not None:
                return end
        return None

    def _hear(self, frame: Frame) -> RawEnd | None:
        head = frame.head
        try:
            match head.get("kind"):
                case "ready":
                    self.child.ready = True
                case "began":
                    self.began = True
                case "log":
                    self._log(frame)
                case "progress" if head["run"] == self._run:
                    self._voice.progress(Progress(**head["progress"]))
                case "spawn" if head["run"] == self._run:
                    self._voice.spawn(spec_from(head["spec"], frame.body))
                case "end" if head["run"] == self._run:
                    return self._end(frame)
                case "progress" | "spawn":
                    log.warning("task %s spoke after its run had ended; it was not heard", self._facts.task)
                case kind:
                    raise BadFrame(f"a child said {kind!r:.50}, which means nothing")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadFrame(f"a child's {head.get('kind')!r:.50} frame is not whole: {error!r:.200}") from error
        return None

    def _end(self, frame: Frame) -> RawEnd:
        head = frame.head
        text = head["failure"]
        failure = None if text is None else evolve(Failure(**text), kinds=tuple(text["kinds"]))
        result = frame.body if head["returned"] else None
        self.reusable = not head["last"]
        return RawEnd(Ending[head["ending"]], result, failure, head["delay_us"], head["cause"], head["reason"])

    def _log(self, frame: Frame) -> None:
        facts = self._facts
        token = current.set(JobFields(facts.id, facts.task, facts.queue, facts.attempt))
        try:
            log_from(frame.head)
        finally:
            current.reset(token)


def _failure(type: str, message: str) -> Failure:
    return Failure(type, message, kinds=(f"taskweave.{type}", "builtins.Exception"))


def _broken(problem: str) -> RawEnd:
    reason = f"its process broke the protocol and was stopped: {problem}"
    return RawEnd(Ending.DIED, failure=_failure("ProcessDied", reason), cause="died", reason=reason)


def _died(code: int | None) -> RawEnd:
    """How a process that went away by itself left, in words."""
    if code is None:
        reason = "its process does not answer, and cannot be killed"
    elif code >= 0:
        reason = f"its process exited with code {code}"
    else:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        hint = "; the system may have been out of memory" if name == "SIGKILL" else ""
        reason = f"its process was killed by {name}{hint}"
    return RawEnd(Ending.DIED, failure=_failure("ProcessDied", reason), cause="died", reason=reason)
