"""A folder with a store, a ledger and real workers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent


class Site:
    """A folder with a store and a ledger, and the workers that were started on it (children of this test alone)."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder, self.backend = folder, backend
        self.workers: list[subprocess.Popen[str]] = []

    def worker(self, *words: str) -> subprocess.Popen[str]:
        """Start a worker and return when it says that it is up."""
        worker = subprocess.Popen(
            [sys.executable, str(HERE / "ledger_app.py"), str(self.folder), self.backend, *words],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "LEDGER_DIR": str(self.folder)},
        )
        self.workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "up\n"
        return worker

    def lines(self) -> list[list[str]]:
        ledger = self.folder / "ledger"
        return [line.split() for line in ledger.read_text().splitlines()] if ledger.exists() else []

    def count(self, word: str) -> Counter[int]:
        return Counter(int(line[1]) for line in self.lines() if line[0] == word)

    def check(self) -> None:
        """SQLite's own check of the file."""
        with sqlite3.connect(self.folder / "jobs.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()

    def end(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait(20)
            assert worker.stdout is not None
            worker.stdout.close()
