"""README.md and docs/ are programs: every block runs, every output is the real one, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import pytest
from package_source import ROOT
from pages import Page, blocks, matches

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
README = (ROOT / "README.md").read_text(encoding="utf-8")
HELLO_LINES_MAX = 12


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_page_runs_as_it_stands(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    anyio.run(Page(page, tmp_path).run)


@pytest.mark.proves(57)
def test_a_task_is_added_to_an_existing_script_in_five_changed_lines() -> None:
    """The guide shows the script before and after; a line that differs counts once for what came and what went."""
    page = (ROOT / "docs/how-to/existing-script.md").read_text(encoding="utf-8")
    before, after = [block.body.splitlines() for block in blocks(page) if block.title == "report.py"][:2]
    came = [line for line in after if line.strip() and line not in before]
    went = [line for line in before if line.strip() and line not in after]
    assert 0 < max(len(came), len(went)) <= 5, (came, went)


@pytest.mark.proves(37)
def test_hello_world_is_short_and_the_same_everywhere() -> None:
    shown = [block.body for block in blocks(README) if block.title == "hello.py"]
    assert shown == [(ROOT / "examples/hello.py").read_text(encoding="utf-8")]
    assert len(shown[0].splitlines()) <= HELLO_LINES_MAX


def test_the_readme_has_the_two_commands() -> None:
    assert "python3 -m venv .venv && . .venv/bin/activate && pip install '.[all]' && taskweave demo\n" in README
    assert "pip install nox && nox\n" in README
    assert README.count("\n") < 250


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("*.md"))], ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lost = [target for target, _ in LINK.findall(text) if not (page.parent / target).exists()]
    assert lost == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        waiting += [(page.parent / target).resolve() for target, _ in LINK.findall(page.read_text(encoding="utf-8"))]
    assert {name_of(page) for page in PAGES if page not in seen} == set()


@pytest.mark.parametrize(
    ("expected", "printed", "fits"),
    [
        ("job … done", "job 12 done\n", True),
        ("job … done", "job 12\n done", False),
        ("first\n…\nlast", "first\nlast\n", True),
        ("first\n…\nlast", "first\n1\n2\nlast\n", True),
        ("first\n…", "first\n1\n2\n", True),
        ("a", "a\nb\n", False),
        ("", "", True),
    ],
)
def test_shown_output_is_compared_whole(expected: str, printed: str, fits: bool) -> None:
    assert matches(expected, printed) is fits
