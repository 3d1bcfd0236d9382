"""Every program in examples/ runs, in an empty folder, and prints what stands here."""

from __future__ import annotations

from pathlib import Path

import pytest
from package_source import ROOT
from pages import matches, run_command

PRINTS = {
    "hello.py": "Hello, world!",
    "etl.py": """
        12 pages, 5 requests refused and repeated
        300 rows loaded, 300 in the table, 1,986.00 in all
        """,
    "thumbnails.py": """
        picture0.thumb.pgm: 16 x 12
        picture1.thumb.pgm: 16 x 12
        failed: ValueError: picture2.pgm is damaged
        picture3.thumb.pgm: 16 x 12
        """,
    "webhook.py": """
        evt_1 book: accepted
        evt_1 book: seen before, same job
        evt_2 express lamp: accepted
        evt_1 book: seen before, same job
        ['shipped book', 'shipped express lamp']
        2 shipments, express lamp first
        """,
    "sync_script.py": """
        25 primes below 100
        1,229 primes below 10,000
        78,498 primes below 1,000,000
        the worker ended with exit code 0
        """,
    "order_waits.py": """
        lamp: receipt sent
        lamp: fulfilled on attempt 1
        forged: cancelled, the signature does not match
        """,
    "server.py": """
        202 ['id']
        200 {'state': 'succeeded', 'result': 'report of 3 pages'}
        400 {'error': "invalid literal for int() with base 10: 'many'"}
        404
        """,
}


def test_every_example_has_its_output_here() -> None:
    assert set(PRINTS) == {path.name for path in (ROOT / "examples").glob("*.py")}


@pytest.mark.parametrize("name", PRINTS)
def test_the_example_prints(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text((ROOT / "examples" / name).read_text(encoding="utf-8"), encoding="utf-8")
    done = run_command(f"python -W error {name}", tmp_path)
    expected = "\n".join(line.strip() for line in PRINTS[name].strip().splitlines())
    assert matches(expected, done.stdout), done.stdout
    assert done.returncode == 0
