"""A program without an event loop uses taskweave: Django, Flask, a cron script.

    python sync_script.py             hands out the work, and waits for it
    python sync_script.py worker      does the work (or: taskweave worker sync_script.py)

Here the script starts the worker itself, as another process, and stops it when everything is done.
"""

import subprocess
import sys

import anyio

from taskweave import App

app = App("sqlite:///sync_script.db")


@app.task
def count_primes(below: int) -> int:
    sieve = bytearray([1]) * below
    sieve[:2] = b"\0\0"
    for number in range(2, int(below**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, below, number)))
    return sum(sieve)


def main() -> None:
    jobs = {below: count_primes.enqueue_sync(below) for below in (100, 10_000, 1_000_000)}
    worker = subprocess.Popen([sys.executable, __file__, "worker"])
    try:
        for below, job in jobs.items():
            print(f"{job.result_sync(timeout='60s'):,} primes below {below:,}")
    finally:
        worker.terminate()
    print(f"the worker ended with exit code {worker.wait(timeout=30)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        anyio.run(app.run_worker)
    else:
        main()
