"""Background jobs whose behaviour can be proved, on asyncio and on trio.

The names that users import, and nothing else. Each is imported when it is first used, so that `import taskweave`
costs a few milliseconds and a program pays for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskweave._runtime.ctx import Ctx as Ctx
    from taskweave._runtime.executor import TaskExecutor as TaskExecutor
    from taskweave._runtime.transactions import Transaction as Transaction
    from taskweave._runtime.work import RunMode as RunMode
    from taskweave._runtime.work import Work as Work
    from taskweave.abc import Env as Env
    from taskweave.abc import Observer as Observer
    from taskweave.abc import TaskStore as TaskStore
    from taskweave.app import App as App
    from taskweave.builder import Builder as Builder
    from taskweave.core.job import Failure as Failure
    from taskweave.core.job import Progress as Progress
    from taskweave.core.job import State as State
    from taskweave.core.ready import Priority as Priority
    from taskweave.core.retry import Retry as Retry
    from taskweave.core.unique import Unique as Unique
    from taskweave.core.verbs import Enqueued as Enqueued
    from taskweave.core.verbs import QueueStat as QueueStat
    from taskweave.exceptions import Abort as Abort
    from taskweave.exceptions import AppNotFound as AppNotFound
    from taskweave.exceptions import BuildFailed as BuildFailed
    from taskweave.exceptions import Cancel as Cancel
    from taskweave.exceptions import ConfigurationError as ConfigurationError
    from taskweave.exceptions import DecodeError as DecodeError
    from taskweave.exceptions import DuplicateId as DuplicateId
    from taskweave.exceptions import IllegalTransition as IllegalTransition
    from taskweave.exceptions import InvalidArguments as InvalidArguments
    from taskweave.exceptions import InvalidBackup as InvalidBackup
    from taskweave.exceptions import InvalidInput as InvalidInput
    from taskweave.exceptions import InvalidName as InvalidName
    from taskweave.exceptions import InvalidStoreUrl as InvalidStoreUrl
    from taskweave.exceptions import InvalidTask as InvalidTask
    from taskweave.exceptions import InvalidValue as InvalidValue
    from taskweave.exceptions import JobCancelled as JobCancelled
    from taskweave.exceptions import JobError as JobError
    from taskweave.exceptions import JobExpired as JobExpired
    from taskweave.exceptions import JobFailed as JobFailed
    from taskweave.exceptions import JobLost as JobLost
    from taskweave.exceptions import JobNotFound as JobNotFound
    from taskweave.exceptions import LeaseLost as LeaseLost
    from taskweave.exceptions import MissingAbility as MissingAbility
    from taskweave.exceptions import MissingExtra as MissingExtra
    from taskweave.exceptions import MissingMainGuard as MissingMainGuard
    from taskweave.exceptions import NaiveDatetime as NaiveDatetime
    from taskweave.exceptions import NotAStore as NotAStore
    from taskweave.exceptions import NotOpen as NotOpen
    from taskweave.exceptions import NotSerializable as NotSerializable
    from taskweave.exceptions import PayloadTooLarge as PayloadTooLarge
    from taskweave.exceptions import ResultExpired as ResultExpired
    from taskweave.exceptions import ResultTimeout as ResultTimeout
    from taskweave.exceptions import ResultTooLarge as ResultTooLarge
    from taskweave.exceptions import RetryAfter as RetryAfter
    from taskweave.exceptions import SchemaTooNew as SchemaTooNew
    from taskweave.exceptions import SchemaTooOld as SchemaTooOld
    from taskweave.exceptions import Snooze as Snooze
    from taskweave.exceptions import StoreError as StoreError
    from taskweave.exceptions import StoreFull as StoreFull
    from taskweave.exceptions import StoreMissing as StoreMissing
    from taskweave.exceptions import StoreReadOnly as StoreReadOnly
    from taskweave.exceptions import StoreRefused as StoreRefused
    from taskweave.exceptions import StoreUnavailable as StoreUnavailable
    from taskweave.exceptions import SyncInsideLoop as SyncInsideLoop
    from taskweave.exceptions import TaskweaveError as TaskweaveError
    from taskweave.exceptions import TransactionMisused as TransactionMisused
    from taskweave.exceptions import TransactionTooLong as TransactionTooLong
    from taskweave.exceptions import UniqueConflict as UniqueConflict
    from taskweave.exceptions import UnknownOption as UnknownOption
    from taskweave.exceptions import UnknownTask as UnknownTask
    from taskweave.exceptions import WaitTimeout as WaitTimeout
    from taskweave.exceptions import WorkerFailed as WorkerFailed
    from taskweave.handle import Handle as Handle
    from taskweave.injection import inject as inject
    from taskweave.settings import WorkerSettings as WorkerSettings
    from taskweave.stores.memory import MemoryTaskStore as MemoryTaskStore
    from taskweave.stores.mysql import MySQLTaskStore as MySQLTaskStore
    from taskweave.stores.postgres import PostgresTaskStore as PostgresTaskStore
    from taskweave.stores.redis import RedisTaskStore as RedisTaskStore
    from taskweave.stores.sqlite import SQLiteTaskStore as SQLiteTaskStore
    from taskweave.task import AsyncTask as AsyncTask
    from taskweave.task import Call as Call
    from taskweave.task import SyncTask as SyncTask
    from taskweave.task import Task as Task
    from taskweave.view import AttemptView as AttemptView
    from taskweave.view import JobView as JobView

__all__ = [
    "Abort",
    "App",
    "AppNotFound",
    "AsyncTask",
    "AttemptView",
    "BuildFailed",
    "Builder",
    "Call",
    "Cancel",
    "ConfigurationError",
    "Ctx",
    "DecodeError",
    "DuplicateId",
    "Enqueued",
    "Env",
    "Failure",
    "Handle",
    "IllegalTransition",
    "InvalidArguments",
    "InvalidBackup",
    "InvalidInput",
    "InvalidName",
    "InvalidStoreUrl",
    "InvalidTask",
    "InvalidValue",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobLost",
    "JobNotFound",
    "JobView",
    "LeaseLost",
    "MemoryTaskStore",
    "MissingAbility",
    "MissingExtra",
    "MissingMainGuard",
    "MySQLTaskStore",
    "NaiveDatetime",
    "NotAStore",
    "NotOpen",
    "NotSerializable",
    "Observer",
    "PayloadTooLarge",
    "PostgresTaskStore",
    "Priority",
    "Progress",
    "QueueStat",
    "RedisTaskStore",
    "ResultExpired",
    "ResultTimeout",
    "ResultTooLarge",
    "Retry",
    "RetryAfter",
    "RunMode",
    "SQLiteTaskStore",
    "SchemaTooNew",
    "SchemaTooOld",
    "Snooze",
    "State",
    "StoreError",
    "StoreFull",
    "StoreMissing",
    "StoreReadOnly",
    "StoreRefused",
    "StoreUnavailable",
    "SyncInsideLoop",
    "SyncTask",
    "Task",
    "TaskExecutor",
    "TaskStore",
    "TaskweaveError",
    "Transaction",
    "TransactionMisused",
    "TransactionTooLong",
    "Unique",
    "UniqueConflict",
    "UnknownOption",
    "UnknownTask",
    "WaitTimeout",
    "Work",
    "WorkerFailed",
    "WorkerSettings",
    "inject",
]

# where a name lives; the errors, which are all others, in exceptions
_HOMES = {
    "App": "app",
    "AsyncTask": "task",
    "AttemptView": "view",
    "Builder": "builder",
    "Call": "task",
    "Ctx": "_runtime.ctx",
    "Enqueued": "core.verbs",
    "Env": "abc",
    "Failure": "core.job",
    "Handle": "handle",
    "JobView": "view",
    "MemoryTaskStore": "stores.memory",
    "MySQLTaskStore": "stores.mysql",
    "Observer": "abc",
    "PostgresTaskStore": "stores.postgres",
    "Priority": "core.ready",
    "Progress": "core.job",
    "QueueStat": "core.verbs",
    "RedisTaskStore": "stores.redis",
    "Retry": "core.retry",
    "RunMode": "_runtime.work",
    "SQLiteTaskStore": "stores.sqlite",
    "State": "core.job",
    "SyncTask": "task",
    "Task": "task",
    "TaskExecutor": "_runtime.executor",
    "TaskStore": "abc",
    "Transaction": "_runtime.transactions",
    "Unique": "core.unique",
    "Work": "_runtime.work",
    "WorkerSettings": "settings",
    "inject": "injection",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'taskweave' has no attribute {name!r}")
    value = getattr(import_module(f"taskweave.{_HOMES.get(name, 'exceptions')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
