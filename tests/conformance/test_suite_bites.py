"""The conformance suite finds every store of `broken`, by the check that is about its bug, on both runtimes."""

from __future__ import annotations

import pytest
from broken import BROKEN, Spoilt, broken

from taskweave.testing import check_store
from taskweave.testing.checks.registry import checks
from taskweave.testing.judging import JUDGES
from taskweave.testing.several import CHECKS

pytestmark = pytest.mark.anyio
WORK = "sixteen_clients_at_once"

FOUND_BY = {
    "ForgetsTheFence": "succeed_by_an_earlier_fence_is_refused",
    "ForgetsUnique": "a_key_until_finished_is_taken_and_the_second_returns",
    "HandsOutTwice": "history_fences_grow",
    "LosesAnEnqueue": "enqueues_ten_thousand_at_once",
    "ReordersAClaim": "takes_the_larger_priority_first",
    "Miscounts": "what_was_set_aside_still_counts_as_ready",
    "StoresHalfABatch": "one_conflict_stores_nothing",
    "RenewsWhatIsOver": "no_lease_is_renewed_at_its_end",
    "ReapsLate": "a_lease_is_reaped_at_its_end",
    "ForgetsTheToken": "retry_sent_again_is_done_already",
    "ForgetsTheClaimId": "a_repeated_claim_hands_out_the_same_jobs",
    "FoldsCase": "names_that_differ_by_case_are_two",
    "CutsTexts": "texts_with_nul_come_back",
    "TakesNoResultForAnEmptyOne": "no_result_and_an_empty_one_are_told_apart",
    "RoundsInstants": "due_in_a_microsecond_is_scheduled",
    "PagesByPosition": "pages_are_stable_while_jobs_come_and_go",
    "PausesMaintenanceToo": "maintenance_promotes_in_every_queue",
    "RunsTimeBackwards": "store_time_never_runs_below_its_floor",
    "CancelsTheRunning": "cancel_of_a_job_that_is_running",
    "SpawnsBeforeItSettles": "a_stale_end_has_no_children",
    "ReadsThenWrites": "history_keys_have_one_holder",
    "SeesOldRows": "says_how_long_the_oldest_has_waited",
    "ForgetsOnClose": "opening_again_keeps_every_job",
    "SharesNamespaces": "two_namespaces_do_not_see_each_other",
    "PurgesTheRunning": "purge_deletes_unstarted_jobs_only",
    "AnswersCreatedTwice": "the_same_id_again_is_existing",
    "KeepsTheLeaseOfAMove": "restores_running_jobs_as_given_back",
    "MovesInAnotherOrder": "restores_the_order",
    "EndsAPageTooEarly": "exports_no_more_than_a_page_holds",
}


@pytest.mark.proves(26)
@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_store_is_found_by_the_check_that_is_about_its_bug(name: str) -> None:
    check = FOUND_BY[name]
    wanted = {check, WORK} if check.startswith("history_") else {check}
    certificate = await check_store(BROKEN[name], only=lambda each: each in wanted)
    assert check in {outcome.name for outcome in certificate.failed}, certificate.summary()
    assert not certificate.passed


async def test_the_same_store_without_a_bug_passes_the_same_checks() -> None:
    sound = broken(type("Sound", (Spoilt,), {})).__name__
    certificate = await check_store(BROKEN.pop(sound), only=lambda each: each in {WORK, *FOUND_BY.values()})
    assert certificate.failed == (), certificate.summary()
    assert len(certificate.outcomes) == len({WORK, *FOUND_BY.values()})


@pytest.mark.proves(26)
def test_there_are_more_than_a_hundred_checks_with_names_of_their_own() -> None:
    names = [*(check.name for check in checks()), *CHECKS, *(f"history_{name}" for name in JUDGES)]
    assert len(names) == len(set(names))
    assert len(names) > 400
    assert all(check.proves for check in checks())
