"""Prometheus metrics of one worker, on a registry of its own.

Families (seconds and bytes, as Prometheus wants them):
  taskweave_attempts_started_total{task,queue}            taskweave_attempts_settled_total{task,queue,outcome}
  taskweave_wait_seconds{task,queue}                      taskweave_run_seconds{task,queue}
  taskweave_store_call_seconds{verb}                      taskweave_store_call_errors_total{verb}
  taskweave_slots_used, taskweave_slots                   taskweave_loop_lag_seconds
  taskweave_queue_jobs{queue,state}, taskweave_queue_oldest_ready_seconds{queue}, taskweave_queue_paused{queue}
  process_resident_memory_bytes, process_cpu_seconds_total and their kin (from /proc: Linux only)

Ends are counted when their settlement is durable, so the counters of all workers together equal the store's; what
the store ends without a worker (a reaped poison job, an operator's cancel) shows in taskweave_queue_jobs alone.
What happens once for each attempt is counted in plain numbers (`tallies`) and turned into samples at a scrape: the
library's own counters cost five times as much. What happens once for each call of the store uses them.
The collector of queue depths only shows the last Stats given to it; a scrape never waits for the store inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

from taskweave.core.events import RunEnded
from taskweave.core.ids import SECOND, Micros
from taskweave.core.verbs import Claimed, Settlement, Stats
from taskweave.exceptions import MissingExtra
from taskweave.observe.tallies import Buckets, Tallies

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as missing:
    raise MissingExtra("metrics for Prometheus", "metrics") from missing

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_RUN_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)
_WAIT_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400)
_STORE_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10)
_LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_LABELS: Final = ("task", "queue")


class Attempts(Collector):
    """Shows the tallies of attempts: starts, ends by outcome, time waited, time run."""

    def __init__(self) -> None:
        self.tallies = Tallies(_WAIT_BUCKETS, _RUN_BUCKETS)

    def collect(self) -> Iterable[Metric]:
        started = CounterMetricFamily("taskweave_attempts_started", "Attempts started.", labels=_LABELS)
        settled = CounterMetricFamily(
            "taskweave_attempts_settled", "Attempts whose end is durable.", labels=(*_LABELS, "outcome")
        )
        wait = HistogramMetricFamily("taskweave_wait_seconds", "From runnable to started.", labels=_LABELS)
        run = HistogramMetricFamily("taskweave_run_seconds", "Execution time of an attempt.", labels=_LABELS)
        for labels, tally in self.tallies.items():
            started.add_metric(labels, tally.started)
            for outcome, number in list(tally.ends.items()):
                settled.add_metric((*labels, outcome), number)
            wait.add_metric(labels, *_cumulated(tally.wait))
            run.add_metric(labels, *_cumulated(tally.run))
        return started, settled, wait, run


def _cumulated(buckets: Buckets) -> tuple[list[tuple[str, float]], float]:
    """Prometheus' buckets, each with all that are smaller, and the sum in seconds."""
    names = [str(bound / SECOND) for bound in buckets.bounds_us] + ["+Inf"]
    return list(zip(names, accumulate(list(buckets.counts)), strict=True)), buckets.sum_us / SECOND


class QueueDepths(Collector):
    """Shows the last Stats that it was given: depth by state, age of the oldest ready job, pauses."""

    def __init__(self) -> None:
        self.stats: Stats | None = None

    def collect(self) -> Iterable[Metric]:
        depth = GaugeMetricFamily("taskweave_queue_jobs", "Jobs in the store.", labels=("queue", "state"))
        oldest = GaugeMetricFamily(
            "taskweave_queue_oldest_ready_seconds", "How long the oldest ready job has been due.", labels=("queue",)
        )
        paused = GaugeMetricFamily("taskweave_queue_paused", "1 while the queue is paused.", labels=("queue",))
        for queue in self.stats.queues if self.stats is not None else ():
            for state, number in queue.counts:
                depth.add_metric((queue.queue, state.value), number)
            oldest.add_metric((queue.queue,), (queue.oldest_ready_us or 0) / SECOND)
            paused.add_metric((queue.queue,), int(queue.paused))
        return depth, oldest, paused


class PrometheusObserver:
    """Counts exactly what the store holds: an end is counted when its settlement is durable, once.

    Give it to a TaskExecutor as an observer; `exposed()` is the text for a scrape. Raises MissingExtra at import
    without prometheus_client.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        self.depths = QueueDepths()
        self._attempts = Attempts()
        self._calls: dict[str, Histogram] = {}
        self._store = Histogram(
            "taskweave_store_call_seconds",
            "Time of a call to the store.",
            ("verb",),
            buckets=_STORE_BUCKETS,
            registry=registry,
        )
        self._store_errors = Counter(
            "taskweave_store_call_errors",
            "Calls that the store did not answer.",
            ("verb",),
            registry=registry,
        )
        self._lag = Histogram(
            "taskweave_loop_lag_seconds",
            "How late the event loop wakes a timer.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self._slots_used = Gauge("taskweave_slots_used", "Attempts running now.", registry=registry)
        self._slots = Gauge("taskweave_slots", "Attempts that may run at once.", registry=registry)
        registry.register(self._attempts)
        registry.register(self.depths)
        ProcessCollector(registry=registry)

    def started(self, jobs: Sequence[Claimed]) -> None:
        self._attempts.tallies.started(jobs)

    def ended(self, run: RunEnded, job: Claimed, run_us: Micros) -> None:
        self._attempts.tallies.ended(job, run_us)

    def settled(self, settled: Sequence[Settlement]) -> None:
        self._attempts.tallies.settled(settled)

    def store_called(self, verb: str, took_us: Micros, problem: str | None) -> None:
        histogram = self._calls.get(verb)
        if histogram is None:
            histogram = self._calls[verb] = self._store.labels(verb)
        histogram.observe(took_us / SECOND)
        if problem is not None:
            self._store_errors.labels(verb).inc()

    def slots(self, used: int, total: int) -> None:
        self._slots_used.set(used)
        self._slots.set(total)

    def lagged(self, lag_us: Micros) -> None:
        """The event loop woke a timer this much too late."""
        self._lag.observe(lag_us / SECOND)

    def counted(self, stats: Stats) -> None:
        """What the queues held at the last look."""
        self.depths.stats = stats

    def exposed(self) -> bytes:
        """The registry in Prometheus' text format; may take tens of milliseconds, so call it in a thread."""
        return generate_latest(self.registry)
