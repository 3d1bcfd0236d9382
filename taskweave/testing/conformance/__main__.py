"""python -m taskweave.testing.conformance mypkg:make_store [--level basic] [--backend trio] [--seed 7] [--json]

Exit code 0 when the store kept every promise of the level, 1 when it did not.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from functools import partial

import anyio

from taskweave.exceptions import TaskweaveError
from taskweave.testing.certificate import LEVELS, Certificate, Outcome
from taskweave.testing.places import maker_named
from taskweave.testing.suite import check_store


def main(arguments: list[str] | None = None) -> int:
    """Run the suite as the command line says. Returns the exit code."""
    program = "python -m taskweave.testing.conformance"
    parser = ArgumentParser(prog=program, description="Does a store keep its promises?")
    parser.add_argument("store", help="mypkg:make_store, or the address of a store")
    parser.add_argument("--level", choices=LEVELS, default="concurrent", help="default: concurrent")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="default: asyncio")
    parser.add_argument("--seed", type=int, default=0, help="of the random walks; default 0")
    parser.add_argument("--json", action="store_true", help="print the certificate as JSON")
    given = parser.parse_args(arguments)
    try:
        check = partial(check_store, maker_named(given.store), level=given.level, seed=given.seed, report=_report)
        certificate: Certificate = anyio.run(check, backend=given.backend)
    except TaskweaveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(certificate.to_json(), indent=2) if given.json else certificate.summary())
    return 0 if certificate.passed else 1


def _report(outcome: Outcome) -> None:
    if outcome.problem is not None:
        print(f"failed: {outcome.name}: {outcome.problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
