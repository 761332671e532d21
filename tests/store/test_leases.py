"""Leases: who may take a job, for how long it is theirs, and what one who comes too late can still say."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from intents import intent_of
from set_clock import Clock
from store_database import StoreDatabase

from rotoscope.jobs.progress import estimate_progress
from rotoscope.store.job_data import ErrorRecord, JobPlan
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger, LostLease
from rotoscope.store.openings import SANDBOX_KEY
from rotoscope.store.records import Job, NewJob, Patch
from rotoscope.store.run_limits import RunLimits
from rotoscope.store.timing import Intervals

pytestmark = pytest.mark.anyio
TEMPO = Intervals()
EVERY_KEY = frozenset({"replicate", "fal"})


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def ledger(database: StoreDatabase, clock: Clock) -> Ledger:
    return Ledger(database.connect(), clock)


Process = Callable[..., Leases]


@pytest.fixture
def process(database: StoreDatabase, clock: Clock) -> Process:
    """A process with its own connection to the one database."""

    def start(
        owner: str,
        keys: frozenset[str] = EVERY_KEY,
        models: str = "m",
        limit: int | None = None,
        per_principal: int | None = None,
    ) -> Leases:
        limits = RunLimits({} if limit is None else {"replicate": limit}, per_principal)
        return Leases(database.connect(), clock, JobDriver(owner, keys, frozenset(models), limits), TEMPO)

    return start


async def new(
    ledger: Ledger,
    provider: str = "replicate",
    starter: str | None = None,
    *,
    sandbox: bool = False,
    principal: str = "local",
) -> Job:
    job = NewJob("segment_image", "m", provider, principal, sandbox, {}, JobPlan())
    return (await ledger.open(job, starter=starter)).job


async def taken(leases: Leases, job: Job) -> Job:
    found = await leases.claim(job.id)
    assert found is not None
    return found


async def test_a_claim_gives_a_lease_and_a_higher_fence(
    ledger: Ledger, process: Process, database: StoreDatabase
) -> None:
    job = await taken(process("a"), await new(ledger))
    assert (job.state, job.owner, job.fence) == ("running", "a", 1)
    assert database.execute("SELECT lease_until FROM jobs") == [(1_000_000.0 + TEMPO.lease,)]


async def test_a_job_is_taken_over_after_its_lease_and_not_before(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    first, second = process("a"), process("b")
    job = await taken(first, await new(ledger))
    clock.now += TEMPO.lease
    assert await second.claim(job.id) is None
    assert await second.claim_several() == ()
    clock.now += 0.1
    (late,) = await second.claim_several()
    assert (late.id, late.owner, late.fence) == (job.id, "b", job.fence + 1)


async def test_a_beat_renews_what_is_driven_and_nothing_else(ledger: Ledger, process: Process, clock: Clock) -> None:
    first, second = process("a"), process("b")
    driven, dropped = [await taken(first, await new(ledger)) for _ in range(2)]
    clock.now += TEMPO.lease - 1
    assert (await first.renew(frozenset({driven.id}))).job_ids == {driven.id}
    clock.now += 2
    assert [job.id for job in await second.claim_several()] == [dropped.id]


async def test_a_lease_that_ran_out_while_nobody_took_the_job_is_renewed(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    first = process("a")
    job = await taken(first, await new(ledger))
    clock.now += 10 * TEMPO.lease
    assert (await first.renew(frozenset({job.id}))).job_ids == {job.id}
    assert await process("b").claim_several() == ()


async def test_an_owner_learns_by_its_heartbeat_that_it_has_lost_a_job(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    first = process("a")
    job = await taken(first, await new(ledger))
    clock.now += TEMPO.lease + 1
    await taken(process("b"), job)
    assert (await first.renew(frozenset({job.id}))).job_ids == frozenset()


async def test_a_request_to_cancel_is_seen_by_the_owner_alone(ledger: Ledger, process: Process) -> None:
    first, second = process("a"), process("b")
    wanted, other = [await taken(first, await new(ledger)) for _ in range(2)]
    await ledger.request_cancel(wanted.id, "local")
    assert (await first.cancel_requests(), await second.cancel_requests()) == (frozenset({wanted.id}), frozenset())
    assert (await first.renew(frozenset({wanted.id, other.id}))).cancel_requests == {wanted.id}


async def test_a_late_owner_can_neither_advance_nor_intend(ledger: Ledger, process: Process, clock: Clock) -> None:
    late = await taken(process("a"), await new(ledger))
    clock.now += TEMPO.lease + 1
    ours = await taken(process("b"), late)
    for patch in (Patch(stage="submit"), Patch(state="succeeded"), Patch(state="cancelled"), Patch(progress=0.9)):
        with pytest.raises(LostLease):
            await ledger.advance(late, patch)
    with pytest.raises(LostLease):
        await ledger.commit_intent(late, "digest")
    assert await ledger.job(late.id, "local") == ours
    assert await ledger.submission(late.id, "local") is None


async def reviewed(ledger: Ledger, process: Process, clock: Clock) -> tuple[Job, Leases]:
    """A job whose first owner was stopped in the middle of the paying request, and whose second one gave up."""
    first = await taken(process("a"), await new(ledger))
    await ledger.commit_intent(first, "digest")
    clock.now += TEMPO.lease + 1
    leases = process("b")
    second = await taken(leases, first)
    assert not (await intent_of(ledger, second)).is_new
    error = ErrorRecord("submit_unknown", "Nobody knows.", "Look.")
    return await ledger.advance(second, Patch(state="needs_review", error=error)), leases


async def test_a_late_owners_prediction_id_still_counts_and_ends_a_review(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    job, leases = await reviewed(ledger, process, clock)
    await ledger.mark_delivered(job.id, "local")
    await ledger.write_prediction_id(job.id, "local", "p1")
    again = await ledger.job(job.id, "local")
    assert (again.state, again.error, again.finished_at, again.delivered_at) == ("queued", None, None, None)
    intent = await intent_of(ledger, await taken(leases, job))
    assert (intent.is_new, intent.prediction_id) == (False, "p1")


async def test_a_late_owners_proof_that_nothing_was_sent_still_counts_and_ends_a_review(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    job, leases = await reviewed(ledger, process, clock)
    stands = await ledger.submission(job.id, "local")
    assert stands is not None
    await ledger.withdraw_intent(stands)
    assert (await ledger.job(job.id, "local")).state == "queued"
    assert (await intent_of(ledger, await taken(leases, job))).is_new


async def test_only_who_wrote_an_intent_can_take_it_back(ledger: Ledger, process: Process) -> None:
    leases = process("a")
    job = await taken(leases, await new(ledger))
    old = await intent_of(ledger, job)
    await ledger.withdraw_intent(old)
    newer = await intent_of(ledger, job)
    await ledger.withdraw_intent(old)
    stands = await ledger.submission(job.id, "local")
    assert stands is not None
    assert stands.nonce == newer.nonce


async def test_a_new_job_is_left_to_its_starter_for_two_seconds_and_no_longer(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    starter, other = process("starter"), process("other")
    await starter.renew(frozenset())
    job = await new(ledger, starter="starter")
    clock.now += TEMPO.starter_preference
    assert await other.claim_several() == ()
    assert await other.claim(job.id) is None
    clock.now += 0.1
    assert [one.id for one in await other.claim_several()] == [job.id]


async def test_a_starter_that_is_silent_is_preferred_no_more(ledger: Ledger, process: Process, clock: Clock) -> None:
    starter, other = process("starter"), process("other")
    await starter.renew(frozenset())
    clock.now += TEMPO.lease + 1
    job = await new(ledger, starter="starter")
    assert [one.id for one in await other.claim_several()] == [job.id]


async def test_a_starter_takes_its_own_job_at_once(ledger: Ledger, process: Process) -> None:
    starter = process("starter")
    await starter.renew(frozenset())
    assert (await taken(starter, await new(ledger, starter="starter"))).owner == "starter"


@pytest.mark.parametrize(
    ("sandbox", "keys", "models"),
    [
        (False, frozenset({"fal"}), "m"),
        (False, frozenset({SANDBOX_KEY}), "m"),
        (True, EVERY_KEY, "m"),
        (False, EVERY_KEY, "x"),
    ],
    ids=["no key", "a provider's job for the sandbox", "a rehearsal for a provider", "an unknown model"],
)
async def test_a_process_takes_only_jobs_whose_key_and_model_it_holds(
    ledger: Ledger, process: Process, clock: Clock, sandbox: bool, keys: frozenset[str], models: str
) -> None:
    job = await new(ledger, sandbox=sandbox)
    clock.now += 1000
    leases = process("a", keys, models)
    assert await leases.claim(job.id) is None
    assert await leases.claim_several() == ()
    assert await leases.open_jobs() == []


async def test_a_rehearsal_is_driven_by_who_holds_the_sandbox(ledger: Ledger, process: Process) -> None:
    job = await new(ledger, sandbox=True)
    leases = process("a", frozenset({SANDBOX_KEY}))
    assert await leases.open_jobs() == [job.id]
    assert (await taken(leases, job)).sandbox


async def test_a_providers_limit_holds_over_all_processes_on_a_file(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    first, second = process("a", limit=3), process("b", limit=3)
    waiting = []
    for _ in range(5):
        clock.now += 1  # the oldest goes first
        waiting.append(await new(ledger))
    got = [await first.claim(waiting[0].id), await first.claim(waiting[1].id), *await second.claim_several()]
    assert [job.id for job in got if job] == [job.id for job in waiting[:3]]
    assert not await first.claim_several()
    assert await second.claim(waiting[4].id) is None
    assert got[0] is not None
    await ledger.advance(got[0], Patch(state="succeeded", stage="done"))
    assert [job.id for job in await second.claim_several()] == [waiting[3].id]


async def test_a_lease_that_ran_out_takes_no_place(ledger: Ledger, process: Process, clock: Clock) -> None:
    first, second = process("a", limit=1), process("b", limit=1)
    old = await taken(first, await new(ledger))
    clock.now += TEMPO.lease + 1
    await new(ledger)
    assert [job.id for job in await second.claim_several()] == [old.id]


@pytest.mark.parametrize("running", [0, 3])
async def test_a_full_provider_does_not_hide_the_jobs_of_others(
    ledger: Ledger, process: Process, clock: Clock, running: int
) -> None:
    """However many of its jobs are older."""
    leases = process("a", limit=3)
    crowd = [await new(ledger) for _ in range(100)]
    for job in crowd[:running]:
        await taken(leases, job)
    clock.now += 1
    other = await new(ledger, "fal")
    found = [job.id for job in await leases.claim_several()]
    assert other.id in found
    assert len(found) == 3 - running + 1


async def test_a_principals_limit_holds_over_all_processes_and_providers(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    first, second = process("a", per_principal=2), process("b", per_principal=2)
    mine = []
    for provider in ("replicate", "fal", "replicate"):
        clock.now += 1  # the oldest goes first
        mine.append(await new(ledger, provider))
    clock.now += 1
    theirs = await new(ledger, principal="somebody else")
    got = [await first.claim(mine[0].id), *await second.claim_several()]
    assert {job.id for job in got if job} == {mine[0].id, mine[1].id, theirs.id}
    assert await first.claim(mine[2].id) is None
    assert got[0] is not None
    await ledger.advance(got[0], Patch(state="succeeded", stage="done"))
    assert [job.id for job in await first.claim_several()] == [mine[2].id]


async def test_a_crowd_of_one_principal_does_not_hide_the_jobs_of_another(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    leases = process("a", per_principal=1)
    for _ in range(100):
        await new(ledger)
    clock.now += 1
    other = await new(ledger, principal="somebody else")
    found = [job.id for job in await leases.claim_several()]
    assert other.id in found
    assert len(found) == 2


async def test_rehearsals_take_no_place_from_paid_runs(ledger: Ledger, process: Process) -> None:
    rehearsing, paying = process("a", frozenset({SANDBOX_KEY}), limit=1), process("b", limit=1)
    await taken(rehearsing, await new(ledger, sandbox=True))
    await taken(paying, await new(ledger))


async def test_a_clean_end_gives_everything_back_and_the_next_one_takes_it_at_once(
    ledger: Ledger, process: Process, database: StoreDatabase
) -> None:
    first, second = process("a"), process("b")
    await first.renew(frozenset())
    running, queued = await taken(first, await new(ledger)), await new(ledger, starter="a")
    assert await second.claim_several() == ()
    await first.release_all()
    assert {job.id for job in await second.claim_several()} == {running.id, queued.id}
    with pytest.raises(LostLease):
        await ledger.advance(running, Patch(progress=0.5))
    assert database.execute("SELECT count(*) FROM processes WHERE owner = 'a'") == [(0,)]


async def test_giving_back_touches_no_job_that_has_ended_or_is_anothers(ledger: Ledger, process: Process) -> None:
    first, second = process("a"), process("b")
    done = await taken(first, await new(ledger))
    done = await ledger.advance(done, Patch(state="failed", error=ErrorRecord("x", "y")))
    foreign = await taken(second, await new(ledger))
    await first.release_all()
    assert await ledger.job(done.id, "local") == done
    assert await ledger.job(foreign.id, "local") == foreign


async def test_a_job_that_waits_for_its_next_try_is_left_until_then(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    first, second = process("a"), process("b")
    job = await taken(first, await new(ledger))
    await ledger.advance(job, Patch(next_at=clock.now + 30))
    await first.release_all()
    assert await second.claim_several() == ()
    clock.now += 30
    assert [one.id for one in await second.claim_several()] == [job.id]


# --- clocks that were wrong


@pytest.mark.parametrize("ahead", [60.0, 3600.0, 40 * 86_400.0])
async def test_what_was_written_by_a_clock_that_was_ahead_is_over(
    ledger: Ledger, process: Process, clock: Clock, ahead: float
) -> None:
    """Its owner has died; then the clock was set right."""
    clock.now += ahead
    first, second = process("a"), process("b")
    await first.renew(frozenset())
    driven, waiting = await taken(first, await new(ledger)), await new(ledger, starter="a")
    clock.now -= ahead
    await ledger.request_cancel(driven.id, "local")
    found = {job.id: job for job in await second.claim_several()}
    assert set(found) == {driven.id, waiting.id}
    assert (found[driven.id].cancel_requested, found[driven.id].fence) == (True, driven.fence + 1)


async def test_a_pause_that_was_written_by_a_clock_that_was_ahead_is_over(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    first, second = process("a"), process("b")
    job = await taken(first, await new(ledger))
    await ledger.advance(job, Patch(next_at=clock.now + 3600))
    await first.release_all()
    (again,) = await second.claim_several()
    assert (again.id, again.next_at) == (job.id, None), "nor does the driver wait for it"


async def test_the_longest_pause_that_is_written_is_waited_for(ledger: Ledger, process: Process, clock: Clock) -> None:
    first, second = process("a"), process("b")
    job = await taken(first, await new(ledger))
    await ledger.advance(job, Patch(next_at=clock.now + TEMPO.longest_pause))
    await first.release_all()
    assert await second.claim_several() == ()


async def test_a_lease_of_this_moment_stands_although_the_other_clock_is_a_little_behind(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    await taken(process("a"), await new(ledger))
    clock.now -= TEMPO.lease - TEMPO.heartbeat
    assert await process("b").claim_several() == ()


# --- keys and accounts


def held(database: StoreDatabase, clock: Clock, owner: str, key: str, *accounts: str) -> Leases:
    holder = JobDriver(owner, frozenset({key}), frozenset({"m"}), RunLimits(), frozenset(accounts))
    return Leases(database.connect(), clock, holder, TEMPO)


HOST = "replicate@api.replicate.com"
THEIRS = NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan(), needs_key=HOST, account="first")


async def test_a_job_for_one_host_is_not_driven_by_a_process_with_another(
    ledger: Ledger, database: StoreDatabase, clock: Clock
) -> None:
    job = (await ledger.open(THEIRS)).job
    assert await held(database, clock, "a", "replicate@gateway.example", "first").claim(job.id) is None
    assert await held(database, clock, "b", HOST, "first").claim(job.id) is not None


@pytest.mark.parametrize(
    ("stage", "free"), [("prepare", False), ("submit", False), ("watch", True), ("fetch", True), ("finish", True)]
)
async def test_what_is_sent_needs_the_account_and_what_was_paid_for_any_key_of_the_host(
    ledger: Ledger, database: StoreDatabase, clock: Clock, stage: Any, free: bool
) -> None:
    owner, other = held(database, clock, "a", HOST, "first"), held(database, clock, "b", HOST, "second")
    job = await taken(owner, (await ledger.open(THEIRS)).job)
    await ledger.advance(job, Patch(stage=stage))
    await owner.release_all()
    assert (job.id in await other.open_jobs()) is free
    assert (await other.claim(job.id) is not None) is free


async def test_a_job_without_an_account_is_driven_by_any_key_of_its_host(
    ledger: Ledger, database: StoreDatabase, clock: Clock
) -> None:
    job = (await ledger.open(replace(THEIRS, account=None))).job
    assert await held(database, clock, "a", HOST, "second").claim(job.id) is not None


async def test_a_job_whose_key_was_refused_is_left_to_others_for_a_while(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    first, second = process("a"), process("b")
    job = await taken(first, await new(ledger))
    returned = await ledger.advance(job, Patch(state="queued", message="The key was refused."))
    first.exclude_job(job.id)
    assert (returned.owner, returned.state, returned.lease_until) == (None, "queued", None)
    assert await first.claim_several() == ()
    assert [one.id for one in await second.claim_several()] == [job.id]
    await second.release_all()
    clock.now += TEMPO.key_refusal_pause
    assert [one.id for one in await first.claim_several()] == [job.id]


async def test_who_was_last_seen_with_a_key_stays_known_after_it_has_ended(
    process: Process, database: StoreDatabase, clock: Clock
) -> None:
    first = process("a", frozenset({"fal"}))
    await first.renew(frozenset())
    clock.now += 5
    await process("b", frozenset({"replicate"})).renew(frozenset())
    await first.release_all()
    found = database.execute("SELECT key, owner, seen_at FROM key_holders ORDER BY key")
    assert found == [("fal", "a", clock.now - 5), ("replicate", "b", clock.now)]


# --- jobs that nobody drives


async def test_a_job_that_nobody_drives_says_since_when_and_which_key_is_missing_and_who_had_it(
    ledger: Ledger, database: StoreDatabase, clock: Clock
) -> None:
    owner, other = held(database, clock, "laptop:123:ab", HOST, "first"), held(database, clock, "b", "fal")
    job = await taken(owner, (await ledger.open(THEIRS)).job)
    await owner.renew(frozenset({job.id}))
    job = await ledger.advance(job, Patch(stage="watch", message="Running at Replicate."))
    job = await ledger.job(job.id, "local")
    assert await other.idle_reason(job) is None, "it is driven"
    clock.now += 3600
    why = await other.idle_reason(job)
    assert why is not None
    for words in ("Nobody drives it since 1970-01-12", HOST, "last seen in process 123 on laptop at 1970-01-12"):
        assert words in why
    shown = estimate_progress(job, clock.now, why)
    assert (shown.message, shown.progress) == (why, job.progress), "no progress is made up"
    assert await other.idle_jobs() == [(job, why)]
    assert await other.open_jobs() == []


async def test_a_job_whose_key_nobody_ever_had_says_so(ledger: Ledger, database: StoreDatabase, clock: Clock) -> None:
    job = (await ledger.open(THEIRS)).job
    other = held(database, clock, "b", "fal")
    assert await other.idle_reason(job) is None, "somebody may come"
    clock.now += 60
    assert "no process was ever seen with it" in str(await other.idle_reason(job))


async def test_a_job_that_waits_for_a_place_or_for_its_time_is_not_said_to_lack_a_key(
    ledger: Ledger, process: Process, clock: Clock
) -> None:
    first = process("a", limit=1)
    await taken(first, await new(ledger))
    waiting, paused = await new(ledger), await new(ledger)
    clock.now += 60
    await first.renew(frozenset())
    assert "takes it when its provider has room" in str(await first.idle_reason(waiting))
    assert await first.idle_reason(replace(paused, next_at=clock.now + 30)) is None


async def test_a_job_that_has_ended_is_not_idle(ledger: Ledger, process: Process, clock: Clock) -> None:
    job = await ledger.advance(await taken(process("a"), await new(ledger)), Patch(state="succeeded"))
    clock.now += 3600
    assert await process("b").idle_reason(job) is None
