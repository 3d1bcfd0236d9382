"""Everything taskweave raises, as one tree with codes.

Facts are fields, so that a program can act on them; the message says what happened, to which thing, and what to do.
`code` is stable: it is what to search for in docs/reference/errors.md. Expected trouble inside the engine (a stale
fence, spent attempts) is data and never raised; what is raised here is misuse, bad input, a job's end seen by its
waiter, or a store that cannot answer.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import define, field


def _shown(value: object, most: int = 120) -> str:
    """A repr that is bounded and survives a broken __repr__: error texts must not fail themselves."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - the user's object; its failure is the fact to show
        text = f"<{type(value).__name__}: __repr__ raised {type(error).__name__}>"
    return text if len(text) <= most else f"{text[: most - 1]}…"


@define(eq=False, slots=False)
class TaskweaveError(Exception):
    """Root of the tree: catching it catches everything that taskweave itself raises."""

    code: ClassVar[str] = "TW1000"

    def __str__(self) -> str:
        return f"[{self.code}] {self.explain()}"

    def explain(self) -> str:
        """What happened, to what, and what to do about it."""
        return "taskweave failed; look for its cause"


# --- configuration and registration -----------------------------------------------------------------------------


@define(eq=False, slots=False)
class ConfigurationError(TaskweaveError):
    """The program is set up wrongly; nothing was started."""

    code: ClassVar[str] = "TW1100"


@define(eq=False, slots=False)
class UnknownOption(ConfigurationError):
    """An option, or a query parameter of a store's address, does not exist there."""

    code: ClassVar[str] = "TW1101"
    option: str
    where: str
    nearest: str | None = None

    def explain(self) -> str:
        hint = f"did you mean {self.nearest!r}?" if self.nearest else "see the reference for the options there are"
        return f"{self.where} has no option {self.option!r}; {hint}"


@define(eq=False, slots=False)
class InvalidTask(ConfigurationError):
    """A function or its options cannot become a task; nothing was registered."""

    code: ClassVar[str] = "TW1102"
    task: str
    problem: str
    remedy: str

    def explain(self) -> str:
        return f"task {self.task!r} cannot be registered: {self.problem}; {self.remedy}"


@define(eq=False, slots=False)
class BuildFailed(ConfigurationError):
    """The builder found problems; all of them are listed, and nothing was built."""

    code: ClassVar[str] = "TW1103"
    problems: tuple[str, ...]

    def explain(self) -> str:
        return "the configuration has problems, correct each: " + "; ".join(self.problems)


@define(eq=False, slots=False)
class MissingExtra(ConfigurationError):
    """Something was asked for whose package is not installed."""

    code: ClassVar[str] = "TW1104"
    feature: str
    extra: str

    def explain(self) -> str:
        return f"{self.feature} needs a package that is not installed; run: pip install 'taskweave[{self.extra}]'"


@define(eq=False, slots=False)
class AppNotFound(ConfigurationError):
    """The command line found no app where it was told to look."""

    code: ClassVar[str] = "TW1105"
    target: str
    problem: str

    def explain(self) -> str:
        return f"no app at {self.target!r}: {self.problem}; name it as module:attribute or path/to/file.py[:attribute]"


@define(eq=False, slots=False)
class MissingAbility(ConfigurationError):
    """The store cannot do what this configuration needs."""

    code: ClassVar[str] = "TW1106"
    store: str
    ability: str

    def explain(self) -> str:
        return f"{self.store} lacks the ability {self.ability!r}, which this configuration needs; choose another store"


# --- input, refused before anything is stored --------------------------------------------------------------------


@define(eq=False, slots=False)
class InvalidInput(TaskweaveError, ValueError):
    """Input was refused; nothing was stored."""

    code: ClassVar[str] = "TW1200"


@define(eq=False, slots=False)
class InvalidValue(InvalidInput):
    """A value has the wrong type, or lies outside its bounds."""

    code: ClassVar[str] = "TW1201"
    field: str
    value: object
    expected: str

    def explain(self) -> str:
        return f"{self.field} is {_shown(self.value)}; expected {self.expected}"


@define(eq=False, slots=False)
class InvalidName(InvalidInput):
    """The name of a queue, task, tag or key cannot be kept by every store."""

    code: ClassVar[str] = "TW1202"
    field: str
    value: object
    problem: str

    def explain(self) -> str:
        return f"{self.field} {_shown(self.value)} {self.problem}; use 1 to 200 printable characters"


@define(eq=False, slots=False)
class NaiveDatetime(InvalidInput):
    """A datetime without a time zone names no instant."""

    code: ClassVar[str] = "TW1203"
    field: str
    value: object

    def explain(self) -> str:
        return f"{self.field} {_shown(self.value)} has no time zone; pass an aware datetime, e.g. datetime.now(UTC)"


@define(eq=False, slots=False)
class InvalidArguments(InvalidInput):
    """The arguments do not fit the task's signature or its types."""

    code: ClassVar[str] = "TW1204"
    task: str
    field: str
    problem: str

    def explain(self) -> str:
        return f"{self.task}({self.field}): {self.problem}; pass what the task's signature declares"


@define(eq=False, slots=False)
class NotSerializable(InvalidInput):
    """An argument cannot be stored as JSON."""

    code: ClassVar[str] = "TW1205"
    task: str
    field: str
    problem: str

    def explain(self) -> str:
        return (
            f"{self.task}: {self.field} cannot be stored as JSON: {self.problem}; "
            "pass plain data, an attrs class or a dataclass, or annotate the parameter"
        )


@define(eq=False, slots=False)
class PayloadTooLarge(InvalidInput):
    """The arguments of one job take more bytes than the limit."""

    code: ClassVar[str] = "TW1206"
    task: str
    size: int
    limit: int

    def explain(self) -> str:
        return (
            f"the arguments of {self.task} take {self.size:,} bytes, more than the limit of {self.limit:,}; "
            "store the data elsewhere and pass its address"
        )


@define(eq=False, slots=False)
class DuplicateId(InvalidInput):
    """One batch holds the same id twice; none of it was stored."""

    code: ClassVar[str] = "TW1207"
    id: str

    def explain(self) -> str:
        return f"id {_shown(self.id)} stands twice in one batch; give each job of a batch its own id"


@define(eq=False, slots=False)
class UnknownTask(InvalidInput):
    """No task of this name is registered with the app."""

    code: ClassVar[str] = "TW1208"
    task: str
    nearest: str | None = None

    def explain(self) -> str:
        hint = f"did you mean {self.nearest!r}?" if self.nearest else "register it with app.task"
        return f"no task {_shown(self.task)} is registered; {hint}"


@define(eq=False, slots=False)
class UniqueConflict(InvalidInput):
    """Another job holds the unique key, and on_conflict is "raise"."""

    code: ClassVar[str] = "TW1209"
    key: str
    holder: str

    def explain(self) -> str:
        return f"unique key {_shown(self.key)} is held by job {self.holder}; wait for it, cancel it, or use on_conflict"


@define(eq=False, slots=False)
class DecodeError(InvalidInput):
    """Stored bytes cannot be turned back into values; they are kept as they are."""

    code: ClassVar[str] = "TW1210"
    field: str
    problem: str

    def explain(self) -> str:
        return (
            f"{self.field} cannot be decoded: {self.problem}; its bytes are kept as they are, "
            "run a version that knows them or enqueue it anew"
        )


@define(eq=False, slots=False)
class ResultTooLarge(NotSerializable):
    """The result of a job takes more bytes than the limit."""

    code: ClassVar[str] = "TW1211"
    size: int
    limit: int

    def explain(self) -> str:
        return (
            f"the result of {self.task} takes {self.size:,} bytes, more than the limit of {self.limit:,}; "
            "store the data elsewhere and return its address"
        )


@define(eq=False, slots=False)
class InvalidBackup(InvalidInput):
    """A file is no backup, or not the whole and unchanged one that was written; nothing was stored."""

    code: ClassVar[str] = "TW1212"
    path: str
    problem: str

    def explain(self) -> str:
        return f"{self.path} cannot be restored: {self.problem}; use another backup, none of its jobs was stored"


# --- a job's end, as seen by the one who waits for it -------------------------------------------------------------


@define(eq=False, slots=False)
class JobError(TaskweaveError):
    """A job ended otherwise than with a result, or its result cannot be had."""

    code: ClassVar[str] = "TW1300"
    id: str


@define(eq=False, slots=False)
class JobNotFound(JobError, LookupError):
    """There is no job with this id in this store."""

    code: ClassVar[str] = "TW1301"

    def explain(self) -> str:
        return f"no job {self.id}: it was deleted, pruned after its retention, or lives in another store; check both"


@define(eq=False, slots=False)
class JobFailed(JobError):
    """The job is a dead letter: its attempts are spent, or it failed without a retry."""

    code: ClassVar[str] = "TW1302"
    task: str
    cause: str
    attempts: int
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = field(default=None, repr=False)

    def explain(self) -> str:
        error = f": {self.error_type}: {self.error_message}" if self.error_type else ""
        return (
            f"job {self.id} of {self.task} failed ({self.cause}, {self.attempts} attempts){error}; "
            f"see 'taskweave job show {self.id}'"
        )


@define(eq=False, slots=False)
class JobCancelled(JobError):
    """The job was cancelled, by an operator or by itself."""

    code: ClassVar[str] = "TW1303"
    reason: str

    def explain(self) -> str:
        return f"job {self.id} was cancelled: {self.reason}; 'taskweave job retry {self.id}' runs it after all"


@define(eq=False, slots=False)
class JobExpired(JobError):
    """The job's deadline passed before it could start."""

    code: ClassVar[str] = "TW1304"

    def explain(self) -> str:
        return f"job {self.id} passed its deadline before it could start; run more workers or give it more time"


@define(eq=False, slots=False)
class JobLost(JobError):
    """The worker of an at-most-once job vanished while running it; nobody knows how far it came."""

    code: ClassVar[str] = "TW1305"

    def explain(self) -> str:
        return (
            f"the worker of at-most-once job {self.id} vanished and nobody knows whether it finished; "
            f"look at what it did, then decide on 'taskweave job retry {self.id}'"
        )


@define(eq=False, slots=False)
class ResultExpired(JobError):
    """The job succeeded, but its result is no longer kept."""

    code: ClassVar[str] = "TW1306"
    why: str

    def explain(self) -> str:
        return f"job {self.id} succeeded but its result is gone ({self.why}); read it sooner or raise result_ttl"


@define(eq=False, slots=False)
class ResultTimeout(JobError, TimeoutError):
    """The job had not ended when the time to wait for it was over; it goes on."""

    code: ClassVar[str] = "TW1307"
    seconds: float
    state: str

    def explain(self) -> str:
        return (
            f"job {self.id} was still {self.state} after {self.seconds:g} s; it goes on. Wait longer, check that a "
            f"worker runs, or ask 'taskweave job why {self.id}'"
        )


@define(eq=False, slots=False)
class WaitTimeout(TaskweaveError, TimeoutError):
    """Something was waited for and did not happen in time."""

    code: ClassVar[str] = "TW1308"
    what: str
    seconds: float

    def explain(self) -> str:
        return f"waited {self.seconds:g} s for {self.what} in vain; wait longer, or check that a worker runs"


@define(eq=False, slots=False)
class IllegalTransition(TaskweaveError):
    """A step was asked for that a job in this state cannot take; the job is unchanged."""

    code: ClassVar[str] = "TW1310"
    state: str
    verb: str

    def explain(self) -> str:
        return f"a job that is {self.state} cannot {self.verb}; the job is unchanged, look at its state first"


# --- stores -------------------------------------------------------------------------------------------------------


@define(eq=False, slots=False)
class StoreError(TaskweaveError):
    """A store could not answer. `applied` says whether the verb took effect: no (proved) or unknown."""

    code: ClassVar[str] = "TW1400"
    transient: ClassVar[bool] = False
    store: str
    problem: str
    applied: Literal["no", "unknown"] = "no"

    def explain(self) -> str:
        return f"{self.store}: {self.problem}; ask 'taskweave doctor' what is wrong with it"


@define(eq=False, slots=False)
class StoreUnavailable(StoreError):
    """The store cannot be reached now; workers try again by themselves."""

    code: ClassVar[str] = "TW1401"
    transient: ClassVar[bool] = True

    def explain(self) -> str:
        return f"{self.store} cannot be reached: {self.problem}; check that it is up, workers retry by themselves"


@define(eq=False, slots=False)
class StoreFull(StoreError):
    """The store has no room; nothing was stored."""

    code: ClassVar[str] = "TW1402"
    transient: ClassVar[bool] = True

    def explain(self) -> str:
        return f"{self.store} is full: {self.problem}; nothing was stored. Make room, prune, or raise the bound"


@define(eq=False, slots=False)
class StoreReadOnly(StoreError):
    """The store cannot be written."""

    code: ClassVar[str] = "TW1403"

    def explain(self) -> str:
        return f"{self.store} cannot be written: {self.problem}; check the permissions of the file and its folder"


@define(eq=False, slots=False)
class NotAStore(StoreError):
    """What lies at this address is not a taskweave store."""

    code: ClassVar[str] = "TW1404"

    def explain(self) -> str:
        return f"{self.store} is not a taskweave store: {self.problem}; check the address, or restore a backup"


@define(eq=False, slots=False)
class StoreMissing(StoreError):
    """There is no store at this address."""

    code: ClassVar[str] = "TW1405"

    def explain(self) -> str:
        return f"{self.store} does not exist: {self.problem}; create it with 'taskweave store init'"


@define(eq=False, slots=False)
class SchemaTooNew(StoreError):
    """The store was written by a newer taskweave."""

    code: ClassVar[str] = "TW1406"

    def explain(self) -> str:
        return f"{self.store} was written by a newer taskweave: {self.problem}; upgrade this installation"


@define(eq=False, slots=False)
class InvalidStoreUrl(StoreError):
    """The address of a store cannot be read."""

    code: ClassVar[str] = "TW1407"

    def explain(self) -> str:
        return (
            f"store address {self.store!r}: {self.problem}; use memory://, sqlite:///path/to/file.db, "
            "postgres://, mysql:// or redis://user:password@host:port/database"
        )


@define(eq=False, slots=False)
class StoreRefused(StoreError):
    """The server answered and refused: a wrong password, a right that is missing, TLS that it does not speak."""

    code: ClassVar[str] = "TW1408"

    def explain(self) -> str:
        return f"{self.store} refused: {self.problem}; check the user, the password, and what that user may do"


@define(eq=False, slots=False)
class SchemaTooOld(StoreError):
    """The store was made by an older taskweave and may not be brought up to date from here."""

    code: ClassVar[str] = "TW1409"

    def explain(self) -> str:
        return f"{self.store} has an older schema: {self.problem}; run 'taskweave store migrate' as its owner"


# --- running ------------------------------------------------------------------------------------------------------


@define(eq=False, slots=False)
class SyncInsideLoop(TaskweaveError):
    """A blocking call was made inside a running event loop, which it would stop."""

    code: ClassVar[str] = "TW1500"
    call: str
    instead: str

    def explain(self) -> str:
        return f"{self.call} would block the running event loop; write: await {self.instead}"


@define(eq=False, slots=False)
class NotOpen(TaskweaveError):
    """Something was used before it was opened, or after it was closed."""

    code: ClassVar[str] = "TW1501"
    what: str

    def explain(self) -> str:
        return f"{self.what} is not open; use it inside 'async with {self.what}:'"


@define(eq=False, slots=False)
class MissingMainGuard(TaskweaveError):
    """A file starts work when it is imported, so each process of run_in="process" would start it again."""

    code: ClassVar[str] = "TW1502"
    path: str

    def explain(self) -> str:
        return (
            f"{self.path} starts work when it is imported, so a process for run_in='process' would start it again; "
            "put that code under: if __name__ == '__main__':"
        )


@define(eq=False, slots=False)
class WorkerFailed(TaskweaveError):
    """The worker stopped by itself because of an error that could not pass."""

    code: ClassVar[str] = "TW1503"
    problem: str

    def explain(self) -> str:
        return f"the worker stopped: {self.problem}; mend that and start it again, its jobs are safe in the store"


@define(eq=False, slots=False)
class LeaseLost(TaskweaveError):
    """The store refused to settle the job in its transaction: nothing that the transaction wrote was kept."""

    code: ClassVar[str] = "TW1504"
    id: str

    def explain(self) -> str:
        return f"job {self.id} is another worker's now, so its transaction was undone; let this error pass, or raise it"


@define(eq=False, slots=False)
class TransactionMisused(TaskweaveError):
    """A transaction was asked for, or used, where there can be none."""

    code: ClassVar[str] = "TW1505"
    problem: str
    remedy: str

    def explain(self) -> str:
        return f"{self.problem}; {self.remedy}"


@define(eq=False, slots=False)
class TransactionTooLong(TaskweaveError, TimeoutError):
    """The block of a transaction took too long, and nothing that it wrote was kept."""

    code: ClassVar[str] = "TW1506"
    seconds: float

    def explain(self) -> str:
        return f"the transaction was undone after {self.seconds:g} s, half the lease; put slow work before it"


# --- control by raising, inside a task ----------------------------------------------------------------------------


class Control(Exception):
    """What a task raises to say how its attempt ends; not an error."""


class Snooze(Control):
    """Run this job again after `delay`; the attempt is given back."""

    def __init__(self, delay: object, reason: str = "") -> None:
        super().__init__(delay, reason)
        self.delay, self.reason = delay, reason


class RetryAfter(Control):
    """Run this job again after `delay`, as a spent attempt; failed when the attempts are spent."""

    def __init__(self, delay: object, reason: str = "") -> None:
        super().__init__(delay, reason)
        self.delay, self.reason = delay, reason


class Cancel(Control):
    """End this job as cancelled, without a retry."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Abort(Control):
    """End this job as failed, without a retry."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
