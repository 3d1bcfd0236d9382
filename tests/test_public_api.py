"""The public names, as a list: a name that comes, goes or moves is a decision, not an accident."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import taskweave
from taskweave import exceptions

CALLABLE = """
App AsyncTask AttemptView Builder Call Ctx Enqueued Env Failure Handle JobView MemoryTaskStore MySQLTaskStore Observer
PostgresTaskStore Priority Progress QueueStat RedisTaskStore Retry RunMode SQLiteTaskStore State SyncTask Task
TaskExecutor TaskStore Transaction Unique Work WorkerSettings inject
"""
ERRORS = """
Abort AppNotFound BuildFailed Cancel ConfigurationError DecodeError DuplicateId IllegalTransition InvalidArguments
InvalidBackup InvalidInput InvalidName InvalidStoreUrl InvalidTask InvalidValue JobCancelled JobError JobExpired
JobFailed JobLost JobNotFound LeaseLost MissingAbility MissingExtra MissingMainGuard NaiveDatetime NotAStore NotOpen
NotSerializable PayloadTooLarge ResultExpired ResultTimeout ResultTooLarge RetryAfter SchemaTooNew SchemaTooOld Snooze
StoreError StoreFull StoreMissing StoreReadOnly StoreRefused StoreUnavailable SyncInsideLoop TaskweaveError
TransactionMisused TransactionTooLong UniqueConflict UnknownOption UnknownTask WaitTimeout WorkerFailed
"""


def test_these_names_and_no_others() -> None:
    assert set(taskweave.__all__) == set(CALLABLE.split()) | set(ERRORS.split())
    assert taskweave.__all__ == sorted(taskweave.__all__)


def test_every_error_is_public() -> None:
    errors = {name for name, each in vars(exceptions).items() if inspect.isclass(each) and issubclass(each, Exception)}
    assert errors - {"Control"} == set(ERRORS.split())


@pytest.mark.parametrize("name", taskweave.__all__)
def test_each_can_be_imported_and_says_what_it_promises(name: str) -> None:
    value = getattr(taskweave, name)
    assert value is getattr(taskweave, name)
    assert name in dir(taskweave)
    if name not in ERRORS.split():
        assert inspect.getdoc(value), name


def test_type_checkers_see_the_same_names() -> None:
    module = ast.parse(Path(taskweave.__file__).read_text())
    (block,) = [node for node in module.body if isinstance(node, ast.If)]
    seen = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(taskweave.__all__)


def test_other_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Apps'"):
        _ = taskweave.Apps


def test_importing_the_package_imports_neither_drivers_nor_loops() -> None:
    program = (
        "import sys, taskweave\n"
        "from taskweave import App, Retry, Ctx, inject\n"
        "app = App('sqlite:///x.db')\n"
        "heavy = {'cattrs', 'aiosqlite', 'sqlite3', 'trio', 'asyncio', 'click', 'rich', 'prometheus_client'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
