"""What a store cannot do, and why."""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import define

from taskweave.exceptions._root import TaskweaveError


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
