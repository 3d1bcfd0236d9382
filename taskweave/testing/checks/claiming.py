"""The claim: as many as wanted, of the queues and tasks asked for, in order, and nothing better left behind."""

from __future__ import annotations

from taskweave.core.ids import SECOND
from taskweave.core.job import Progress, State, Verb
from taskweave.core.verbs import CancelJobs, Claimed, Count, LeaseProgress, PauseQueue, Settlement
from taskweave.testing.checks.registry import proves
from taskweave.testing.pair import MEMBER, QUEUE, TASK, Pair, meets


def ids(claimed: tuple[Claimed, ...]) -> list[str]:
    return [job.id for job in claimed]


@proves("I3")
async def claims_nothing_where_there_is_nothing(pair: Pair) -> None:
    answer = await pair.apply(pair.exchange(5, queues=("no such queue", QUEUE)))
    meets((answer.claimed, answer.next_due), ((), None), "an empty store")


@proves("I3")
async def claims_no_more_than_wanted(pair: Pair) -> None:
    added = [await pair.add() for _ in range(5)]
    meets(ids(await pair.claim(3)), added[:3], "three of five")
    meets(ids(await pair.claim(3)), added[3:], "the rest")


@proves("I3")
async def claims_nothing_when_nothing_is_wanted(pair: Pair) -> None:
    await pair.add()
    meets(await pair.claim(0), (), "want 0")


@proves("I3")
async def claims_five_hundred_at_once(pair: Pair) -> None:
    await pair.enqueue(*[pair.new(priority=number % 3) for number in range(600)])
    meets(len(await pair.claim(500)), 500, "claimed")


@proves("I11")
async def takes_the_larger_priority_first(pair: Pair) -> None:
    added = [await pair.add(priority=priority) for priority in (0, -32768, 5, 32767, -1)]
    wanted = [added[3], added[2], added[0], added[4], added[1]]
    meets(ids(await pair.claim(9)), wanted, "by priority")


@proves("I11")
async def takes_the_earlier_due_first(pair: Pair) -> None:
    added = [await pair.add(at=pair.now - early) for early in (1, 3, 2, 2)]
    meets(ids(await pair.claim(9)), [added[1], added[2], added[3], added[0]], "by due time")


@proves("I11")
async def takes_the_earlier_enqueued_first(pair: Pair) -> None:
    batch = [pair.new() for _ in range(12)]
    batch.sort(key=lambda spec: spec.id[::-1])  # ids say nothing about the order
    await pair.enqueue(*batch)
    meets(ids(await pair.claim(12)), [spec.id for spec in batch], "by sequence")


@proves("I11")
async def priority_beats_time_and_time_beats_sequence(pair: Pair) -> None:
    late = await pair.add(priority=1, at=pair.now)
    early = await pair.add(at=1)
    earlier = await pair.add(at=0)
    meets(ids(await pair.claim(9)), [late, earlier, early], "the whole order")


@proves("I11")
async def takes_queues_in_the_order_given(pair: Pair) -> None:
    first, second = await pair.add(queue="a"), await pair.add(queue="b", priority=9)
    other = await pair.add(queue="a", priority=-9)
    meets(ids(await pair.claim(2, queues=("b", "a"))), [second, first], "b before a")
    meets(ids(await pair.claim(2, queues=("b", "a"))), [other], "the rest")


@proves("I11")
async def a_queue_named_twice_counts_once(pair: Pair) -> None:
    added = [await pair.add() for _ in range(3)]
    meets(ids(await pair.claim(9, queues=(QUEUE, "none", QUEUE))), added, "claimed")


@proves("I11")
async def leaves_other_queues_alone(pair: Pair) -> None:
    await pair.add(queue="other")
    meets(await pair.claim(9), (), "claimed")
    meets(await pair.claim(9, queues=()), (), "claimed from no queue")


@proves("I11")
async def takes_from_many_queues(pair: Pair) -> None:
    names = tuple([f"queue {number:02}" for number in range(60)])
    added = [await pair.add(queue=name) for name in names]
    meets(ids(await pair.claim(100, queues=names[::-1])), added[::-1], "from sixty queues")


@proves("I3")
async def takes_only_known_tasks(pair: Pair) -> None:
    await pair.add(task="unknown", priority=9)
    known = await pair.add(task="known")
    meets(ids(await pair.claim(9, tasks=("known", "other", "known"))), [known], "the known task")
    meets(await pair.claim(9, tasks=()), (), "no known tasks")


@proves("I11")
async def merges_the_tasks_of_a_queue_in_one_order(pair: Pair) -> None:
    added = [await pair.add(task=task, priority=priority) for priority in (1, 0) for task in ("y", "x", "z")]
    meets(ids(await pair.claim(9, tasks=("x", "y", "z"))), added, "over three tasks")


@proves("I11")
async def takes_no_job_of_a_paused_queue(pair: Pair) -> None:
    await pair.add(queue="a")
    free = await pair.add(queue="b")
    await pair.apply(PauseQueue("a"))
    meets(ids(await pair.claim(9, queues=("a", "b"))), [free], "beside a paused queue")


@proves("I14")
async def says_when_the_next_job_is_due(pair: Pair) -> None:
    await pair.add(delay_us=3 * SECOND)
    await pair.add(delay_us=2 * SECOND, queue="b")
    await pair.add(delay_us=SECOND, queue="c")
    answer = await pair.apply(pair.exchange(1, queues=(QUEUE, "b")))
    meets(answer.next_due, pair.now + 2 * SECOND, "next_due")


@proves("I14")
async def says_nothing_of_the_next_job_when_it_took_all_it_wanted(pair: Pair) -> None:
    await pair.add()
    await pair.add(delay_us=SECOND)
    meets((await pair.apply(pair.exchange(1))).next_due, None, "next_due")


@proves("I14")
async def a_paused_queue_has_nothing_due(pair: Pair) -> None:
    await pair.add(delay_us=SECOND, queue="a")
    await pair.apply(PauseQueue("a"))
    meets((await pair.apply(pair.exchange(1, queues=("a",)))).next_due, None, "next_due")


@proves("I3", "I14")
async def promotes_what_is_due_before_it_claims(pair: Pair) -> None:
    added = [await pair.add(delay_us=delay) for delay in (2, 1, 3)]
    pair.passes(2)
    meets(ids(await pair.claim(9)), [added[1], added[0]], "those that are due")


@proves("I3")
async def promotes_at_most_a_thousand_jobs_in_an_exchange(pair: Pair) -> None:
    await pair.enqueue(*[pair.new(delay_us=1 + number % 7, queue="ab"[number % 2]) for number in range(1_003)])
    pair.passes(10)
    await pair.apply(pair.exchange(1, queues=("a", "b")))
    stats = await pair.apply(Count())
    meets(sum(each.count(State.SCHEDULED) for each in stats.queues), 3, "still scheduled")


@proves("I3")
async def promotes_only_in_the_queues_it_was_given(pair: Pair) -> None:
    there, elsewhere = await pair.add(delay_us=1), await pair.add(delay_us=1, queue="other")
    pair.passes(1)
    await pair.claim(0)
    meets([await pair.state(there), await pair.state(elsewhere)], [State.READY, State.SCHEDULED], "promoted")


@proves("I4")
async def settles_before_it_claims(pair: Pair) -> None:
    lease = await pair.start(max_attempts=2)
    again = Settlement(lease.id, lease.fence, Verb.RETRY)
    answer = await pair.apply(pair.exchange(1, settle=(again,)))
    meets([(job.id, job.attempt, job.fence) for job in answer.claimed], [(lease.id, 2, 3)], "claimed at once")


@proves("I3")
async def progress_rides_on_an_exchange(pair: Pair) -> None:
    lease = await pair.start()
    made = LeaseProgress(lease.id, lease.fence, Progress(0.25, 3.5, "a note"))
    stale = LeaseProgress(lease.id, lease.fence + 1, Progress(9, 9, "stale"))
    await pair.apply(pair.exchange(0, progress=(made, stale)))


@proves("I23")
async def tells_a_member_of_the_cancels_asked_for(pair: Pair) -> None:
    mine, other = await pair.start(), await pair.start()
    await pair.apply(CancelJobs((mine.id, other.id), "why"))
    answer = await pair.apply(pair.exchange(0))
    meets({each.id for each in answer.cancels}, {mine.id, other.id}, "cancels")
    meets((await pair.apply(pair.exchange(0, member="other"))).cancels, (), "cancels of another member")


@proves("I22")
async def takes_at_most_the_fragile_jobs_it_was_allowed(pair: Pair) -> None:
    leases = [await pair.start(max_lost=2) for _ in range(3)]
    pair.passes(40 * SECOND)
    await pair.maintain()
    healthy = await pair.add(priority=-1)
    meets(await pair.state(leases[0].id), State.READY, "after a lost lease")
    meets(len(await pair.claim(9, fragile=0)), 1, "claimed without fragile ones")
    meets(await pair.state(healthy), State.RUNNING, "the healthy job")
    meets(len(await pair.claim(9, fragile=2)), 2, "claimed with two fragile ones")


@proves("I14")
async def tells_how_long_a_job_has_waited(pair: Pair) -> None:
    await pair.add(at=pair.now - 3 * SECOND)
    (job,) = await pair.claim()
    meets((job.age_us, job.wait_us), (3 * SECOND, 3 * SECOND), "waited")


@proves("I11")
async def a_retry_keeps_its_sequence_and_takes_a_new_due_time(pair: Pair) -> None:
    lease = await pair.start(max_attempts=3)
    pair.passes(5)
    later = await pair.add(at=pair.now - 1)
    await pair.ends(lease, Verb.RETRY)
    meets(ids(await pair.claim(9, member=MEMBER, tasks=(TASK,))), [later, lease.id], "after a retry")
