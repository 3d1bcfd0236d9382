"""The queue machine: `Queue.apply(op, now)` is the meaning of every store."""

from taskweave.core.queue.machine import Queue

__all__ = ["Queue"]
