"""Every fault of a provider on every dialect: the promised state and number of paying requests, and never paid twice.

A refused connection and the faults of the sandbox are here. Clocks, kills, disks, several processes and clients that go
away are no provider's doing: they are in the tests of the job engine.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import anyio
import pytest
from fault_scene import BRIEF, DEADLINE_SECONDS, Caller, FaultScene
from soak import IS_SOAK

from rotoscope.jobs.stages import fetch

pytestmark = pytest.mark.anyio

ALL = ("replicate", "fal", "segmind v1", "segmind v2", "gateway")
SLOW = ("official", "gateway film")
"""Their results take seconds to compute; what differs in them is the form of the request."""


@dataclass(frozen=True)
class Promise:
    """How a job ends: its state, its error's code, the paying requests that were sent and the runs that were bought.

    A reply that is lost after acceptance costs one run, whatever happens then; where the provider's list can tell, the
    job goes on.
    """

    status: str
    code: str | None = None
    posts: int = 1
    bought: int = 1


@dataclass(frozen=True)
class Case:
    fault: str
    promise: Promise
    others: dict[str, Promise] = field(default_factory=dict)
    slow: bool = False
    """Whether it is tried on the slow models as well."""


FINE = Promise("succeeded")
FOUND = Promise("found again, where there is a list")
UNSURE = Promise("needs_review", "submit_unknown", bought=0)
AGAIN = Promise("succeeded", posts=2)


def no(code: str) -> Promise:
    return Promise("failed", code, bought=0)


def ran(code: str, status: str = "failed") -> Promise:
    return Promise(status, code)


HOLLOW = ran("provider_protocol")
V1, V2 = "segmind v1", "segmind v2"
CASES = (
    Case("reset", FOUND, slow=True),
    Case("reset;accepted=no", UNSURE),
    Case("close", FOUND),
    Case("truncated-reply", FOUND),
    Case("hang", FOUND, slow=True),
    Case("unreadable-reply", FOUND),
    Case("unreadable-reply;kind=json", FOUND),
    Case("unreadable-reply;kind=type", FINE),
    Case("no-id", FOUND, {V1: FINE}),
    Case("no-id;id=number", FOUND, {V1: FINE}),
    Case("throttled", AGAIN, slow=True),
    Case("odd-throttle", AGAIN),
    Case("odd-throttle;retry-after=date", AGAIN),
    Case("odd-throttle;retry-after=86400", AGAIN),
    Case("odd-throttle;retry-after=-5", AGAIN),
    Case("odd-throttle;retry-after=soon", AGAIN),
    Case("odd-throttle;times=forever", Promise("failed", "rate_limited", posts=5, bought=0)),
    Case("server-error", FOUND, slow=True),
    Case("server-error;status=502", FOUND),
    Case("server-error;status=504;accepted=no", UNSURE),
    Case("server-error;accepted=no", UNSURE, {V1: no("provider_error")}),
    Case("poll-error", FINE, slow=True),
    Case("poll-error;status=500;times=6", FINE),
    Case("slow-reply", FINE),
    Case("slow-reply;kind=body", FINE),
    Case("key-refused", no("auth")),
    Case("key-refused;status=403", no("auth")),
    Case("key-revoked;times=2", FINE),
    Case("no-credit", no("provider_credit")),
    Case("input-refused", no("invalid_input")),
    Case("input-refused;kind=policy", no("invalid_input"), {"fal": no("content_policy")}),
    Case("input-refused;later=yes", ran("prediction_failed"), {V1: ran("provider_error")}, slow=True),
    Case("status-unknown", FINE),
    Case("status-goes-back", FINE),
    Case(
        "provider-cancels",
        ran("provider_cancelled", "cancelled"),
        {V1: ran("provider_error"), V2: ran("prediction_failed")},
    ),
    Case(
        "provider-cancels;kind=abort",
        ran("provider_cancelled", "cancelled"),
        {V1: ran("provider_error"), V2: ran("prediction_failed")},
    ),
    Case("bad-output", HOLLOW, {V1: FINE}, slow=True),
    Case("bad-output;kind=empty", HOLLOW, {V1: FINE}),
    Case("bad-output;kind=shape", HOLLOW),
    Case("bad-output;kind=host", ran("output_blocked"), {V1: FINE}),
    Case("output-gone", ran("output_expired"), {V1: FINE}, slow=True),
    Case("output-gone;status=410;times=2", FINE),
    Case("output-gone;fresh=yes", FINE),
    Case("truncated-output", FINE),
    Case("truncated-output;kind=reset", FINE),
    Case("damaged-output", ran("not_media")),
    Case("damaged-output;kind=broken", ran("corrupt")),
    Case("damaged-output;kind=declared", ran("too_large")),
    Case("odd-webhook;kind=twice", FINE),
    Case("odd-webhook;kind=forged", FINE),
)
CELLS = [(case, who) for case in CASES for who in (*ALL, *(SLOW if case.slow else ()))]
# On PostgreSQL the stages and the wires are the same, and the ledger is not: `make test` takes one cell of each kind of
# end there, `make soak` all of them.
KINDS = ("reset", "reset;accepted=no", "hang", "no-id", "throttled", "server-error", "server-error;accepted=no",
         "poll-error", "key-refused", "input-refused;later=yes", "provider-cancels", "output-gone")  # fmt: skip
SAMPLE = [(case, ALL[KINDS.index(case.fault) % len(ALL)]) for case in CASES if case.fault in KINDS]
on_postgresql = partial(pytest.param, "postgresql", marks=pytest.mark.postgresql)
both = pytest.mark.parametrize("scene", ["sqlite", on_postgresql()], indirect=True)


def promised(case: Case, who: str, caller: Caller) -> Promise:
    promise = case.others.get(who, case.promise)
    if promise is FOUND:
        return FINE if caller.lists else Promise("needs_review", "submit_unknown")
    return promise


@pytest.fixture(autouse=True)
def no_key_is_logged(caplog: pytest.LogCaptureFixture, keys: tuple[str, ...]) -> Iterator[None]:
    """At any level."""
    with caplog.at_level(logging.DEBUG):
        yield
    assert not [key for key in keys if key in caplog.text]


@pytest.mark.parametrize(
    ("scene", "case", "who"),
    [
        *(pytest.param("sqlite", case, who, id=f"{case.fault}-{who}") for case, who in CELLS),
        *(
            on_postgresql(case, who, id=f"postgresql-{case.fault}-{who}")
            for case, who in (CELLS if IS_SOAK else SAMPLE)
        ),
    ],
    indirect=["scene"],
)
async def test_a_job_ends_as_promised_and_is_paid_for_once_at_most(
    scene: FaultScene, callers: dict[str, Caller], keys: tuple[str, ...], case: Case, who: str
) -> None:
    caller = callers[who]
    promise = promised(case, who, caller)
    scene.app.state.faults.add(case.fault)
    if case.fault.startswith(("hang", "slow-reply")):
        scene.times = BRIEF
    with anyio.fail_after(180):
        async with scene.studio() as studio:
            result = await scene.call(studio, caller)
    code = result.error.code if result.error else None
    assert (result.status, code) == (promise.status, promise.code), result.error
    assert (scene.posts, scene.accepted) == (promise.posts, promise.bought)
    assert result.error is None or result.error.hint
    assert scene.rows("SELECT count(*) FROM jobs") == [(1,)]
    ((settled,),) = scene.rows("SELECT settled_at IS NOT NULL FROM reservations")
    assert settled == (promise.status != "needs_review")
    assert not [key for key in keys if key.encode() in scene.written() + result.model_dump_json().encode()]


@pytest.mark.parametrize("who", ALL)
async def test_a_provider_that_cannot_be_reached_is_tried_again_and_nothing_is_spent(
    scene: FaultScene, callers: dict[str, Caller], who: str
) -> None:
    """Nothing listens."""
    nowhere = "http://127.0.0.1:9"
    scene.more |= {f"{name}_BASE_URL": nowhere for name in ("REPLICATE", "FAL", "SEGMIND", "GATEWAY")}
    async with scene.studio() as studio:
        result = await scene.call(studio, callers[who])
    assert result.error is not None
    assert (result.status, result.error.code, result.cost.charged_usd) == ("failed", "provider_unreachable", 0.0)
    assert scene.rows("SELECT count(*) FROM submissions") == [(0,)]


@both
@pytest.mark.parametrize("who", ["replicate", "fal", "segmind v2", "gateway"])
async def test_a_key_that_is_not_accepted_any_more_pauses_the_job_until_it_is(
    scene: FaultScene, callers: dict[str, Caller], who: str
) -> None:
    """key-revoked: the run is paid for and goes on at the provider."""
    rule = scene.app.state.faults.add("key-revoked")
    async with scene.studio() as studio:
        with anyio.fail_after(DEADLINE_SECONDS):
            while True:
                paused = await scene.call(studio, callers[who], wait=0.2)
                if paused.error is not None:
                    break
        assert (paused.status, paused.error.code) in (("queued", "auth"), ("running", "auth"))
        scene.app.state.faults.remove(rule)
        result = await scene.call(studio, callers[who])
    assert result.status == "succeeded"
    assert result.error is None
    assert (scene.posts, scene.accepted) == (1, 1)


@pytest.mark.parametrize("who", ["replicate", "fal", "gateway"])
async def test_a_run_that_never_ends_is_given_up_when_its_provider_has_stopped_it(
    scene: FaultScene, callers: dict[str, Caller], who: str
) -> None:
    """never-ends. The gateway cannot be asked to stop, but knows of the deadline from the request."""
    scene.shorten_deadlines()
    scene.app.state.faults.add("never-ends")
    async with scene.studio() as studio:
        result = await scene.call(studio, callers[who])
    assert result.error is not None
    assert (result.status, result.error.code) == ("failed", "timeout")
    assert (scene.posts, scene.accepted) == (1, 1)
    assert scene.cancels == int(callers[who].cancels)


async def test_a_run_that_never_ends_and_cannot_be_stopped_is_waited_for_and_the_message_has_it(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    """never-ends."""
    scene.shorten_deadlines()
    scene.app.state.faults.add("never-ends")
    async with scene.studio() as studio:
        with anyio.fail_after(DEADLINE_SECONDS):
            while True:
                result = await scene.call(studio, callers["segmind v2"], wait=1)
                assert (result.status, result.error) in (("queued", None), ("running", None))
                if "takes longer than 1 seconds and cannot be stopped" in result.message:
                    break
    assert (scene.posts, scene.accepted) == (1, 1)


@both
@pytest.mark.parametrize("who", ["replicate", "fal"])
@pytest.mark.parametrize(
    ("fault", "status"),
    [("odd-cancel;kind=race", "succeeded"), ("odd-cancel;kind=twice", "cancelled"), (None, "cancelled")],
)
async def test_a_cancel_ends_as_the_provider_has_it(
    scene: FaultScene, callers: dict[str, Caller], who: str, fault: str | None, status: str
) -> None:
    if fault != "odd-cancel;kind=race":
        scene.app.state.faults.add("never-ends")
    if fault is not None:
        scene.app.state.faults.add(fault)
    async with scene.studio() as studio:
        begun = await scene.call(studio, callers[who], wait=0.0)
        with anyio.fail_after(DEADLINE_SECONDS):
            while not scene.accepted:  # noqa: ASYNC110 - the sandbox is in another thread
                await anyio.sleep(0.01)
            job = await studio.cancel(begun.job_id, "local")
            job = await studio.wait(job, DEADLINE_SECONDS)
    assert job.state == status
    assert (scene.posts, scene.accepted) == (1, 1)


async def test_an_output_that_never_ends_is_cut_off(
    scene: FaultScene, callers: dict[str, Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_OUTPUT_BYTES", 1024 * 1024)
    scene.app.state.faults.add("damaged-output;kind=endless")
    async with scene.studio() as studio:
        result = await scene.call(studio, callers["fal"])
    assert result.error is not None
    assert result.error.code == "too_large"
    assert not list((scene.settings.home / "vault" / "scratch").iterdir())
