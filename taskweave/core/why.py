"""What a job waits for, or how it ended, in words: for the one who asks why nothing happens.

Pure: a job and the statistics of its store, both read at about one instant. The first line is the answer, the others
are what else there is to know, and where something can be done about it, the last one is the command.
"""

from __future__ import annotations

from typing import Final

from taskweave.core.ids import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Micros
from taskweave.core.job import UNSTARTED, End, Failure, Hold, Job, State, Verb
from taskweave.core.life import UNFIT_MAX
from taskweave.core.verbs import QueueStat, Stats

_UNITS: Final = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"), (MILLISECOND, "ms"))

_CAUSES: Final = {
    "exhausted": "its attempts are spent",
    "poison": "too many workers vanished while running it",
    "abort": "the task gave up",
    "timeout": "it ran longer than its timeout",
    "unknown_task": "no worker knows its task",
    "bad_payload": "its arguments cannot be decoded",
    "at_most_once": "it may start only once",
    "lease_lost": "its worker vanished, and it may start only once",
    "released": "its worker stopped, and it may start only once",
}


def why(job: Job, stats: Stats, *, ahead: int | None = None) -> tuple[str, ...]:
    """Return at least one line, the first of which answers the question; never raises.

    `stats` is the answer to Count, `ahead` how many jobs start before this one, where that is known.
    """
    queue = next((one for one in stats.queues if one.queue == job.spec.queue), None)
    match job.state:
        case State.SCHEDULED:
            lines = _scheduled(job, queue, stats.now)
        case State.READY:
            lines = _ready(job, queue, ahead)
        case State.RUNNING:
            lines = _running(job, stats.now)
        case _:
            lines = _finished(job, stats.now)
    if job.state in UNSTARTED:
        lines += _before(job)
        lines += _deadline(job, stats.now)
    return tuple(lines)


def span(micros: Micros) -> str:
    """The two largest units of a span: 3 min 20 s."""
    parts: list[str] = []
    for unit, name in _UNITS:
        count, micros = divmod(micros, unit)
        if count:
            parts.append(f"{count} {name}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "less than 1 ms"


# --- before it starts ---------------------------------------------------------------------------------------------


def _scheduled(job: Job, queue: QueueStat | None, now: Micros) -> list[str]:
    left = job.life.run_at - now
    if left > 0:
        return [f"It is scheduled: it may start in {span(left)}.", *_paused(job, queue)]
    line = (
        f"It has been due for {span(-left)}, and nobody has looked at queue {job.spec.queue!r} since: is a worker up?"
    )
    return [line, *_paused(job, queue)]


def _ready(job: Job, queue: QueueStat | None, ahead: int | None) -> list[str]:
    paused = _paused(job, queue)
    if paused:
        return [f"Queue {job.spec.queue!r} is paused, so nothing of it starts.", *paused[1:]]
    others = max(0, queue.count(State.READY) - 1) if queue is not None else 0
    running = queue.count(State.RUNNING) if queue is not None else 0
    if ahead is not None:
        lines = [f"It is ready; {_jobs(ahead)} of queue {job.spec.queue!r} start before it."]
    elif others:
        lines = [f"It is ready, as are {_jobs(others)} more of queue {job.spec.queue!r}; up to all of them go first."]
    else:
        lines = [f"It is ready, and nothing else of queue {job.spec.queue!r} is: it waits for a free worker."]
    if not running:
        lines.append(f"No job of the queue runs now: is a worker up that serves it and knows task {job.spec.task!r}?")
    return lines


def _paused(job: Job, queue: QueueStat | None) -> list[str]:
    if queue is None or not queue.paused:
        return []
    name = job.spec.queue
    return [f"Besides, queue {name!r} is paused.", f"To go on: taskweave queue resume {name}"]


def _before(job: Job) -> list[str]:
    """What earlier starts have to do with it."""
    lines: list[str] = []
    last = job.life.history[-1] if job.life.history else None
    if last is not None and last.verb is Verb.RETRY:
        left = job.spec.max_attempts - job.life.attempt
        lines.append(
            f"Attempt {last.attempt} ended with {_error(last.error)}; {left} of {job.spec.max_attempts} are left."
        )
    elif last is not None and last.verb is Verb.SNOOZE:
        lines.append(f"Its task put it off{_because(last.reason)}; that costs no attempt.")
    elif last is not None and last.verb is Verb.LOSE:
        lines.append(
            f"Worker {last.member} vanished while running it, time {job.life.lost_count} of {job.spec.max_lost}."
        )
    elif last is not None and last.verb is Verb.RELEASE:
        lines.append(f"Worker {last.member} gave it back{_because(last.reason)}.")
    if job.life.unfit_count:
        lines.append(
            f"{job.life.unfit_count} times a worker could not run it: after {UNFIT_MAX} it is a dead letter. "
            f"Does some worker know task {job.spec.task!r} in this version?"
        )
    return lines


def _deadline(job: Job, now: Micros) -> list[str]:
    if job.expires_at is None:
        return []
    if job.expires_at <= now:
        return ["Its deadline has passed: it will not start, and maintenance will mark it expired."]
    return [f"It expires in {span(job.expires_at - now)} if it has not started by then."]


# --- while it runs ------------------------------------------------------------------------------------------------


def _running(job: Job, now: Micros) -> list[str]:
    hold = job.life.hold
    assert hold is not None
    lines = [
        f"It runs: worker {hold.member} started attempt {job.life.attempt} of {job.spec.max_attempts} "
        f"{span(max(0, now - hold.started_at))} ago."
    ]
    if hold.progress is not None:
        of = "" if hold.progress.total is None else f" of {hold.progress.total:g}"
        note = f": {hold.progress.note}" if hold.progress.note else ""
        lines.append(f"Progress: {hold.progress.done:g}{of}{note}.")
    if hold.cancel is not None:
        lines.append(f"It was asked to stop{_because(hold.cancel)}; its worker has been told or will be.")
    return [*lines, _lease(hold, now)]


def _lease(hold: Hold, now: Micros) -> str:
    if hold.lease_until > now:
        return f"Its lease is held for {span(hold.lease_until - now)} more, and renewed while the worker lives."
    over = span(now - hold.lease_until)
    return f"Its lease ran out {over} ago: the worker has vanished, and maintenance will give the job to another."


# --- after its end ------------------------------------------------------------------------------------------------


def _finished(job: Job, now: Micros) -> list[str]:
    end = job.life.end
    assert end is not None
    ago = f"{span(max(0, now - end.finished_at))} ago"
    again = f"To run it again: taskweave job retry {job.id}"
    match job.state:
        case State.SUCCEEDED:
            return [f"It succeeded {ago}.", *_result(end)]
        case State.CANCELLED:
            return [f"It was cancelled {ago}{_because(end.reason)}.", again]
        case State.EXPIRED:
            return [f"It expired {ago}: it could not start before its deadline.", again]
        case _:
            return [f"{_verdict(job)} {ago}: {_cause(end)}.", *_last_error(end), again]


def _verdict(job: Job) -> str:
    return "It became a dead letter" if job.state is State.FAILED else "It was lost"


def _cause(end: End) -> str:
    said = _CAUSES.get(end.cause or "", end.cause or "no cause was recorded")
    return f"{said} ({end.reason})" if end.reason else said


def _last_error(end: End) -> list[str]:
    return [] if end.error is None else [f"Its last error: {_error(end.error)}."]


def _result(end: End) -> list[str]:
    return [] if end.result_dropped is None else [f"Its result is gone: {end.result_dropped}."]


def _error(error: Failure | None) -> str:
    if error is None:
        return "no recorded error"
    return f"{error.type}: {error.message.splitlines()[0]}" if error.message.strip() else error.type


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"
