"""Random walks: a hundred and fifty ops from a seed, the same at every run with that seed."""

from __future__ import annotations

from random import Random
from typing import Final

from taskweave.core.verbs import Count, Load
from taskweave.testing.checks.registry import Run, add
from taskweave.testing.operations import STEPS_US, Requests, Seeded
from taskweave.testing.pair import Pair

WALKS: Final = 8
OPS: Final = 150


def _walk(number: int) -> Run:
    async def run(pair: Pair) -> None:
        chooser = Seeded(Random(f"{pair.seed}-{number}"))
        requests = Requests(chooser)
        for _ in range(OPS):
            pair.passes(chooser.one_of(STEPS_US))
            op = requests.next()
            requests.answered(op, await pair.ask(op))
            await pair.ask(Count())
        await pair.ask(Load(("j00", "nobody", "j01")))

    return run


for _number in range(1, WALKS + 1):
    add(f"walk_{_number}", ("I1", "I2", "I4", "I5", "I8", "I11", "I13", "I22", "I26"), _walk(_number))
