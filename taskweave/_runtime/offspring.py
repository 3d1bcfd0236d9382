"""One child process, seen from its worker: start, talk, stop, reap.

Theory
  The channel is a socket pair and death is its end of file: a dead child's end is closed by the kernel, and processes
  that a task forks close theirs. So a run waits for one thing, on every runtime, with no watcher and no thread.
Rules
  Stopping is SIGTERM, then SIGKILL after the grace, to the whole process group; nothing is left to reap afterwards.
  The group is killed while its leader is still unreaped, so its number cannot have been given to somebody else.
Rejected: PR_SET_PDEATHSIG, which fires when the *thread* ends that started the child; `anyio.open_process`, whose
  children are watched by a thread each on asyncio in Python 3.11.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import Final

import anyio
import anyio.to_thread

from taskweave._runtime.frames import BODY_BYTES_MAX, Frame, FrameReader, Head, pack

READ_BYTES: Final = 1 << 16
KILL_SECONDS_MAX: Final = 5.0  # how long a killed process may stay in the kernel before it is left to it
BOOT: Final = "import sys; sys.path[:] = sys.argv[3:]; from taskweave._runtime.child import main; main()"


class Offspring:
    """A running child; owned by one run at a time. Raises OSError when it cannot be started."""

    def __init__(self, log_level: int) -> None:
        self.known: set[object] = set()  # the addresses that it has loaded
        self.ready = False
        self._reader = FrameReader(BODY_BYTES_MAX)
        self._socket, theirs = socket.socketpair()
        reading, self._lifeline = os.pipe()
        try:
            self.process = subprocess.Popen(
                _command(theirs.fileno(), reading),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), reading),
                start_new_session=True,
                env={**os.environ, "TASKWEAVE_CHILD": "1"},
            )
        except BaseException:
            self._socket.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(reading)
        self._socket.setblocking(False)
        self._pidfd = os.pidfd_open(self.process.pid) if hasattr(os, "pidfd_open") else -1
        self._hello = pack({"argv": sys.argv, "log_level": log_level})

    @property
    def pid(self) -> int:
        return self.process.pid

    def gone(self) -> bool:
        """Whether an idle child has died; frames that it sent while idle are kept."""
        while True:
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            if not data:
                return True
            self._reader.feed(data)

    async def send(self, head: Head, body: bytes = b"") -> None:
        """Hand over one frame; a child that has died is noticed by `receive`."""
        data, self._hello = self._hello + pack(head, body), b""
        rest = memoryview(data)
        with contextlib.suppress(ConnectionError):
            while rest:
                try:
                    rest = rest[self._socket.send(rest) :]
                except BlockingIOError:
                    await anyio.wait_writable(self._socket)

    async def receive(self) -> Frame | None:
        """Return the next frame, or None when the child has died. Raises BadFrame."""
        while (frame := self._reader.take()) is None:
            await anyio.wait_readable(self._socket)
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                continue
            except ConnectionError:
                return None
            if not data:
                return None
            self._reader.feed(data)
        return frame

    async def stop(self, grace: float) -> int | None:
        """End the process and reap it, within `grace` seconds and a kill; return its exit code, or -signal.

        None when the kernel does not let go of it.
        """
        self._signal(signal.SIGTERM)
        return await self.reap(grace)

    async def dismiss(self, grace: float) -> int | None:
        """Let an idle child leave by itself, by closing the channel; else as `stop`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        return await self.reap(grace)

    async def reap(self, grace: float) -> int | None:
        """Reap a child that is leaving; one that does not within the grace is killed."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(grace):
                await self._exited()
            self._signal(signal.SIGKILL)  # the leader, if it is still there, and what its tasks have started
            with anyio.move_on_after(KILL_SECONDS_MAX):
                await self._exited()
        code = self.process.poll()
        self._socket.close()
        for fd in (self._lifeline, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self._lifeline = self._pidfd = -1
        return code

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # EPERM: macOS, when only a zombie is left
            os.killpg(self.process.pid, number)

    async def _exited(self) -> None:
        if self._pidfd >= 0:
            await anyio.wait_readable(self._pidfd)
        else:  # no pidfd: a thread waits, without reaping
            await anyio.to_thread.run_sync(
                os.waitid, os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT, abandon_on_cancel=True
            )


def _command(channel: int, lifeline: int) -> list[str]:
    """The same interpreter, with the options and the import path of this one."""
    options = [f"-W{option}" for option in sys.warnoptions]
    options += [f"-X{key}" if value is True else f"-X{key}={value}" for key, value in sys._xoptions.items()]
    options += ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [sys.executable, "-P", *options, "-c", BOOT, str(channel), str(lifeline), *map(str, sys.path)]
