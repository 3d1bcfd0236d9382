"""Input, refused before anything is stored."""

from __future__ import annotations

from typing import ClassVar

from attrs import define

from taskweave.exceptions._root import TaskweaveError, shown


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
        return f"{self.field} is {shown(self.value)}; expected {self.expected}"


@define(eq=False, slots=False)
class InvalidName(InvalidInput):
    """The name of a queue, task, tag or key cannot be kept by every store."""

    code: ClassVar[str] = "TW1202"
    field: str
    value: object
    problem: str

    def explain(self) -> str:
        return f"{self.field} {shown(self.value)} {self.problem}; use 1 to 200 printable characters"


@define(eq=False, slots=False)
class NaiveDatetime(InvalidInput):
    """A datetime without a time zone names no instant."""

    code: ClassVar[str] = "TW1203"
    field: str
    value: object

    def explain(self) -> str:
        return f"{self.field} {shown(self.value)} has no time zone; pass an aware datetime, e.g. datetime.now(UTC)"


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
        return f"id {shown(self.id)} stands twice in one batch; give each job of a batch its own id"


@define(eq=False, slots=False)
class UnknownTask(InvalidInput):
    """No task of this name is registered with the app."""

    code: ClassVar[str] = "TW1208"
    task: str
    nearest: str | None = None

    def explain(self) -> str:
        hint = f"did you mean {self.nearest!r}?" if self.nearest else "register it with app.task"
        return f"no task {shown(self.task)} is registered; {hint}"


@define(eq=False, slots=False)
class UniqueConflict(InvalidInput):
    """Another job holds the unique key, and on_conflict is "raise"."""

    code: ClassVar[str] = "TW1209"
    key: str
    holder: str

    def explain(self) -> str:
        return f"unique key {shown(self.key)} is held by job {self.holder}; wait for it, cancel it, or use on_conflict"


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
