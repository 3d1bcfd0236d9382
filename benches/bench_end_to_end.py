"""`taskweave bench` on every loop, with the bare driver's floor beside it: `python benches/bench_end_to_end.py`.

The floor of the command is a bare loop over taskweave's own verbs; this one (floors.py) writes its own SQL on the same
driver, or uses a bare deque: the least that a worker could do at all. Floors and drains take turns. Servers are started
for it, as a careful user runs them (fsync and synchronous_commit; AOF every second; flush at each commit).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from taskweave.cli.bench import Round, Step, measured, shown, spread
from taskweave.cli.bench_speed import given

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
SERVERS = {"postgres": {}, "redis": {"appendfsync": "everysec"}, "mariadb": {}}


def floor(step: Step, jobs: int) -> Round:
    kind, env = given(step.store)
    command = [sys.executable, str(HERE / "floors.py"), step.loop, kind, str(jobs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600, env=env)
    return json.loads(done.stdout)


def stores_of(names: list[str]) -> list[str]:
    """Embedded stores by name, servers by the address of one that is started here and ends with this process."""
    import servers

    return [servers.private(name, durable=True, **SERVERS[name]).url() if name in SERVERS else name for name in names]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--jobs", type=int, default=20_000)
    arguments.add_argument("--stores", nargs="+", default=["memory", "sqlite", "sqlite-full", *SERVERS])
    arguments.add_argument("--loops", nargs="+", default=["asyncio", "uvloop", "trio"])
    options = arguments.parse_args()
    steps = [Step("drain", loop, store) for store in stores_of(options.stores) for loop in options.loops]
    found: dict[Step, list[tuple[Round, Round]]] = {step: [] for step in steps}
    for _ in range(options.rounds):
        for step in steps:
            found[step].append((floor(step, options.jobs), measured(step, options.jobs)))
    print(f"{options.jobs} no-op jobs, {options.rounds} rounds, median (slowest to fastest)\n")
    print("| store | loop | floor, jobs/s | drain, jobs/s | of the floor | CPU µs a job: floor | drain |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for step, rounds in found.items():
        rates = [(bare["jobs_per_second"], ours["jobs_per_second"]) for bare, ours in rounds]
        costs = [(bare["cpu_us_per_job"], ours["cpu_us_per_job"]) for bare, ours in rounds]
        cells = [
            [bare for bare, _ in rates],
            [ours for _, ours in rates],
            [ours / bare for bare, ours in rates],
            [bare for bare, _ in costs],
            [ours for _, ours in costs],
        ]
        print(
            f"| {shown(step.store)} | {step.loop} | {' | '.join('{} ({})'.format(*spread(cell)) for cell in cells)} |"
        )


if __name__ == "__main__":
    main()
