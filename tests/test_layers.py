"""Imports point only down, the core is pure, and each driver is known to its own adapter alone.

The same is said to import-linter in pyproject.toml; here it is said again without a tool, together with what
import-linter cannot see: calls of clocks and randomness, unsafe loading, and SQL put together from text. An exception
to a rule stands here with its reason, and one that nothing needs any more is itself an error.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

import pytest
from package_source import Import, calls, imports, sources, tree

LAYERS = (  # top to bottom; a name that ends in / is a folder
    ("__main__.py",),
    ("cli/",),
    (
        *("__init__.py", "app.py", "backup.py", "builder.py", "client.py", "connect.py", "handle.py", "injection.py"),
        *("operations.py", "options.py", "registration.py", "results.py", "settings.py", "task.py", "testing/"),
        *("transfer.py", "view.py", "working.py"),
    ),
    ("_runtime/",),
    ("stores/", "observe/"),
    ("_bridge.py", "_codec/"),
    ("abc.py",),
    ("core/",),
    ("exceptions/",),
)
STRANGERS = ({"stores/", "observe/"}, {"_bridge.py", "_codec/"})  # side by side, unknown to each other

CORE_MAY_IMPORT = {
    *("__future__", "attrs", "bisect", "collections", "datetime", "enum", "functools", "hashlib", "heapq", "itertools"),
    *("json", "math", "operator", "re", "types", "typing", "typing_extensions"),
}

CLOCKS_AND_CHANCE = re.compile(
    r"(time\.(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|sleep|localtime|gmtime|strftime)"
    r"|datetime\.datetime\.(now|utcnow|today)|datetime\.date\.today|.*\.(utcnow|today)"
    r"|random\..*|secrets\..*|uuid\.uuid\d|os\.(urandom|getpid|getppid)|socket\.(gethostname|getfqdn)|platform\.node)$"
)
ALLOWED_CALLS = {
    ("_runtime/env.py", "time"): "the one clock of a process",
    ("_runtime/env.py", "random"): "the one source of randomness and ids",
    ("stores/clock.py", "time"): "store time of the stores that have no server",
    ("stores/_sqlite/connection.py", "time"): "waits for the file's lock, in the store's own thread",
    ("testing/checks/walking.py", "random"): "a walk from a seed, the same at every run",
    ("testing/concurrent.py", "random"): "likewise",
    ("cli/bench_speed.py", "time"): "measures, by clocks that no decision reads",
    ("cli/bench_waits.py", "time"): "likewise",
}

LOOPS = ("asyncio", "trio", "uvloop")
ALLOWED_LOOPS = {
    ("_bridge.py", "asyncio"): "the one module that knows which runtime it is on",
    ("_bridge.py", "trio"): "likewise",
}
MACHINERY = ("threading", "socket", "multiprocessing", "subprocess", "signal", "concurrent")
ALLOWED_MACHINERY = {
    ("_bridge.py", "threading"): "the helper thread that drives asyncio-only drivers for trio",
    ("_runtime/blocking.py", "threading"): "the background loop of programs without one",
    ("_runtime/keeper.py", "threading"): "renews leases while a task blocks the event loop",
    ("_runtime/threads.py", "threading"): "thread mode",
    ("_runtime/process.py", "signal"): "kills a child, and names the signal that a child died of",
    ("_runtime/offspring.py", "signal"): "likewise",
    ("_runtime/offspring.py", "socket"): "the pipes to a child",
    ("_runtime/offspring.py", "subprocess"): "starts children",
    ("_runtime/child.py", "signal"): "leaves the terminal's signals to the parent",
    ("_runtime/child.py", "threading"): "reads the pipe while the function runs",
    ("_runtime/executor.py", "signal"): "drains on SIGTERM and SIGINT, when asked to",
    ("cli/bench.py", "subprocess"): "each measurement is a process of its own",
    ("cli/bench_waits.py", "subprocess"): "an interpreter that imports, and a producer beside the worker",
    ("cli/leaving.py", "threading"): "finds the threads that would keep the process from ending",
    ("cli/worker.py", "signal"): "a worker that waits for its store ends at a signal",
    ("cli/dev.py", "signal"): "stops the worker that it restarts",
    ("cli/dev.py", "subprocess"): "starts it",
    ("stores/_mysql/opened.py", "threading"): "wakes listeners of other loops",
    ("stores/memory.py", "threading"): "the lock around the queue machine; wakes waiters of other loops",
    ("stores/sqlite.py", "threading"): "the lock that makes one writer of all users of a connection",
    ("stores/postgres.py", "threading"): "the lock around the listeners, which live in any thread",
    ("stores/_sqlite/watch.py", "threading"): "one watcher of a file for all its listeners",
}

DRIVERS = {
    "aiosqlite": ("stores/",),
    "sqlite3": ("stores/",),
    "asyncpg": ("stores/_postgres/",),
    "prometheus_client": ("observe/",),
    "cattrs": ("_codec/",),
    "click": ("cli/", "__main__.py"),
    "rich": ("cli/", "__main__.py"),
    "asyncmy": ("stores/_mysql/",),
    "redis": ("stores/_redis/",),
    "hiredis": ("stores/_redis/",),
}

UNSAFE = re.compile(r"(pickle|_pickle|marshal|shelve|dill|cloudpickle|yaml|jsonpickle)$")
UNSAFE_CALLS = re.compile(r"(eval|exec|builtins\.(eval|exec)|os\.(system|popen)|subprocess\.getoutput)$")

SQL = re.compile(
    r"\b(SELECT\s|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|(CREATE|DROP|ALTER)\s+"
    r"(UNIQUE\s+)?(TABLE|INDEX|VIEW|TRIGGER)|PRAGMA\s|VACUUM|ATTACH\s)",
    re.IGNORECASE,
)
PRAGMA = re.compile(r"\bPRAGMA\s", re.IGNORECASE)
ALLOWED_PRAGMAS = {  # a pragma takes no bound values; these paste constants, never a user's word
    "stores/_sqlite/connection.py": "the settings of a connection",
    "stores/_sqlite/inspect.py": "the facts that check and doctor show",
    "stores/_sqlite/schema.py": "the marks of a migration",
}


def layer_of(path: str) -> int | None:
    for depth, names in enumerate(LAYERS):
        if any(path == name or (name.endswith("/") and path.startswith(name)) for name in names):
            return depth
    return None


def room_of(path: str) -> str:
    return path.partition("/")[0] + "/" if "/" in path else path


def file_of(module: str) -> str | None:
    """The file of a module of the package, or None for a name inside one."""
    base = "/".join(module.split(".")[1:])
    for candidate in (f"{base}.py", f"{base}/__init__.py" if base else "__init__.py"):
        if candidate in sources():
            return candidate
    return None


def upward(found: Iterable[Import]) -> list[str]:
    """The imports that point up, or sideways between strangers."""
    wrong: list[str] = []
    for each in found:
        target = file_of(each.module) if each.top == "taskweave" else None
        if target is None or each.typing_only:
            continue
        here, there = layer_of(each.path), layer_of(target)
        if here is None or there is None:
            continue
        aside = any({room_of(each.path), room_of(target)} == pair for pair in STRANGERS)
        if there < here or aside:
            wrong.append(str(each))
    return wrong


def unlisted(found: Iterable[Import], names: tuple[str, ...], allowed: dict[tuple[str, str], str]) -> list[str]:
    return [str(each) for each in found if each.top in names and (each.path, each.top) not in allowed]


def built_sql(module: ast.Module, *, pragmas: bool = False) -> list[int]:
    """Lines on which SQL is put together from text at run time: f-strings, %, + and format with something inside."""
    lines: list[int] = []
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            built = any(isinstance(part, ast.FormattedValue) for part in node.values)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            text = " ".join(str(side.value) for side in (node.left, node.right) if isinstance(side, ast.Constant))
            built = not all(isinstance(side, ast.Constant) for side in (node.left, node.right))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            text = str(node.func.value.value) if isinstance(node.func.value, ast.Constant) else ""
            built = True
        else:
            continue
        if built and SQL.search(PRAGMA.sub("", text) if pragmas else text):
            lines.append(node.lineno)
    return lines


def every_import() -> list[Import]:
    return [each for path in sources() for each in imports(path)]


def planted(path: str, code: str) -> list[Import]:
    return list(imports(path, ast.parse(code)))


@pytest.mark.proves(106)
def test_every_module_has_its_layer() -> None:
    homeless = [path for path in sources() if layer_of(path) is None]
    assert not homeless, "give these a place in LAYERS and in ARCHITECTURE.md"


@pytest.mark.proves(106)
def test_imports_point_only_down() -> None:
    assert upward(every_import()) == []


@pytest.mark.proves(106)
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("core/job.py", "from taskweave.abc import Clock"),
        ("core/job.py", "def late():\n    import taskweave._runtime.env"),
        ("stores/memory.py", "from taskweave._runtime import env"),
        ("core/queue/claim.py", "from ... import abc"),
    ],
)
def test_a_planted_import_upwards_is_found(path: str, code: str) -> None:
    assert upward(planted(path, code))


@pytest.mark.proves(106)
def test_the_core_imports_pure_modules_and_itself_alone() -> None:
    found = [each for path in sources() if path.startswith("core/") for each in imports(path)]
    wrong = [
        str(each)
        for each in found
        if each.top not in CORE_MAY_IMPORT and not each.module.startswith(("taskweave.core", "taskweave.exceptions"))
    ]
    assert wrong == []


@pytest.mark.proves(106)
def test_clocks_and_chance_are_read_in_one_place() -> None:
    wrong = [
        f"{path}:{line} calls {name}"
        for path in sources()
        for line, name in calls(path)
        if CLOCKS_AND_CHANCE.match(name) and (path, name.partition(".")[0]) not in ALLOWED_CALLS
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.time()",
        "from time import monotonic as m\nm()",
        "import datetime as d\nd.datetime.now()",
        "from datetime import datetime\ndatetime.utcnow()",
        "from random import random\nrandom()",
        "import uuid\nuuid.uuid4()",
        "import os\nos.urandom(8)",
        "from socket import gethostname\ngethostname()",
    ],
)
def test_a_planted_clock_is_found(code: str) -> None:
    assert any(CLOCKS_AND_CHANCE.match(name) for _, name in calls("core/job.py", ast.parse(code)))


@pytest.mark.proves(19, 106)
def test_only_the_bridge_knows_the_event_loop() -> None:
    assert unlisted(every_import(), LOOPS, ALLOWED_LOOPS) == []


@pytest.mark.proves(106)
def test_threads_processes_and_signals_stay_where_they_are_needed() -> None:
    assert unlisted(every_import(), MACHINERY, ALLOWED_MACHINERY) == []


def test_no_exception_outlives_its_need() -> None:
    used = {(each.path, each.top) for each in every_import()}
    listed = {**ALLOWED_LOOPS, **ALLOWED_MACHINERY, **ALLOWED_CALLS}
    assert [entry for entry in listed if entry not in used] == []
    assert [path for path in ALLOWED_PRAGMAS if not built_sql(tree(path))] == []


@pytest.mark.proves(106, 142)
def test_each_driver_is_imported_by_its_own_adapter_alone() -> None:
    wrong = [
        str(each) for each in every_import() if each.top in DRIVERS and not each.path.startswith(DRIVERS[each.top])
    ]
    assert wrong == []


@pytest.mark.proves(142)
def test_there_is_one_sqlite_driver() -> None:
    others = {"apsw", "pysqlite3", "sqlalchemy", "databases", "peewee", "asqlite", "sqlite_utils"}
    assert [str(each) for each in every_import() if each.top in others] == []
    assert {each.path.partition("/")[0] for each in every_import() if each.top == "aiosqlite"} == {"stores"}


def test_nothing_is_unpickled_or_evaluated() -> None:
    wrong = [str(each) for each in every_import() if UNSAFE.match(each.top)]
    wrong += [
        f"{path}:{line} calls {name}" for path in sources() for line, name in calls(path) if UNSAFE_CALLS.match(name)
    ]
    assert wrong == []


def test_sql_is_never_put_together_from_text() -> None:
    wrong = [f"{path}:{line}" for path in sources() for line in built_sql(tree(path), pragmas=path in ALLOWED_PRAGMAS)]
    assert wrong == [], "write the statement whole and bind its values"


@pytest.mark.parametrize(
    "code",
    [
        "f'SELECT * FROM {table}'",
        "'DELETE FROM job WHERE id = ' + value",
        "'SELECT %s' % value",
        "'INSERT INTO {} VALUES (1)'.format(t)",
    ],
)
def test_planted_sql_from_text_is_found(code: str) -> None:
    assert built_sql(ast.parse(code))


@pytest.mark.parametrize("code", ["'SELECT ' 'id FROM job'", "f'selected {n}'", "'no job ' + id"])
def test_whole_sql_and_plain_words_pass(code: str) -> None:
    assert not built_sql(ast.parse(code))
