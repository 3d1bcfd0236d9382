"""The end of the command's process, although a task may still sit in a thread that nobody can stop.

Python joins every thread that is no daemon before it exits, and a task that waits in C code (a sleep, a socket without
a timeout) would keep a drained worker there for as long as it likes. Its job went back to its queue long ago, so what
is left to do is to say so, to write out what is buffered, and to go. Functions registered with `atexit` are not run
then, as they are not when a process is killed.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Final

THREADS_SECONDS: Final = 0.5  # for threads that are about to end by themselves; a drain may take its grace plus 2 s

log = logging.getLogger("taskweave.worker")


def leave(code: object) -> None:
    """End the process with this exit code if threads would hold it up; else return."""
    left = [each for each in threading.enumerate() if not each.daemon and each is not threading.current_thread()]
    for number, thread in enumerate(left):
        thread.join(THREADS_SECONDS / 2 ** (number + 1))
    left = [each for each in left if each.is_alive()]
    if not left:
        return
    log.warning("%d threads were left behind, the process ends without them", len(left))
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # whoever read it is gone: there is nobody left to tell
    os._exit(code if isinstance(code, int) else int(code is not None))
