"""The command `taskweave`, also `python -m taskweave`. Without the extra `cli` it names the remedy and exits 1."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Runs the command line and exits: 0 done, 1 refused or failed (one line says why), 2 wrong usage."""
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
