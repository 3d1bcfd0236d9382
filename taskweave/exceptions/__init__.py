"""Everything taskweave raises, as one tree with codes.

Facts are fields, so that a program can act on them; the message says what happened, to which thing, and what to do.
`code` is stable: it is what to search for in docs/reference/errors.md. Expected trouble inside the engine (a stale
fence, spent attempts) is data and never raised; what is raised here is misuse, bad input, a job's end seen by its
waiter, or a store that cannot answer.
"""

from taskweave.exceptions._control import Abort as Abort
from taskweave.exceptions._control import Cancel as Cancel
from taskweave.exceptions._control import Control as Control
from taskweave.exceptions._control import RetryAfter as RetryAfter
from taskweave.exceptions._control import Snooze as Snooze
from taskweave.exceptions._input import DecodeError as DecodeError
from taskweave.exceptions._input import DuplicateId as DuplicateId
from taskweave.exceptions._input import InvalidArguments as InvalidArguments
from taskweave.exceptions._input import InvalidBackup as InvalidBackup
from taskweave.exceptions._input import InvalidInput as InvalidInput
from taskweave.exceptions._input import InvalidName as InvalidName
from taskweave.exceptions._input import InvalidValue as InvalidValue
from taskweave.exceptions._input import NaiveDatetime as NaiveDatetime
from taskweave.exceptions._input import NotSerializable as NotSerializable
from taskweave.exceptions._input import PayloadTooLarge as PayloadTooLarge
from taskweave.exceptions._input import ResultTooLarge as ResultTooLarge
from taskweave.exceptions._input import UniqueConflict as UniqueConflict
from taskweave.exceptions._input import UnknownTask as UnknownTask
from taskweave.exceptions._jobs import IllegalTransition as IllegalTransition
from taskweave.exceptions._jobs import JobCancelled as JobCancelled
from taskweave.exceptions._jobs import JobError as JobError
from taskweave.exceptions._jobs import JobExpired as JobExpired
from taskweave.exceptions._jobs import JobFailed as JobFailed
from taskweave.exceptions._jobs import JobLost as JobLost
from taskweave.exceptions._jobs import JobNotFound as JobNotFound
from taskweave.exceptions._jobs import ResultExpired as ResultExpired
from taskweave.exceptions._jobs import ResultTimeout as ResultTimeout
from taskweave.exceptions._jobs import WaitTimeout as WaitTimeout
from taskweave.exceptions._program import AppNotFound as AppNotFound
from taskweave.exceptions._program import BuildFailed as BuildFailed
from taskweave.exceptions._program import ConfigurationError as ConfigurationError
from taskweave.exceptions._program import InvalidTask as InvalidTask
from taskweave.exceptions._program import LeaseLost as LeaseLost
from taskweave.exceptions._program import MissingAbility as MissingAbility
from taskweave.exceptions._program import MissingExtra as MissingExtra
from taskweave.exceptions._program import MissingMainGuard as MissingMainGuard
from taskweave.exceptions._program import NotOpen as NotOpen
from taskweave.exceptions._program import SyncInsideLoop as SyncInsideLoop
from taskweave.exceptions._program import TransactionMisused as TransactionMisused
from taskweave.exceptions._program import TransactionTooLong as TransactionTooLong
from taskweave.exceptions._program import UnknownOption as UnknownOption
from taskweave.exceptions._program import WorkerFailed as WorkerFailed
from taskweave.exceptions._root import TaskweaveError as TaskweaveError
from taskweave.exceptions._stores import InvalidStoreUrl as InvalidStoreUrl
from taskweave.exceptions._stores import NotAStore as NotAStore
from taskweave.exceptions._stores import SchemaTooNew as SchemaTooNew
from taskweave.exceptions._stores import SchemaTooOld as SchemaTooOld
from taskweave.exceptions._stores import StoreError as StoreError
from taskweave.exceptions._stores import StoreFull as StoreFull
from taskweave.exceptions._stores import StoreMissing as StoreMissing
from taskweave.exceptions._stores import StoreReadOnly as StoreReadOnly
from taskweave.exceptions._stores import StoreRefused as StoreRefused
from taskweave.exceptions._stores import StoreUnavailable as StoreUnavailable


def _call_them_by_their_public_names() -> None:
    """What tracebacks and stored failures call them; in which file they stand is nobody's business."""
    for each in globals().values():
        if isinstance(each, type):
            each.__module__ = __name__


_call_them_by_their_public_names()
