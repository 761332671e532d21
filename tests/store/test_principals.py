"""What belongs to another principal is answered exactly like what does not exist, by every verb of the store."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from store_database import StoreDatabase

from rotoscope.errors import InvalidInput, OverBudget, UnknownJob
from rotoscope.store.job_data import ErrorRecord, JobPlan
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.money import Caps
from rotoscope.store.quotes import Quotes
from rotoscope.store.records import Artifact, Job, NewJob, Output, Patch
from rotoscope.store.timing import Intervals

pytestmark = pytest.mark.anyio
OWNER, OTHER = "owner", "another"
NOBODY = "0" * 32
SHA256 = "a" * 64
OUTPUT = Output("mask", 0, Artifact(SHA256, "image/png", 10))
STATES = ("running", "needs_review", "failed", "succeeded")
TABLES = ("jobs", "submissions", "job_events", "outputs", "reservations")
Verb = Callable[[Ledger, str, str], Awaitable[object]]

# Every verb that takes a job's id, on behalf of a principal.
VERBS: dict[str, Verb] = {
    "job": lambda ledger, job_id, principal: ledger.job(job_id, principal),
    "mark_delivered": lambda ledger, job_id, principal: ledger.mark_delivered(job_id, principal, late=True),
    "mark_used": lambda ledger, job_id, principal: ledger.mark_used(principal, {job_id}, {SHA256}),
    "submission": lambda ledger, job_id, principal: ledger.submission(job_id, principal),
    "write_prediction_id": lambda ledger, job_id, principal: ledger.write_prediction_id(job_id, principal, "p2"),
    "resolve_review": lambda ledger, job_id, principal: ledger.resolve_review(job_id, principal, "p2"),
    "end_review": lambda ledger, job_id, principal: ledger.end_review(job_id, principal),
    "update_review_error": lambda ledger, job_id, principal: ledger.update_review_error(
        job_id, principal, ErrorRecord("x", "y", "z")
    ),
    "request_cancel": lambda ledger, job_id, principal: ledger.request_cancel(job_id, principal),
    "outputs": lambda ledger, job_id, principal: ledger.outputs(job_id, principal),
    "restore_outputs": lambda ledger, job_id, principal: ledger.restore_outputs(job_id, principal, [OUTPUT]),
    "resume": lambda ledger, job_id, principal: ledger.resume(job_id, principal),
}
# They take a principal and no job's id; each has a test of its own below.
OF_A_PRINCIPAL = {"jobs", "can_read_artifact"}
# They take a record that was read on behalf of its principal.
OF_A_RECORD = {"open", "preview_open", "advance", "commit_intent", "allow_resend", "withdraw_intent"} | {
    "awaited_jobs",
    "joined_steps",
}
# They act for the process or for the operator, and say so; how long runs take is known of models and not of jobs.
UNSCOPED = {
    "job_of_any_principal",
    "runs_of_other_jobs",
    "resume_failures_of_all_principals",
    "spending_of_all_principals",
    "open_jobs_of_all_principals",
    "learned_seconds",
}


@pytest.fixture
def ledger(database: StoreDatabase) -> Ledger:
    return Ledger(database.connect(), lambda: 1_000_000.0)


def new_job(principal: str = OWNER, key: str = "same key") -> NewJob:
    return NewJob("segment_image", "m", "replicate", principal, False, {}, JobPlan(), key, 0.5, inputs=("b" * 64,))


async def job_in(ledger: Ledger, state: Any) -> Job:
    """A job of the owner's that has an intent to pay and an output, in a state; if it has ended, that was delivered."""
    driver = JobDriver("me", frozenset({"replicate"}), frozenset({"m"}))
    opened = (await ledger.open(new_job(key=state))).job
    job = await Leases(ledger._database, lambda: 1_000_000.0, driver, Intervals()).claim(opened.id)
    assert job is not None
    await ledger.commit_intent(job, "digest")
    error = ErrorRecord("timeout", "late", "look")
    job = await ledger.advance(job, Patch(state=state, stage="watch", outputs=(OUTPUT,), error=error))
    await ledger.mark_delivered(job.id, OWNER)
    return job


async def answer_of(verb: Verb, *given: Any) -> tuple[str, str]:
    try:
        return "answered", str(await verb(*given))
    except (UnknownJob, InvalidInput) as error:
        return type(error).__name__, f"{error.message} {error.hint} {error.code}"


def test_every_verb_of_the_ledger_is_looked_at() -> None:
    public = {name for name, _ in inspect.getmembers(Ledger, inspect.isfunction) if not name.startswith("_")}
    assert public == VERBS.keys() | OF_A_PRINCIPAL | OF_A_RECORD | UNSCOPED


@pytest.mark.parametrize("name", VERBS)
async def test_a_job_of_another_principal_is_answered_like_none_and_stays_as_it_is(
    ledger: Ledger, database: StoreDatabase, name: str
) -> None:
    none = await answer_of(VERBS[name], ledger, NOBODY, OTHER)
    for state in STATES:
        job = await job_in(ledger, state)
        before = [database.execute(f"SELECT * FROM {table}") for table in TABLES]
        assert await answer_of(VERBS[name], ledger, job.id, OTHER) == none
        assert before == [database.execute(f"SELECT * FROM {table}") for table in TABLES]


@pytest.mark.parametrize("name", VERBS)
async def test_a_job_of_its_own_principal_is_answered_or_changed(
    ledger: Ledger, database: StoreDatabase, name: str
) -> None:
    none = await answer_of(VERBS[name], ledger, NOBODY, OWNER)
    seen = set()
    for state in STATES:
        job = await job_in(ledger, state)
        before = [database.execute(f"SELECT * FROM {table}") for table in TABLES]
        answer = await answer_of(VERBS[name], ledger, job.id, OWNER)
        seen.add(answer != none or before != [database.execute(f"SELECT * FROM {table}") for table in TABLES])
    assert True in seen


async def test_a_list_holds_the_jobs_of_its_principal(ledger: Ledger) -> None:
    job = await job_in(ledger, "running")
    assert [one.id for one in await ledger.jobs(OWNER, None, 10)] == [job.id]
    assert list(await ledger.jobs(OTHER, None, 10)) == list(await ledger.jobs(OTHER, ["running"], 10)) == []


async def test_an_equal_request_of_another_principal_opens_a_job_of_its_own(ledger: Ledger) -> None:
    job = (await ledger.open(new_job())).job
    assert await ledger.preview_open(new_job(OTHER), Caps()) is None
    theirs = await ledger.open(new_job(OTHER))
    assert (theirs.is_joined, theirs.job.principal) == (False, OTHER)
    assert (await ledger.open(new_job())).job.id == job.id


async def test_what_one_principal_spends_counts_against_no_cap_of_anothers(ledger: Ledger) -> None:
    caps = Caps(per_day=0.6)
    await ledger.open(new_job(), caps)
    await ledger.open(new_job(OTHER), caps)
    with pytest.raises(OverBudget):
        await ledger.preview_open(
            NewJob("segment_image", "m", "replicate", OTHER, False, {}, JobPlan(), None, 0.5), caps
        )


async def test_a_file_is_read_by_the_principal_whose_job_made_it_or_was_given_it(ledger: Ledger) -> None:
    await job_in(ledger, "succeeded")
    for sha256 in (SHA256, "b" * 64):
        assert await ledger.can_read_artifact(sha256, OWNER)
        assert not await ledger.can_read_artifact(sha256, OTHER)
    assert await ledger.can_read_artifact("c" * 64, OTHER), "no job uses it"
    await ledger.open(new_job(OTHER))
    assert await ledger.can_read_artifact("b" * 64, OTHER), "it was given to both"


async def test_a_quote_is_read_used_and_replaced_by_its_own_principal_only(database: StoreDatabase) -> None:
    quotes = Quotes(database.connect(), lambda: 1_000_000.0, 600.0)
    await quotes.record_quote(OWNER, "key", 2.0)
    await quotes.record_quote(OTHER, "key", 1.0)
    assert not await quotes.has_valid_quote(OTHER, "key", 2.0)
    assert await quotes.consume_quote(OTHER, "key", 1.0)
    assert not await quotes.has_valid_quote(OTHER, "key", 1.0)
    assert await quotes.has_valid_quote(OWNER, "key", 2.0)
    assert await quotes.consume_quote(OWNER, "key", 2.0)
