"""A task for the tests of transactions in a thread and in a process, which finds its functions by address."""

from __future__ import annotations

from taskweave import Ctx, inject


def ask_for_one(ctx: Ctx = inject()) -> None:
    ctx.transaction()
