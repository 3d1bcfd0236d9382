"""What the end of a run means for its job: one pure decision, from the run's end and the policy to a Settlement.

The worker decides, the store checks: a store turns a retry beyond `max_attempts`, or one of a job that an operator
has cancelled, into what its rules say (core.life), so a worker with an old registry cannot break a budget.

Rules
  returned      succeeded, even if a stop had been asked for: what happened, happened
  raised        retry by the policy, or failed
  timed out     the same, with a failure that says how long it ran
  stopped       by an operator: cancelled; by a drain: released unharmed; by a lost lease: nothing to say any more
  died          its process exited: an attempt is spent, as by an exception
  committed     succeeded, in the store already, with the task's own writes: whatever else is true, that is
  refused       nothing to say: the store has said that the job is another worker's
"""

from __future__ import annotations

from typing import Final

from taskweave.core.effects import Why
from taskweave.core.events import Ending, RunEnded
from taskweave.core.ids import SECOND, Micros
from taskweave.core.job import Failure, Verb
from taskweave.core.retry import Retry, next_delay
from taskweave.core.verbs import Claimed, Settlement

UNFIT_DELAY_US: Final[Micros] = 5 * SECOND  # another worker may know the task, or this one is being upgraded


def settlement_of(
    run: RunEnded, job: Claimed, policy: Retry | None, why: Why | None, ran_us: Micros, asked: str | None
) -> Settlement | None:
    """Return how the attempt ends, or None when this worker has lost the right to say (lease lost).

    `why` is the reason for which the engine had stopped the run, `asked` the words of who asked for a cancel.
    """
    if run.ending is Ending.COMMITTED:
        return succeeded(run)
    if why is Why.LEASE_LOST or run.ending is Ending.REFUSED:
        return None
    match run.ending:
        case Ending.RETURNED:
            return succeeded(run)
        case Ending.CANCELLED:
            return Settlement(run.id, run.fence, Verb.CANCEL, cause="task", reason=run.reason)
        case Ending.ABORTED:
            return Settlement(
                run.id, run.fence, Verb.FAIL, error=run.failure, cause=run.cause or "abort", reason=run.reason
            )
        case Ending.SNOOZED:
            return _snoozed(run, policy, job.age_us + ran_us)
        case Ending.RETRY_AFTER:
            return _retry_after(run, job, policy, job.age_us + ran_us)
        case Ending.UNFIT:
            return Settlement(
                run.id,
                run.fence,
                Verb.RELEASE,
                delay_us=UNFIT_DELAY_US,
                error=run.failure,
                cause=run.cause,
                reason=run.reason,
                unfit=True,
            )
        case Ending.STOPPED if why is not Why.TIMEOUT:
            return stopped(run, why, asked)
        case _:
            failure = _failure(run, why, ran_us)
            cause = "timeout" if why is Why.TIMEOUT else None
            return _failed(run, job, policy, failure, cause, job.age_us + ran_us)


def succeeded(run: RunEnded) -> Settlement:
    """The success of this run: what is settled for it, or was settled in its own transaction."""
    return Settlement(run.id, run.fence, Verb.SUCCEED, run.result, result_dropped=run.result_dropped, spawn=run.spawn)


def stopped(run: RunEnded, why: Why | None, asked: str | None) -> Settlement:
    """The end of a run that obeyed, or had to be left behind, for another reason than its timeout."""
    if why is Why.CANCELLED:
        return Settlement(run.id, run.fence, Verb.CANCEL, cause="cancelled", reason=_joined(asked, run.reason))
    return Settlement(run.id, run.fence, Verb.RELEASE, reason=_joined("the worker stopped", run.reason))


def _joined(first: str | None, second: str | None) -> str | None:
    return "; ".join(part for part in (first, second) if part) or None


def _failure(run: RunEnded, why: Why | None, ran_us: Micros) -> Failure:
    if why is Why.TIMEOUT:
        inner = f"; it raised {run.failure.type}: {run.failure.message}" if run.failure else ""
        note = f"; {run.reason}" if run.reason else ""
        message = f"stopped after {ran_us / SECOND:.3f} s{inner}{note}"
        kinds = ("taskweave.TimedOut", "builtins.TimeoutError", "builtins.OSError", "builtins.Exception")
        return Failure("TimedOut", message, run.failure.traceback if run.failure else "", kinds)
    if run.failure is not None:
        return run.failure
    return Failure(
        "ProcessDied", run.reason or "its process exited", kinds=("taskweave.ProcessDied", "builtins.Exception")
    )


def _failed(
    run: RunEnded, job: Claimed, policy: Retry | None, failure: Failure, cause: str | None, age_us: Micros
) -> Settlement:
    attempts = job.spec.max_attempts
    delay: Micros | None = None
    if job.attempt < attempts:
        delay = next_delay(policy or Retry(attempts), failure, job.attempt, age_us, run.jitter, attempts)
    if delay is None:
        spent = "exhausted" if job.attempt >= attempts and attempts > 1 else "exception"
        return Settlement(run.id, run.fence, Verb.FAIL, error=failure, cause=cause or spent, reason=run.reason)
    return Settlement(run.id, run.fence, Verb.RETRY, delay_us=delay, error=failure, cause=cause, reason=run.reason)


def _past_elapsed(policy: Retry | None, age_us: Micros) -> bool:
    most = policy.max_elapsed_us if policy is not None else None
    return most is not None and age_us > most


def _snoozed(run: RunEnded, policy: Retry | None, age_us: Micros) -> Settlement:
    if _past_elapsed(policy, age_us + run.delay_us):
        reason = _joined("snoozed past max_elapsed", run.reason)
        return Settlement(run.id, run.fence, Verb.FAIL, cause="max_elapsed", reason=reason)
    return Settlement(run.id, run.fence, Verb.SNOOZE, delay_us=run.delay_us, reason=run.reason)


def _retry_after(run: RunEnded, job: Claimed, policy: Retry | None, age_us: Micros) -> Settlement:
    if job.attempt >= job.spec.max_attempts:
        return Settlement(run.id, run.fence, Verb.FAIL, error=run.failure, cause="exhausted", reason=run.reason)
    if _past_elapsed(policy, age_us + run.delay_us):
        return Settlement(run.id, run.fence, Verb.FAIL, error=run.failure, cause="max_elapsed", reason=run.reason)
    return Settlement(run.id, run.fence, Verb.RETRY, delay_us=run.delay_us, error=run.failure, reason=run.reason)
