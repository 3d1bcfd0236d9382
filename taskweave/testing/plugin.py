"""The pytest plugin of the conformance suite: the options --store, --level and --backend, and a test for each check.

It is loaded with every run of pytest in an environment that has taskweave, so it imports nothing but what a run of
the suite needs, and that only when there is one. pytest itself is not imported at all: it is handed in.
"""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    """The long names always, the short ones where no other plugin has taken them."""
    group = parser.getgroup("taskweave", "conformance of a store (pytest --pyargs taskweave.testing.conformance)")
    options = {
        "store": {"metavar": "TARGET", "help": "mypkg:make_store, or the address of a store"},
        "level": {"default": "concurrent", "help": "basic, concurrent or faults"},
        "backend": {"default": "asyncio", "help": "asyncio or trio"},
    }
    for name, settings in options.items():
        names = [f"--taskweave-{name}", f"--{name}"]
        try:
            group.addoption(*names, dest=f"taskweave_{name}", **settings)
        except ValueError:  # another plugin's option
            group.addoption(names[0], dest=f"taskweave_{name}", **settings)


def pytest_generate_tests(metafunc: Any) -> None:
    """One test for each check, in the module that asks for it by its argument's name."""
    if "taskweave_promise" in metafunc.fixturenames:
        from taskweave.testing.suite import names

        metafunc.parametrize("taskweave_promise", names(metafunc.config.getoption("taskweave_level")))
