"""An app says what its store must be able to do: a store that cannot is refused at the start, by the ability's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskweave import App, BuildFailed, InvalidValue, MemoryTaskStore, MissingAbility

pytestmark = pytest.mark.anyio


@pytest.mark.proves(39)
@pytest.mark.parametrize("ability", ["Transacts", "EnqueuesInside"])
async def test_a_store_that_lacks_an_ability_is_refused_at_the_start_by_its_name(ability: str) -> None:
    store = MemoryTaskStore()
    app = App(store, needs=["Listens", ability])
    with pytest.raises(MissingAbility, match=f"memory://.*{ability}") as caught:
        async with app:
            pytest.fail("it was opened")
    assert caught.value.ability == ability


@pytest.mark.proves(39)
async def test_a_store_that_has_it_is_opened(tmp_path: Path) -> None:
    async with App(f"sqlite:///{tmp_path}/jobs.db", needs=("Listens", "Transacts", "EnqueuesInside")) as app:
        assert await app.queues() == ()
    async with App.build().store("memory://").needs("Listens").build() as app:
        assert await app.queues() == ()


def test_an_ability_that_there_is_not_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(InvalidValue, match="Transacts"):
        App("memory://", needs="Transact")
    with pytest.raises(BuildFailed, match="needs"):
        App.build().store("memory://").needs("Flies").build()
