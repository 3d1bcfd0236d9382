"""Settlement: accepted once, from the owner's fence; a repeat is answered as done, everything else is refused.

The same seven questions for each of the six verbs, and what is special about some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from taskweave.core.bounds import RESULT_BYTES_MAX
from taskweave.core.ids import SECOND, SPAN_MAX_US
from taskweave.core.job import Failure, State, Verb
from taskweave.core.verbs import CancelJobs, Lease, Load, Settlement
from taskweave.exceptions import IllegalTransition, InvalidValue
from taskweave.testing.checks.enqueuing import EVERY_BYTE
from taskweave.testing.checks.registry import Run, add, proves
from taskweave.testing.pair import Pair, meets

FAILURE: Final = Failure("ValueError", "wrong", "Traceback …", ("builtins.ValueError", "builtins.Exception"))
WAYS: Final[dict[Verb, dict[str, Any]]] = {
    Verb.SUCCEED: {"result": b'{"a": 1}'},
    Verb.FAIL: {"error": FAILURE, "cause": "abort", "reason": "no"},
    Verb.RETRY: {"error": FAILURE, "delay_us": SECOND},
    Verb.SNOOZE: {"delay_us": SECOND, "reason": "later"},
    Verb.RELEASE: {"reason": "shutdown"},
    Verb.CANCEL: {"reason": "enough", "cause": "cancelled"},
}


def _end(lease: Lease, verb: Verb, by: int = 0) -> Settlement:
    return Settlement(lease.id, lease.fence + by, verb, **WAYS[verb])


def _of(verb: Verb, ask: Callable[[Pair, Verb], Any]) -> Run:
    async def run(pair: Pair) -> None:
        await ask(pair, verb)

    return run


async def _ends(pair: Pair, verb: Verb) -> None:
    lease = await pair.start(max_attempts=3)
    meets((await pair.settle(_end(lease, verb))).refused, (), "refused")
    state = await pair.state(lease.id)
    meets(state is not State.RUNNING, True, "it ended")


async def _repeated(pair: Pair, verb: Verb) -> None:
    lease = await pair.start(max_attempts=3)
    await pair.settle(_end(lease, verb))
    pair.passes(SECOND // 2)
    meets((await pair.settle(_end(lease, verb))).refused, (), "the repeat is done already")
    await pair.claim()
    meets((await pair.settle(_end(lease, verb))).refused, (), "the repeat after another claim")


async def _twice_in_one(pair: Pair, verb: Verb) -> None:
    lease = await pair.start(max_attempts=3)
    meets((await pair.settle(_end(lease, verb), _end(lease, verb))).refused, (), "refused")


async def _another_end(pair: Pair, verb: Verb) -> None:
    lease = await pair.start(max_attempts=3)
    other = Verb.FAIL if verb is Verb.SUCCEED else Verb.SUCCEED
    answer = await pair.settle(_end(lease, verb), _end(lease, other))
    meets(answer.refused, (lease,), "the second of two ends")
    meets((await pair.settle(_end(lease, other))).refused, (lease,), "another end later")


async def _stale(pair: Pair, verb: Verb) -> None:
    lease = await pair.start(max_attempts=3)
    await pair.ends(lease, Verb.RETRY)
    (taken,) = await pair.claim()
    meets((await pair.settle(_end(lease, verb))).refused, (lease,), "the fence of an earlier claim")
    meets(await pair.fence(lease.id), taken.fence, "the fence")


async def _foreign(pair: Pair, verb: Verb) -> None:
    lease = await pair.start(max_attempts=3)
    answer = await pair.settle(_end(lease, verb, -1), _end(lease, verb, 1), _end(lease, verb, 1 << 40))
    meets(len(answer.refused), 3, "fences that nobody was given")
    meets(await pair.state(lease.id), State.RUNNING, "the job")


async def _unknown(pair: Pair, verb: Verb) -> None:
    waiting = Lease(await pair.add(), 0)
    nobody = Lease("nobody", 1)
    answer = await pair.settle(_end(nobody, verb), _end(waiting, verb))
    meets(answer.refused, (nobody, waiting), "what does not run")


for _verb in WAYS:
    add(f"{_verb}_ends_the_attempt", ("I8",), _of(_verb, _ends))
    add(f"{_verb}_sent_again_is_done_already", ("I4", "I8"), _of(_verb, _repeated))
    add(f"{_verb}_twice_in_one_exchange_is_done_once", ("I8",), _of(_verb, _twice_in_one))
    add(f"{_verb}_and_then_another_end_is_refused", ("I8",), _of(_verb, _another_end))
    add(f"{_verb}_by_an_earlier_fence_is_refused", ("I4",), _of(_verb, _stale))
    add(f"{_verb}_by_a_fence_of_nobody_is_refused", ("I4",), _of(_verb, _foreign))
    add(f"{_verb}_of_what_does_not_run_is_refused", ("I4",), _of(_verb, _unknown))


@proves("I8")
async def no_result_and_an_empty_one_are_told_apart(pair: Pair) -> None:
    wanted: list[bytes | None] = [None, b"", b"null", b"\x00", EVERY_BYTE]
    for result in wanted:
        lease = await pair.start()
        await pair.ends(lease, Verb.SUCCEED, result=result)
        (job,) = await pair.apply(Load((lease.id,)))
        meets(job and job.life.end and job.life.end.result, result, "the result")


@proves("I8", "I25")
async def a_result_of_the_limit_comes_back(pair: Pair) -> None:
    lease = await pair.start()
    await pair.ends(lease, Verb.SUCCEED, result=EVERY_BYTE * (RESULT_BYTES_MAX // 256))


@proves("I8")
async def a_dropped_result_says_why(pair: Pair) -> None:
    await pair.ends(await pair.start(), Verb.SUCCEED, result_dropped="too large")


@proves("I8")
async def a_repeat_with_another_result_is_refused(pair: Pair) -> None:
    lease = await pair.start()
    await pair.ends(lease, Verb.SUCCEED, result=b"1")
    meets(await pair.ends(lease, Verb.SUCCEED, result=b"2"), False, "another result")
    meets(await pair.ends(lease, Verb.SUCCEED), False, "no result")
    meets(await pair.ends(lease, Verb.SUCCEED, result=b"1"), True, "the same result")


@proves("I4")
async def a_refused_end_stops_neither_the_others_nor_the_claim(pair: Pair) -> None:
    first, second = await pair.start(), await pair.start()
    waiting = await pair.add()
    ends = (_end(first, Verb.SUCCEED), _end(Lease("nobody", 1), Verb.FAIL), _end(second, Verb.FAIL))
    answer = await pair.apply(pair.exchange(1, settle=ends))
    meets(([each.id for each in answer.refused], [job.id for job in answer.claimed]), (["nobody"], [waiting]), "both")


@proves("I5")
async def many_ends_in_one_exchange(pair: Pair) -> None:
    await pair.enqueue(*[pair.new(max_attempts=1 + number % 3) for number in range(60)])
    taken = await pair.claim(60)
    verbs = list(WAYS)
    ends = [_end(Lease(job.id, job.fence), verbs[number % len(verbs)]) for number, job in enumerate(taken)]
    meets((await pair.settle(*ends, want=20)).refused, (), "refused")


@proves("I25")
async def refuses_a_verb_that_is_no_end(pair: Pair) -> None:
    lease = await pair.start()
    for verb in (Verb.PROMOTE, Verb.LOSE, Verb.EXPIRE, Verb.REVIVE):
        await pair.refuses(pair.exchange(0, settle=(Settlement(lease.id, lease.fence, verb),)), IllegalTransition)


@proves("I25")
async def refuses_a_delay_out_of_bounds_and_with_it_the_exchange(pair: Pair) -> None:
    lease, other = await pair.start(), await pair.start()
    for delay in (-1, SPAN_MAX_US + 1):
        ends = (_end(other, Verb.SUCCEED), Settlement(lease.id, lease.fence, Verb.SNOOZE, delay_us=delay))
        await pair.refuses(pair.exchange(0, settle=ends), InvalidValue)
    meets(await pair.state(other.id), State.RUNNING, "the other job")


@proves("I23")
async def a_cancelled_job_may_still_succeed_or_fail(pair: Pair) -> None:
    for verb, wanted in ((Verb.SUCCEED, State.SUCCEEDED), (Verb.FAIL, State.FAILED)):
        lease = await pair.start(max_attempts=3)
        await pair.apply(CancelJobs((lease.id,), "why"))
        await pair.settle(_end(lease, verb))
        meets(await pair.state(lease.id), wanted, f"after {verb}")


@proves("I23")
async def a_cancelled_job_never_runs_again(pair: Pair) -> None:
    for verb in (Verb.RETRY, Verb.SNOOZE, Verb.RELEASE):
        lease = await pair.start(max_attempts=3)
        await pair.apply(CancelJobs((lease.id,), "why"))
        await pair.settle(_end(lease, verb))
        meets(await pair.state(lease.id), State.CANCELLED, f"after {verb}")
