"""What a scrape says must be what happened: counts by durable ends, histograms in seconds, depths from the store."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskweave.core.events import Ending, RunEnded
from taskweave.core.job import Spec, State, Verb
from taskweave.core.verbs import Claimed, QueueStat, Settlement, Stats
from taskweave.observe.attempts import ENDED_MAX, AttemptBook
from taskweave.observe.metrics import PrometheusObserver


def scraped(observer: PrometheusObserver) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its label values in the order of the label names."""
    families = text_string_to_metric_families(observer.exposed().decode())
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def claimed(id: str, task: str = "send", attempt: int = 1, max_attempts: int = 1) -> Claimed:
    return Claimed(Spec(id, task, "mail", b"", max_attempts=max_attempts), attempt, attempt, 0, 0, 250_000)


def run_once(observer: PrometheusObserver, job: Claimed, verb: Verb) -> None:
    observer.started([job])
    observer.ended(RunEnded(job.id, job.fence, Ending.RETURNED), job, 2_000_000)
    observer.settled([Settlement(job.id, job.fence, verb)])


@pytest.mark.proves(14)
def test_every_outcome_is_counted_by_task_and_queue() -> None:
    observer = PrometheusObserver()
    run_once(observer, claimed("a"), Verb.SUCCEED)
    run_once(observer, claimed("b", max_attempts=2), Verb.RETRY)
    run_once(observer, claimed("b", attempt=2, max_attempts=2), Verb.RETRY)  # the attempts are spent: a failure
    run_once(observer, claimed("c", task="other"), Verb.CANCEL)
    samples = scraped(observer)
    assert samples["taskweave_attempts_started_total", "mail", "send"] == 3
    outcomes = {key[1:]: value for key, value in samples.items() if key[0] == "taskweave_attempts_settled_total"}
    assert outcomes == {
        ("succeeded", "mail", "send"): 1,
        ("retried", "mail", "send"): 1,
        ("failed", "mail", "send"): 1,
        ("cancelled", "mail", "other"): 1,
    }
    assert samples["taskweave_run_seconds_sum", "mail", "send"] == 6
    assert samples["taskweave_wait_seconds_sum", "mail", "send"] == 0.75


def test_an_end_that_is_not_durable_is_not_counted() -> None:
    observer = PrometheusObserver()
    job = claimed("a")
    observer.started([job])
    observer.ended(RunEnded(job.id, job.fence, Ending.RETURNED), job, 1)
    assert not any(key[0] == "taskweave_attempts_settled_total" for key in scraped(observer))
    observer.settled([Settlement(job.id, job.fence, Verb.SUCCEED)])
    observer.settled([Settlement(job.id, job.fence, Verb.SUCCEED)])  # told twice, counted once
    counts = [value for key, value in scraped(observer).items() if key[0] == "taskweave_attempts_settled_total"]
    assert counts == [1]


def test_a_run_that_was_settled_before_it_ended_leaves_nothing_behind() -> None:
    book = AttemptBook()
    job = claimed("a")
    book.started([job])
    assert [outcome for _, _, outcome in book.settled([Settlement("a", 1, Verb.CANCEL)])] == ["cancelled"]
    book.ended(job)
    assert not book._running
    assert not book._ended


def test_an_older_attempt_of_the_same_job_is_not_taken_for_the_one_that_runs() -> None:
    book = AttemptBook()
    book.started([claimed("a", attempt=1)])
    book.started([claimed("a", attempt=3)])  # its lease was lost, and this worker claimed it again
    assert list(book.settled([Settlement("a", 1, Verb.SUCCEED)])) == []
    assert [job.fence for job, _, _ in book.settled([Settlement("a", 3, Verb.SUCCEED)])] == [3]


def test_attempts_whose_settlement_is_refused_do_not_pile_up() -> None:
    book = AttemptBook()
    for number in range(ENDED_MAX + 10):
        job = claimed(str(number))
        book.started([job])
        book.ended(job)
    assert len(book._ended) == ENDED_MAX
    assert not book._running


@pytest.mark.proves(14)
def test_the_depths_are_those_of_the_last_look() -> None:
    observer = PrometheusObserver()
    queue = QueueStat("mail", True, ((State.READY, 7), (State.FAILED, 2)), 3_500_000)
    observer.counted(Stats(0, (queue,)))
    samples = scraped(observer)
    assert samples["taskweave_queue_jobs", "mail", "ready"] == 7
    assert samples["taskweave_queue_jobs", "mail", "failed"] == 2
    assert samples["taskweave_queue_oldest_ready_seconds", "mail"] == 3.5
    assert samples["taskweave_queue_paused", "mail"] == 1


@pytest.mark.proves(141)
def test_the_families_of_time_throughput_store_memory_and_cpu_are_there() -> None:
    observer = PrometheusObserver()
    run_once(observer, claimed("a"), Verb.SUCCEED)
    observer.store_called("exchange", 1_000, None)
    observer.store_called("exchange", 2_000, "busy")
    observer.slots(3, 100)
    observer.lagged(20_000)
    samples = scraped(observer)
    assert samples["taskweave_store_call_seconds_count", "exchange"] == 2
    assert samples["taskweave_store_call_errors_total", "exchange"] == 1
    assert samples["taskweave_slots_used",] == 3
    assert samples["taskweave_slots",] == 100
    assert samples["taskweave_loop_lag_seconds_count",] == 1
    assert samples["process_resident_memory_bytes",] > 1 << 20
    assert samples["process_cpu_seconds_total",] > 0
