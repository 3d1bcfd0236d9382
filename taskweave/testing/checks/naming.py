"""Names are text, never patterns, code or numbers, and two that differ at all are two.

Each awkward name is used as every kind of name there is: a store that puts names into SQL, keys, scripts or patterns,
compares them by a language's rules, or measures them in bytes, gives itself away.
"""

from __future__ import annotations

from typing import Any, Final

from taskweave.core.bounds import NAME_CHARS_MAX
from taskweave.core.job import State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    DeleteJobs,
    Find,
    Lease,
    Load,
    PauseQueue,
    PurgeQueue,
    ResumeQueue,
    RetryJobs,
    UpdateJob,
)
from taskweave.testing.checks.registry import Run, add
from taskweave.testing.pair import Pair, meets

NAMES: Final = {
    "plain": "name",
    "one_character": "x",
    "of_255_bytes": "ä" * 127 + "x",
    "as_long_as_allowed": "n" * NAME_CHARS_MAX,
    "as_long_as_allowed_of_four_bytes": "🐍" * NAME_CHARS_MAX,
    "of_many_scripts": "größe Ωμέγα имя 名前 שם",
    "of_emoji_that_are_several_characters": "👩\u20d0👩🏽x",
    "with_quotes": 'it\'s "quoted" `name`',
    "with_backslashes": "a\\b\\\\'c\\",
    "that_are_patterns": "*?[a-z]{b,c}^$.+|()",
    "that_are_like_patterns": "100%_\\%\\_",
    "that_are_formats": "%s %d %(x)s {0} {name} $1 ${x} :x ?",
    "that_are_sql": "x'; DROP TABLE job; --",
    "that_are_sql_too": 'x"); DELETE FROM job WHERE (1=1 /*',
    "that_are_lua": "x\"]] redis.call('FLUSHALL') --[[",
    "that_are_keys": "{taskweave}:job:1:{x}",
    "that_are_numbers": "0012",
    "that_are_values": "null",
    "with_separators": "a:b/c|d,e;f=g&h#i@j",
    "with_spaces_around": "  name  ",
    "that_are_json": '{"a": ["b", null]}',
    "that_are_paths": "../../etc/passwd",
}

TWINS: Final = {
    "case": ("Name", "name"),
    "an_accent": ("cafe", "café"),
    "composition": ("caf\u00e9", "cafe\u0301"),
    "a_space_at_the_end": ("name", "name "),
    "sharp_s": ("strasse", "straße"),
    "width": ("name", "ｎａｍｅ"),
    "dotless_i": ("I", "ı"),
    "a_number": ("1", "01"),
    "emoji": ("🐍", "🐎"),
    "the_last_of_many_characters": ("n" * (NAME_CHARS_MAX - 1) + "a", "n" * (NAME_CHARS_MAX - 1) + "b"),
}


def _lives(name: str) -> Run:
    async def run(pair: Pair) -> None:
        await pair.enqueue(_called(pair, name), pair.new())
        meets([job.id for job in (await pair.apply(Find(queue=name))).jobs], [name], "found by its queue")
        meets([job.id for job in (await pair.apply(Find(task=name))).jobs], [name], "found by its task")
        meets([job.id for job in (await pair.apply(Find(tags=((name, name),)))).jobs], [name], "found by its tag")
        meets((await pair.enqueue(pair.new(unique=UniqueKey(name))))[0].id, name, "the holder of its key")
        meets(
            [await pair.apply(PauseQueue(name)), await pair.apply(ResumeQueue(name))], [True, True], "paused, resumed"
        )
        meets((await pair.apply(UpdateJob(name, priority=2))).id, name, "updated")
        op = pair.exchange(9, queues=(name,), tasks=(name,), member=name, claim_id=name)
        (job,) = (await pair.apply(op)).claimed
        await pair.apply(op)
        await pair.apply(CancelJobs((name,), name))
        answer = await pair.renew(Lease(name, job.fence), member=name)
        meets([each.reason for each in answer.cancels], [name], "the reason of its cancel")
        meets(await pair.ends(Lease(name, job.fence), Verb.FAIL, cause=name, reason=name), True, "settled")
        await pair.apply(RetryJobs((name,), name))
        meets({each.queue for each in (await pair.apply(Count())).queues} >= {name}, True, "counted")
        meets(await pair.apply(PurgeQueue(name)), 1, "purged")
        meets(await pair.state(name), None, "after the purge")

    return run


def _called(pair: Pair, name: str) -> Any:
    return pair.new(
        id=name, task=name, queue=name, tags=((name, name),), unique=UniqueKey(name), trace=name, codec=name
    )


for _title, _name in NAMES.items():
    add(f"names_{_title}", ("I1",), _lives(_name))


def _two(first: str, second: str) -> Run:
    async def run(pair: Pair) -> None:
        answers = await pair.enqueue(_called(pair, first), _called(pair, second))
        meets([each.deduplicated for each in answers], [False, False], "two ids, two keys")
        meets([job and job.id for job in await pair.apply(Load((second, first)))], [second, first], "loaded")
        meets(len((await pair.apply(Count())).queues), 2, "queues")
        for op in (Find(queue=first), Find(task=first), Find(tags=((first, second),)), Find(tags=((first, first),))):
            await pair.apply(op)
        await pair.apply(PauseQueue(second))
        taken = await pair.claim(9, queues=(second, first), tasks=(first, second))
        meets([job.id for job in taken], [first], "claimed")
        await pair.apply(DeleteJobs((second,)))
        meets(await pair.state(first), State.RUNNING, "the other one")

    return run


for _title, (_first, _second) in TWINS.items():
    add(f"names_that_differ_by_{_title}_are_two", ("I2", "I13"), _two(_first, _second))
