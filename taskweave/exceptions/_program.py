"""A program that is set up wrongly, or used where it cannot be."""

from __future__ import annotations

from typing import ClassVar

from attrs import define

from taskweave.exceptions._root import TaskweaveError


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
