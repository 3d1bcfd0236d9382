"""Texts that nobody chose: messages of errors and reasons hold anything, and come back as they were."""

from __future__ import annotations

from typing import Final

from taskweave.core.bounds import ERROR_CHARS_MAX
from taskweave.core.job import Failure, Progress, Verb
from taskweave.core.verbs import CancelJobs, LeaseProgress, RetryJobs, Settlement
from taskweave.testing.checks.registry import Run, add, proves
from taskweave.testing.checks.retrying import end_of
from taskweave.testing.pair import Pair, meets

TEXTS: Final = {
    "with_nul": "a\x00b\x00",
    "with_lone_surrogates": "a\ud800b\udfff\udc80",
    "with_surrogates_out_of_order": "\udc00\ud83d",
    "with_control_characters": "".join(map(chr, range(32))) + "\x7f\x85\u2028",
    "of_four_byte_characters": "🐍\U0010ffff",
    "with_line_ends": "one\r\ntwo\rthree\n",
    "that_are_empty": "",
    "that_are_long": "x€🐍" * (ERROR_CHARS_MAX // 3),
    "that_are_json": '{"a": "\\u0000"}',
}


def _kept(text: str) -> Run:
    async def run(pair: Pair) -> None:
        error = Failure(text, text, text, (text, text))
        lease = await pair.start(max_attempts=2)
        await pair.renew(lease, progress=(LeaseProgress(lease.id, lease.fence, Progress(1.5, 2.5, text)),))
        await pair.ends(lease, Verb.RETRY, error=error, reason=text)
        await pair.claim()
        last = await pair.fence(lease.id)
        await pair.apply(CancelJobs((lease.id,), text))
        answer = await pair.apply(pair.exchange(0))
        meets([each.reason for each in answer.cancels], [text], "the reason of the cancel")
        await pair.settle(_end(lease.id, last, text, error))
        end = await end_of(pair, lease.id)
        meets((end.error, end.reason, end.cause), (error, text, text), "the end")
        await pair.settle(_end(lease.id, last, text, error))
        await pair.apply(RetryJobs((lease.id,), text))

    return run


def _end(id: str, fence: int, text: str, error: Failure) -> Settlement:
    return Settlement(id, fence, Verb.FAIL, error=error, cause=text, reason=text)


for _title, _text in TEXTS.items():
    add(f"texts_{_title}_come_back", ("I8", "I25"), _kept(_text))


@proves("I8")
async def no_text_and_an_empty_one_are_told_apart(pair: Pair) -> None:
    for reason, cause in ((None, None), ("", ""), (None, ""), ("", None)):
        lease = await pair.start()
        await pair.ends(lease, Verb.FAIL, reason=reason, cause=cause)
        end = await end_of(pair, lease.id)
        meets((end.reason, end.cause), (reason, cause), "reason and cause")


@proves("I8")
async def odd_numbers_of_progress_come_back(pair: Pair) -> None:
    lease = await pair.start()
    for done, total in ((0.1, None), (1e-300, 1e300), (0.0, 0.0), (1 / 3, 3.0), (2.0**53, 2.0**70)):
        await pair.renew(lease, progress=(LeaseProgress(lease.id, lease.fence, Progress(done, total)),))
