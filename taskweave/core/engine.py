"""The worker's brain: what happened comes in, what to do goes out; no I/O, no clock, no await.

The engine holds what one member runs, the settlements that wait for the next exchange, and at most one exchange
under way. Everything that ends meanwhile rides on the next one, so batches grow with the load and an idle worker
answers at once, without any timer.

Rules
  - An exchange that failed is resent as it was, claim_id and all, until the store has answered: its outcome is
    unknown, and its tokens make the repeat harmless.
  - Claimed jobs ≤ free slots. At most half of the slots are claimed at once, so that one half runs while the other
    is exchanged.
  - A run that was told to stop and does not within `obey_us` is decided without it; its slot stays taken until it
    ends, and what it says then is ignored (its fence would refuse it anyway).
  - A run may settle its own success in a transaction of the task (Committed). Then nothing is settled here, whatever
    it does afterwards, and a lease that is found lost is lost because the job has ended.
  - `wake_at()` is the one number the driver sleeps on; a Ticked at that instant makes progress.
Rejected: renewing leases here. A blocked event loop must not lose its leases, so the keeper has its own thread and
book (core.lease) and only tells of what is lost.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Final

from attrs import define, field, frozen

from taskweave.core.effects import Abandon, Announce, CancelRun, CheckIdle, Effect, Run, SendExchange, Stop, Why
from taskweave.core.endings import settlement_of, stopped, succeeded
from taskweave.core.events import (
    CancelsRequested,
    Committed,
    Ended,
    Ending,
    Event,
    ExchangeAnswered,
    ExchangeFailed,
    IdleChecked,
    LeasesLost,
    Progressed,
    RunEnded,
    StopRequested,
    Ticked,
    Woken,
)
from taskweave.core.ids import MILLISECOND, SECOND, Fence, JobId, Micros
from taskweave.core.life import fragile
from taskweave.core.retry import Retry
from taskweave.core.verbs import CancelRequested, Claimed, Exchange, Lease, LeaseProgress, Settlement

BACKOFF_BASE_US: Final[Micros] = 100 * MILLISECOND
BACKOFF_CAP_US: Final[Micros] = 30 * SECOND
GATHER_US: Final[Micros] = 10 * MILLISECOND  # how long slots that became free quietly may wait for others
LATE_STOP_US: Final[Micros] = 2 * SECOND  # after the grace of a drain, what cannot be settled is left to its lease


def backoff_us(failures: int, jitter: float) -> Micros:
    """How long to leave a store alone that has failed this often in a row; `jitter` is in [0, 1)."""
    most = min(BACKOFF_CAP_US, BACKOFF_BASE_US << min(failures - 1, 20))
    return max(MILLISECOND, int(most * jitter))


@frozen
class Settings:
    """How one member works. `queues` are names with weights; spans in microseconds."""

    member: str
    queues: tuple[tuple[str, int], ...] = (("default", 1),)
    slots: int = 100
    lease_us: Micros = 30 * SECOND
    poll_us: Micros = SECOND
    obey_us: Micros = 5 * SECOND  # how long a run may take to obey a stop
    obey_drain_us: Micros = SECOND
    attend_us: Micros = 250 * MILLISECOND  # a hint met with all slots taken is followed at most this often
    progress_us: Micros = SECOND
    until_idle: bool = False  # stop when nothing is left to do, now or later, here or elsewhere


@define
class Lane:
    """The tasks that share a bounded way of running (child processes, the loop and threads) and its slots.

    A job is claimed only when its lane can run it at once: waiting in a worker it would block other workers, and its
    timeout would run out for nothing. Each exchange claims for one lane; hungry lanes take turns.
    """

    tasks: tuple[str, ...]
    slots: int
    used: int = 0
    hungry: bool = True  # there may be something to claim

    @property
    def most(self) -> int:
        """Claimed by one exchange: half of the slots, so that one half runs while the other is exchanged."""
        return min(self.slots - self.used, max(1, (self.slots + 1) // 2))


@define
class Running:
    """One run: `why` is set once it has been told to stop, `committed` once its success is in the store."""

    job: Claimed
    began: Micros
    lane: Lane
    fragile: bool  # one more lost lease makes it poison
    why: Why | None = None
    asked: str | None = None
    committed: bool = False


@define
class Engine:
    """One worker's state; `handle` never awaits, so every step is atomic."""

    settings: Settings
    policies: Mapping[str, Retry | None]
    new_id: Callable[[], str]
    lanes: tuple[Lane, ...] = ()  # of tasks that have fewer slots than the worker; the rest shares one more

    running: dict[JobId, Running] = field(factory=dict[JobId, Running])
    left: dict[tuple[JobId, Fence], Lane] = field(  # decided without them; each still takes a slot
        factory=dict[tuple[JobId, Fence], Lane]
    )
    outbox: list[Settlement] = field(factory=list[Settlement])
    progress: dict[JobId, LeaseProgress] = field(factory=dict[JobId, LeaseProgress])
    stopped: bool = False
    sent: Exchange | None = None
    _resend_at: Micros | None = None  # set while `sent` waits to be sent again
    _failures: int = 0
    _quiet: bool = False  # slots became free since the last exchange without anything to settle
    _hinted: bool = False  # something in the store has changed since the last exchange
    _poll_at: Micros = 0
    _last_sent: Micros = -(1 << 62)  # of the exchange's first sending, which a lease may date from; not of a resend
    _later: bool = True  # the store may hold jobs that are due later
    _deadlines: list[tuple[Micros, JobId, Fence]] = field(factory=list[tuple[Micros, JobId, Fence]])
    _checking: bool = False  # a CheckIdle is under way
    _alone: bool = False  # the last one found that nobody runs anything; an exchange that finds work forgets it
    _grace_until: Micros | None = None  # set while draining
    _drained: bool = False  # the rest has been told to stop
    _credits: dict[str, int] = field(factory=dict[str, int])
    _lane_of: dict[str, Lane] = field(factory=dict[str, Lane])

    def __attrs_post_init__(self) -> None:
        narrow = {task for lane in self.lanes for task in lane.tasks}
        rest = Lane(tuple(sorted(self.policies.keys() - narrow)), self.settings.slots)
        self.lanes = tuple(lane for lane in (rest, *self.lanes) if lane.tasks) or (rest,)
        self._lane_of = {task: lane for lane in self.lanes for task in lane.tasks}
        self._credits = {queue: 0 for queue, _ in self.settings.queues}

    @property
    def used(self) -> int:
        """Slots that are taken."""
        return len(self.running) + len(self.left)

    def handle(self, event: Event, now: Micros) -> list[Effect]:
        """Return what to do, in the order in which to do it."""
        effects: list[Effect] = []
        if self.stopped:
            return effects
        match event:
            case Ended(runs):
                for run in runs:
                    self._ended(run, now, effects)
            case Committed(run_ended):
                self._committed(run_ended, effects)
            case ExchangeAnswered():
                self._answered(event, now, effects)
            case ExchangeFailed():
                self._failed(event, now, effects)
            case Woken():
                self._hinted = True
                self._hunger()
            case IdleChecked(leased):
                self._checking = False
                self._alone = not leased
            case CancelsRequested(requests):
                self._cancel(requests, now, effects)
            case LeasesLost(leases):
                for lease in leases:
                    run_ = self.running.get(lease.id)
                    if run_ is not None and run_.job.fence == lease.fence and not run_.committed:
                        self._stop_run(run_, Why.LEASE_LOST, None, now, effects)
            case Progressed(reports):
                for report in reports:
                    run_ = self.running.get(report.id)
                    if run_ is None or not run_.committed:
                        self.progress[report.id] = report
            case StopRequested(grace_us):
                self._grace_until = now if self._grace_until is not None else now + grace_us
            case Ticked():
                pass
        self._enforce(now, effects)
        self._exchange(now, effects)
        self._finish(now, effects)
        return effects

    def wake_at(self) -> Micros | None:
        """The next instant at which a Ticked would do something; None when only an event can."""
        if self.stopped:
            return None
        at: list[Micros] = [self._deadlines[0][0]] if self._deadlines else []
        if self._grace_until is not None:
            at.append(self._grace_until + LATE_STOP_US if self._drained else self._grace_until)
        if self.sent is not None:
            if self._resend_at is not None:
                at.append(self._resend_at)
        else:
            if any(self._free(lane) for lane in self.lanes):
                at.append(self._poll_at)
                if self._quiet and any(lane.hungry and self._free(lane) for lane in self.lanes):
                    at.append(self._last_sent + GATHER_US)
            elif self._hinted and self.running:
                at.append(self._last_sent + self.settings.attend_us)
            if self.progress:
                at.append(self._last_sent + self.settings.progress_us)
        return min(at, default=None)

    # --- ends of runs ---------------------------------------------------------------------------------------------

    def _ended(self, run: RunEnded, now: Micros, effects: list[Effect]) -> None:
        running = self.running.get(run.id)
        if running is None or running.job.fence != run.fence:
            lane = self.left.pop((run.id, run.fence), None)
            if lane is not None:
                lane.used -= 1
            return
        if run.ending is Ending.COMMITTED:
            self._committed(run, effects)
        elif run.ending is Ending.REFUSED:
            effects.append(Announce((), (Lease(run.id, run.fence),)))
        del self.running[run.id]
        running.lane.used -= 1
        if running.fragile:
            self._hunger()  # another job that must not be lost once more may be claimed now
        self.progress.pop(run.id, None)
        self._settle(run, running, now)

    def _settle(self, run: RunEnded, running: Running, now: Micros) -> None:
        """Have the end of this run settled by the next exchange, unless it was settled by the run itself."""
        if running.committed:
            self._quiet = True
            return
        job = running.job
        policy = self.policies.get(job.spec.task)
        settlement = settlement_of(run, job, policy, running.why, now - running.began, running.asked)
        if settlement is not None:
            self.outbox.append(settlement)

    def _committed(self, run: RunEnded, effects: list[Effect]) -> None:
        """The run has settled its own success: tell of it once, and say nothing else of this attempt."""
        running = self.running.get(run.id)
        if running is not None and running.job.fence == run.fence:
            if running.committed:
                return
            running.committed, running.fragile = True, False
            self.progress.pop(run.id, None)
        elif (run.id, run.fence) in self.left:  # the store took its success before what was decided without it
            self.outbox = [each for each in self.outbox if (each.id, each.fence) != (run.id, run.fence)]
        else:
            return
        effects.append(Announce((succeeded(run),)))
        self._hunger()  # its children, or what it made room for, may be claimed as with any other end

    def _stop_run(self, running: Running, why: Why, asked: str | None, now: Micros, effects: list[Effect]) -> None:
        """Tell a run to stop, once; a lost lease is stronger than any other reason."""
        job = running.job
        if running.why is not None:
            if why is Why.LEASE_LOST:
                running.why = why
            return
        running.why, running.asked = why, asked
        obey = self.settings.obey_drain_us if why is Why.DRAIN else self.settings.obey_us
        heapq.heappush(self._deadlines, (now + obey, job.id, job.fence))
        effects.append(CancelRun(job.id, job.fence, why))

    def _cancel(self, requests: tuple[CancelRequested, ...], now: Micros, effects: list[Effect]) -> None:
        for request in requests:
            running = self.running.get(request.id)
            if running is not None and running.job.fence == request.fence:
                self._stop_run(running, Why.CANCELLED, request.reason, now, effects)

    def _enforce(self, now: Micros, effects: list[Effect]) -> None:
        """Deadlines that have come: of timeouts, of runs that do not obey, of the drain."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, id, fence = heapq.heappop(self._deadlines)
            running = self.running.get(id)
            if running is None or running.job.fence != fence:
                continue
            if running.why is None:
                self._stop_run(running, Why.TIMEOUT, None, now, effects)
            else:
                self._leave(running, now, effects)
        if self._grace_until is not None and now >= self._grace_until and not self._drained:
            self._drained = True
            for running in self.running.values():
                self._stop_run(running, Why.DRAIN, None, now, effects)

    def _leave(self, running: Running, now: Micros, effects: list[Effect]) -> None:
        """Decide a run that ignores its cancellation; it keeps its slot until it ends."""
        job = running.job
        del self.running[job.id]
        if running.fragile:
            self._hunger()
        self.left[job.id, job.fence] = running.lane
        self.progress.pop(job.id, None)
        run = RunEnded(job.id, job.fence, Ending.STOPPED, reason="it ignored its cancellation and was left behind")
        self._settle(run, running, now)
        effects.append(Abandon(job.id, job.fence))

    # --- exchanges ------------------------------------------------------------------------------------------------

    def _hunger(self) -> None:
        for lane in self.lanes:
            lane.hungry = True

    def _free(self, lane: Lane) -> int:
        """How many jobs may be claimed for this lane now."""
        return 0 if self._grace_until is not None else min(lane.most, self.settings.slots - self.used)

    def _worth(self, lane: Lane, now: Micros) -> bool:
        """Whether a hungry lane is claimed for now.

        Ends gather by themselves while an exchange is under way, and the next one settles them and claims. Runs that
        settle themselves leave nothing to settle: an exchange for each of them would cost more than most of them do.
        """
        free = self._free(lane)
        return free > 0 and (not self._quiet or free * 2 >= lane.slots or now - self._last_sent >= GATHER_US)

    def _next_lane(self, now: Micros, *, anyway: bool) -> Lane | None:
        """The lane to claim for: a hungry one that has waited longest; with `anyway`, any that has a free slot."""
        for lane in self.lanes:
            if self._free(lane) if anyway else lane.hungry and self._worth(lane, now):
                self.lanes = (*(other for other in self.lanes if other is not lane), lane)
                return lane
        return None

    def _exchange(self, now: Micros, effects: list[Effect]) -> None:
        """Send the next exchange if one is due and none is under way."""
        if self.sent is not None:
            if self._resend_at is not None and now >= self._resend_at:
                self._resend_at = None
                effects.append(SendExchange(self.sent))
            return
        if now >= self._poll_at:
            self._hunger()
        since = now - self._last_sent
        attend = self._hinted and bool(self.running) and since >= self.settings.attend_us
        report = bool(self.progress) and since >= self.settings.progress_us
        lane = self._next_lane(now, anyway=False)
        if not (lane or self.outbox or attend or report):
            return
        lane = lane or self._next_lane(now, anyway=True)  # the trip is made anyway
        want = 0 if lane is None else self._free(lane)
        held = sum(running.fragile for running in self.running.values())
        self.sent = Exchange(
            self.settings.member,
            self.new_id(),
            want,
            self._queue_order(),
            () if lane is None else lane.tasks,
            self.settings.lease_us,
            tuple(self.outbox),
            tuple(self.progress.values()),
            max(0, 1 - held),
        )
        self.outbox = []
        self.progress = {}
        if lane is not None:
            lane.hungry = False
        self._hinted = self._quiet = False
        self._last_sent = now
        effects.append(SendExchange(self.sent))

    def _queue_order(self) -> tuple[str, ...]:
        """The queues by smooth weighted round-robin: a queue of weight 3 comes first three times as often as of 1."""
        queues = self.settings.queues
        if len(queues) == 1:
            return (queues[0][0],)
        for queue, weight in queues:
            self._credits[queue] += weight
        order = sorted(self._credits, key=lambda queue: -self._credits[queue])
        self._credits[order[0]] -= sum(weight for _, weight in queues)
        return tuple(order)

    def _answered(self, event: ExchangeAnswered, now: Micros, effects: list[Effect]) -> None:
        sent, answer = self.sent, event.answer
        if sent is None or sent.claim_id != event.claim_id:
            return
        self.sent = None
        self._failures = 0
        if sent.settle:
            stale = {(lease.id, lease.fence) for lease in answer.refused}
            settled = tuple(s for s in sent.settle if (s.id, s.fence) not in stale) if stale else sent.settle
            effects.append(Announce(settled, answer.refused))
        if answer.claimed:
            self._start(event, now, effects)
        self._cancel(answer.cancels, now, effects)
        if sent.want and len(answer.claimed) >= sent.want:
            self._lane_of.get(answer.claimed[0].spec.task, self.lanes[0]).hungry = True
        if sent.want:
            wait = self.settings.poll_us
            if answer.next_due is not None:
                wait = min(wait, max(answer.next_due - answer.now, MILLISECOND))
            self._poll_at = now + wait
            self._later = answer.next_due is not None or bool(answer.claimed) or not sent.fragile
            if self.settings.until_idle and not self._later and not self.running and not self._checking:
                self._checking, self._alone = True, False
                effects.append(CheckIdle(tuple(queue for queue, _ in self.settings.queues)))

    def _start(self, event: ExchangeAnswered, now: Micros, effects: list[Effect]) -> None:
        claimed = event.answer.claimed
        if self._grace_until is not None:  # the answer of an exchange sent before the stop: give back, unharmed
            for job in claimed:
                run = RunEnded(job.id, job.fence, Ending.STOPPED)
                self.outbox.append(stopped(run, Why.DRAIN, None))
            return
        for job in claimed:
            older = self.running.pop(job.id, None)
            if older is not None:  # its lease was lost and it has come back to us: the old run has no say any more
                self.left[job.id, older.job.fence] = older.lane
                effects.append(CancelRun(job.id, older.job.fence, Why.LEASE_LOST))
            lane = self._lane_of.get(job.spec.task, self.lanes[0])  # a source that cannot filter sends any task
            lane.used += 1
            self.running[job.id] = Running(job, now, lane, fragile(job.spec, job.lost_count))
            if job.spec.timeout_us is not None:
                heapq.heappush(self._deadlines, (now + job.spec.timeout_us, job.id, job.fence))
        effects.append(Run(claimed, self._last_sent))

    def _failed(self, event: ExchangeFailed, now: Micros, effects: list[Effect]) -> None:
        if self.sent is None or self.sent.claim_id != event.claim_id:
            return
        if not event.transient:
            self.stopped = True
            effects.append(Stop(event.problem))
            return
        self._failures += 1
        self._resend_at = now + backoff_us(self._failures, event.jitter)

    # --- the end --------------------------------------------------------------------------------------------------

    def _finish(self, now: Micros, effects: list[Effect]) -> None:
        if self.stopped:
            return
        quiet = not self.running and not self.outbox and self.sent is None
        draining = self._grace_until is not None
        late = draining and self._drained and now >= (self._grace_until or 0) + LATE_STOP_US
        idle = self._alone and not (self._later or self.left or any(lane.hungry for lane in self.lanes))
        if late or (quiet and (draining or idle)):
            self.stopped = True
            effects.append(Stop())
