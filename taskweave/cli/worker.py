"""taskweave worker: one process that runs an app's jobs, observed, until it is told to stop.

SIGTERM and SIGINT drain: no new claims, what runs may end within the grace, what is left goes back to its queue.
A second signal gives it back at once. A drain is a success: exit code 0.

A worker that is started before its store (a machine that boots, a cluster that is rolled out) waits for it, until a
signal. Only trouble that can pass is waited for: a wrong password ends the command at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Final

import anyio
import click
from attrs import frozen

from taskweave.abc import Observer
from taskweave.app import App
from taskweave.cli.finding import find_app
from taskweave.cli.loops import backend_option, run_on
from taskweave.core.engine import backoff_us
from taskweave.core.ids import SECOND
from taskweave.core.verbs import Count
from taskweave.exceptions import InvalidValue, NotOpen, StoreError
from taskweave.observe.ends import LogObserver
from taskweave.observe.logging import configure_logging, logger

if TYPE_CHECKING:
    from taskweave._runtime.executor import TaskExecutor
    from taskweave.observe.exposition import Address, Exposition
    from taskweave.settings import ExecutorOptions

SIGNALLED_S: Final = 0.01  # for a signal that came while the store was being opened


@frozen
class Serving:
    """What the command line says about a worker beside its executor's settings."""

    log: LogObserver
    metrics: str | None = None
    until_idle: bool = False
    until_eof: bool = False


def queue_weights(text: str | None) -> dict[str, int] | None:
    """Return the weights of "a,b=3"; a queue without a number has 1. Raises InvalidValue."""
    if text is None:
        return None
    weights: dict[str, int] = {}
    for part in text.split(","):
        name, equals, weight = part.strip().partition("=")
        if not name or (equals and not (weight.isascii() and weight.isdigit())):
            raise InvalidValue("queues", text, "names with optional weights: mail,reports=3")
        weights[name] = int(weight) if equals else 1
    return weights


@click.command()
@click.argument("target", metavar="APP")
@click.option("--store", metavar="URL", envvar="TASKWEAVE_STORE", show_envvar=True, help="Instead of the app's store.")
@click.option("--concurrency", "-c", type=int, help="How many jobs may run at once.")
@click.option("--queues", "-q", metavar="A,B=3", help="The queues to take from, with weights.")
@click.option("--processes", type=int, help="How many children run_in='process' may use.")
@click.option("--grace", metavar="SPAN", help="What running jobs get after the first signal, e.g. 30s.")
@click.option(
    "--metrics", metavar="[HOST]:PORT", help="Serve /metrics and /healthz; on the loopback unless HOST is given."
)
@click.option("--log", "log", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@click.option("--until-idle", is_flag=True, help="End when nothing is left to do, now or later.")
@click.option("--until-eof", is_flag=True, hidden=True, help="Drain when stdin ends: the parent is gone or says so.")
@click.option("--log-successes", is_flag=True, help="Log every success too, not only failures and retries.")
@backend_option
def worker(
    target: str,
    store: str | None,
    concurrency: int | None,
    queues: str | None,
    processes: int | None,
    grace: str | None,
    metrics: str | None,
    log: str,
    log_level: str,
    until_idle: bool,
    until_eof: bool,
    log_successes: bool,
    backend: str,
) -> None:
    """Run the jobs of APP (module:attribute or file.py) until a signal, then drain."""
    configure_logging(json=log == "json", level=log_level.upper())
    options: ExecutorOptions = {"concurrency": concurrency, "queues": queue_weights(queues)}
    options |= {"grace": grace, "processes": processes}
    serving = Serving(LogObserver(successes=log_successes), metrics, until_idle, until_eof)
    app = find_app(target).app
    if store is not None:
        app.redirect(store)
    run_on(backend, lambda: serve(app, options, serving))


async def serve(app: App, options: ExecutorOptions, serving: Serving) -> None:
    """Run the app's jobs, logged, and measured where that is asked for. Raises TaskweaveError."""
    observers: list[Observer] = [serving.log]
    endpoint = None if serving.metrics is None else _endpoint(app, serving.metrics)
    if endpoint is not None:
        observers.append(endpoint.exposition.observer)
    async with AsyncExitStack() as exits:
        if not await _opened(app, exits):
            return
        options["observers"] = observers
        executor = app.executor(**options)
        serving.log.worker = executor.member
        async with anyio.create_task_group() as group:
            if endpoint is not None:
                used = await group.start(endpoint.exposition.serve, endpoint.address)
                logger.info("metrics on http://%s/metrics", used)
            if serving.until_eof:
                group.start_soon(_stop_at_eof, executor)
            await executor.run(signals=True, until_idle=serving.until_idle)
            group.cancel_scope.cancel()


async def _opened(app: App, exits: AsyncExitStack) -> bool:
    """Open the app, waiting for a store that is not there yet; False when a signal came first. Raises StoreError."""
    failures = 0
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        while True:
            try:
                await exits.enter_async_context(app)
            except StoreError as error:
                if not error.transient:
                    raise
                failures += 1
                logger.warning("the worker waits for its store: %s", error)
            else:
                return not failures or not await _signalled(received, SIGNALLED_S)
            if await _signalled(received, backoff_us(failures, app.env.random()) / SECOND):
                return False


async def _signalled(received: AsyncIterator[signal.Signals], seconds: float) -> bool:
    """Whether a signal came before or within these seconds."""
    with anyio.move_on_after(seconds):
        async for number in received:
            logger.info("%s: the worker ends before its store was there", number.name)
            return True
    return False


@frozen
class _Endpoint:
    exposition: Exposition
    address: Address


def _endpoint(app: App, text: str) -> _Endpoint:
    """Where the metrics are shown, and of what. Raises InvalidValue, MissingExtra."""
    from taskweave.observe.exposition import Exposition, parse_address
    from taskweave.observe.metrics import PrometheusObserver

    address = parse_address(text)
    return _Endpoint(Exposition(PrometheusObserver(), app.env, lambda: app.store.apply(Count())), address)


async def _stop_at_eof(executor: TaskExecutor) -> None:
    """Whoever started us holds the other end of our stdin, and closes it by a word or by its death."""
    await anyio.wait_readable(sys.stdin.buffer)
    with suppress(NotOpen):  # it may have ended meanwhile
        executor.stop()
