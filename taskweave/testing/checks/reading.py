"""Reads: complete, newest first, stable while others write, and numbers that equal a count by hand."""

from __future__ import annotations

from collections import Counter

from taskweave.core.ids import SECOND
from taskweave.core.job import State, Verb
from taskweave.core.verbs import Count, DeleteJobs, Find, Load, PauseQueue
from taskweave.testing.checks.operating import every_state
from taskweave.testing.checks.registry import proves
from taskweave.testing.pair import Pair, meets


async def _found(pair: Pair, op: Find) -> list[str]:
    return [job.id for job in (await pair.apply(op)).jobs]


@proves("I26")
async def loads_in_the_order_asked_for(pair: Pair) -> None:
    first, second = await pair.add(), await pair.add(delay_us=1)
    jobs = await pair.apply(Load((second, "nobody", first, second)))
    meets([job and job.id for job in jobs], [second, None, first, second], "loaded")
    meets(await pair.apply(Load(())), (), "loaded none")


@proves("I26")
async def loads_many_at_once(pair: Pair) -> None:
    specs = [pair.new() for _ in range(700)]
    await pair.enqueue(*specs)
    jobs = await pair.apply(Load(tuple([spec.id for spec in specs[::-1]])))
    meets(sum(job is not None for job in jobs), 700, "loaded")


@proves("I26")
async def finds_the_newest_first(pair: Pair) -> None:
    added = [await pair.add(priority=number) for number in (3, 1, 2)]
    meets(await _found(pair, Find()), added[::-1], "found")


@proves("I26")
async def finds_by_each_state(pair: Pair) -> None:
    ids = await every_state(pair)
    for state, id in ids.items():
        meets(await _found(pair, Find((state,))), [id], f"those that are {state}")


@proves("I26")
async def finds_by_several_states(pair: Pair) -> None:
    await every_state(pair)
    for states in ((State.FAILED, State.READY), (State.RUNNING, State.LOST), (State.READY, State.READY), tuple(State)):
        meets(len(await _found(pair, Find(states))), len(set(states)), f"those that are {states}")


@proves("I26")
async def finds_by_queue_and_task(pair: Pair) -> None:
    ids = [await pair.add(queue=queue, task=task) for queue in ("a", "b") for task in ("x", "y")]
    meets(await _found(pair, Find(queue="b")), [ids[3], ids[2]], "of a queue")
    meets(await _found(pair, Find(task="x")), [ids[2], ids[0]], "of a task")
    meets(await _found(pair, Find(queue="a", task="y")), [ids[1]], "of both")
    meets(await _found(pair, Find(queue="none")), [], "of none")


@proves("I26")
async def finds_by_tags(pair: Pair) -> None:
    both = await pair.add(tags=(("a", "1"), ("b", "2")))
    one = await pair.add(tags=(("a", "1"),))
    await pair.add(tags=(("a", "2"), ("b", "1")))
    meets(await _found(pair, Find(tags=(("a", "1"),))), [one, both], "of one tag")
    meets(await _found(pair, Find(tags=(("b", "2"), ("a", "1")))), [both], "of two tags")
    meets(await _found(pair, Find((State.RUNNING,), tags=(("a", "1"),))), [], "of a tag and a state")


@proves("I26")
async def pages_have_the_size_asked_for(pair: Pair) -> None:
    await pair.enqueue(*[pair.new() for _ in range(7)])
    sizes = [len((await pair.apply(Find(limit=limit))).jobs) for limit in (0, 1, 3, 7, 501)]
    meets(sizes, [1, 1, 3, 7, 7], "sizes")


@proves("I26")
async def pages_together_are_everything(pair: Pair) -> None:
    specs = [pair.new(queue="ab"[number % 2]) for number in range(11)]
    await pair.enqueue(*specs)
    newest = [spec.id for spec in specs[::-1]]
    meets(await pair.pages(Find(limit=3)), newest, "pages of three")
    meets(await pair.pages(Find(queue="a", limit=2)), newest[::2], "pages of one queue")
    meets(await pair.pages(Find(limit=11)), newest, "a page that is exactly full")


@proves("I26")
async def pages_are_stable_while_jobs_come_and_go(pair: Pair) -> None:
    added = [await pair.add() for _ in range(6)]
    op = Find(limit=2)
    model, store = pair.model.apply(op, pair.now), await pair.store.apply(op, at=pair.now)
    assert model.next is not None
    assert store.next is not None
    await pair.add()
    await pair.add()
    await pair.apply(DeleteJobs((added[3],)))
    await pair.claim(1)
    meets(await pair._rest(op, model.next, store.next), [added[2], added[1], added[0]], "the rest")


@proves("I26")
async def counts_equal_a_scan(pair: Pair) -> None:
    await every_state(pair, queue="a")
    await every_state(pair)
    stats = await pair.apply(Count())
    scanned = Counter((job.spec.queue, job.state) for job in (await pair.same_dump()).jobs)
    counted = {(each.queue, state): number for each in stats.queues for state, number in each.counts}
    meets(counted, dict(scanned), "the counts")


@proves("I26")
async def queues_are_counted_by_name(pair: Pair) -> None:
    for queue in ("b", "a", "B", "ä", "z", "🐍", "a b", "_"):
        await pair.add(queue=queue)
    await pair.apply(PauseQueue("c"))
    names = [each.queue for each in (await pair.apply(Count())).queues]
    meets(names, sorted(["b", "a", "B", "ä", "z", "🐍", "a b", "_", "c"]), "the queues")


@proves("I26")
async def a_queue_without_jobs_is_not_counted(pair: Pair) -> None:
    await pair.apply(DeleteJobs((await pair.add(),)))
    meets((await pair.apply(Count())).queues, (), "the queues")


@proves("I12")
async def says_how_long_the_oldest_has_waited(pair: Pair) -> None:
    await pair.add(at=pair.now - 3 * SECOND, priority=-1)
    await pair.add(delay_us=9 * SECOND)
    await pair.add(at=pair.now - SECOND, priority=5, task="x")
    (stat,) = (await pair.apply(Count())).queues
    meets(stat.oldest_ready_us, 3 * SECOND, "the oldest")
    await pair.claim(1)
    (stat,) = (await pair.apply(Count())).queues
    meets(stat.oldest_ready_us, SECOND, "the oldest after a claim")


@proves("I12")
async def a_retry_waits_anew(pair: Pair) -> None:
    lease = await pair.start(max_attempts=2)
    pair.passes(SECOND)
    await pair.ends(lease, Verb.RETRY)
    pair.passes(5)
    (stat,) = (await pair.apply(Count())).queues
    meets(stat.oldest_ready_us, 5, "the oldest")
