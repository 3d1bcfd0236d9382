"""What is out of bounds is refused with a typed error before anything is stored: one check for each bound."""

from __future__ import annotations

from typing import Any, Final

from taskweave.core.bounds import ATTEMPTS_MAX, INSTANT_MAX, NAME_CHARS_MAX, PRIORITY_MAX, PRIORITY_MIN, TAGS_MAX
from taskweave.core.ids import SPAN_MAX_US
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import Enqueue, PauseQueue, UpdateJob
from taskweave.exceptions import InvalidName, InvalidValue, PayloadTooLarge, TaskweaveError
from taskweave.testing.checks.registry import add, proves
from taskweave.testing.pair import Pair

_Bad = tuple[type[TaskweaveError], list[dict[str, Any]]]

BAD_SPECS: Final[dict[str, _Bad]] = {
    "names": (
        InvalidName,
        [{"queue": ""}, {"task": "\x00"}, {"queue": "\ud800"}, {"task": "n" * (NAME_CHARS_MAX + 1)}, {"id": ""}],
    ),
    "priorities": (InvalidValue, [{"priority": PRIORITY_MAX + 1}, {"priority": PRIORITY_MIN - 1}, {"priority": 1.5}]),
    "delays": (InvalidValue, [{"delay_us": -1}, {"delay_us": SPAN_MAX_US + 1}, {"delay_us": 1.0}]),
    "instants": (InvalidValue, [{"at": -1}, {"at": INSTANT_MAX + 1}, {"at": 5, "delay_us": 1}]),
    "deadlines": (InvalidValue, [{"expires_in_us": 0}, {"expires_in_us": SPAN_MAX_US + 1}]),
    "timeouts": (InvalidValue, [{"timeout_us": 0}, {"timeout_us": -1}]),
    "attempts": (InvalidValue, [{"max_attempts": 0}, {"max_attempts": ATTEMPTS_MAX + 1}, {"max_lost": 0}]),
    "retries_of_what_runs_at_most_once": (InvalidValue, [{"at_most_once": True, "max_attempts": 2}]),
    "versions": (InvalidValue, [{"version": 0}, {"version": 1 << 31}]),
    "retentions": (
        InvalidValue,
        [{"retention_us": -1}, {"result_ttl_us": -1}, {"retention_failed_us": SPAN_MAX_US + 1}],
    ),
    "tags": (InvalidValue, [{"tags": tuple([(f"t{number}", "1") for number in range(TAGS_MAX + 1)])}]),
    "a_tag_twice": (InvalidValue, [{"tags": (("t", "1"), ("t", "2"))}]),
    "unique_keys": (InvalidValue, [{"unique": UniqueKey("")}, {"unique": UniqueKey("k" * 501)}]),
    "unique_scopes": (InvalidValue, [{"unique": UniqueKey("k", None)}, {"unique": UniqueKey("k", "finished", 5)}]),
    "payloads_that_are_no_bytes": (InvalidValue, [{"payload": "text"}]),
    "payloads_far_over_the_limit": (PayloadTooLarge, [{"payload": bytes(3 << 20)}]),
}


def _refuses(error: type[TaskweaveError], bad: list[dict[str, Any]]) -> Any:
    async def run(pair: Pair) -> None:
        for given in bad:
            await pair.refuses(Enqueue((pair.new(), pair.new(**given))), error)

    return run


for _name, (_error, _bad) in BAD_SPECS.items():
    add(f"refuses_{_name}_out_of_bounds", ("I25",), _refuses(_error, _bad))


@proves("I25")
async def refuses_an_update_out_of_bounds(pair: Pair) -> None:
    id = await pair.add()
    await pair.refuses(UpdateJob(id, PRIORITY_MAX + 1), InvalidValue)
    await pair.refuses(UpdateJob(id, None, -1), InvalidValue)
    await pair.refuses(UpdateJob("nobody", 1 << 20), InvalidValue)


@proves("I25")
async def refuses_to_pause_a_queue_without_a_name(pair: Pair) -> None:
    await pair.refuses(PauseQueue(""), InvalidName)
