"""The command `taskweave`, also `python -m taskweave`. Without the extra `cli` it names the remedy and exits 1."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Runs the command line and exits: 0 done, 1 refused or failed (one line says why), 2 wrong usage, 130 Ctrl-C."""
    try:
        _main()
    except (KeyboardInterrupt, Exception) as error:  # while modules were loaded; commands see to it themselves
        if not _interrupted(error):
            raise
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _interrupted(error: BaseException | None) -> bool:
    """Whether a Ctrl-C is behind it: Python 3.11 wraps what interrupts the making of a class."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


def _main() -> None:
    if find_spec("click") is None or find_spec("rich") is None:
        print("error: the taskweave command needs its extra; run: pip install 'taskweave[cli]'", file=sys.stderr)
        sys.exit(1)
    from taskweave.cli import root
    from taskweave.cli.leaving import leave

    try:
        root(prog_name="taskweave")
    except SystemExit as end:
        leave(end.code)
        raise


if __name__ == "__main__":
    main()
