"""Cancelling from any process, at any moment: what the provider is sent, and what the result says about the money."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import StudioOpener, Until, segment_arguments, start_job
from ledger_file import ledger_file
from scripted_provider import ScriptedProvider

from rotoscope.errors import StorageFailed
from rotoscope.settings import Settings
from rotoscope.store.leases import Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.records import Job
from rotoscope.store.timing import Intervals

pytestmark = pytest.mark.anyio
CANCEL = "POST /v1/predictions/p1/cancel"


@pytest.fixture
def posted(provider: ScriptedProvider, until: Until) -> Callable[[], Awaitable[None]]:
    """Waits until the paying request is out."""

    async def out() -> bool:
        return bool(provider.posts)

    return lambda: until(out)


class Listed:
    """Replicate with its list, in which a prediction appears when its request has come in."""

    def __init__(self, inner: ScriptedProvider) -> None:
        self.inner = inner
        self.looks = 0
        answer = inner.answer

        async def with_list(method: str, path: str, body: bytes) -> Any:
            if method == "GET" and path == "/v1/predictions":
                self.looks += 1
                rows = [
                    {"id": "p1", "model": "bytedance/sa2va-4b-image", "version": version(one), "input": one["input"]}
                    for one in self.bodies
                ]
                return 200, {"results": rows, "next": None}
            if method == "POST" and path == "/v1/predictions":
                self.bodies.append(json.loads(body))
            return await answer(method, path, body)

        self.bodies: list[dict[str, Any]] = []
        inner.respond = with_list


def version(body: dict[str, Any]) -> str | None:
    named = str(body.get("version") or "")
    return named.rpartition(":")[2] or None


async def test_a_cancel_from_another_process_is_noticed_at_the_next_change_poll_without_a_heartbeat(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    """With a glance of 0.25 seconds that is well within the second that is promised."""
    assert Intervals().change_poll <= 0.25
    tempo = Intervals(lease=3000.0, heartbeat=1000.0, poll=1000.0)
    provider.states = [{"status": "processing"}]
    async with (
        opened(settings, provider, intervals=tempo) as first,
        opened(settings, provider, intervals=tempo) as second,
    ):
        job = await start_job(first, segment_arguments(photo))
        with anyio.fail_after(180):
            await provider.on_ask.wait()
        with anyio.fail_after(180):
            await second.cancel(job.id, "local")
            assert (await second.wait(job, 5)).state == "cancelled"
    assert provider.asked.count(CANCEL) == 1


async def test_while_the_reply_is_out_the_providers_list_is_used_to_cancel(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path, until: Until, posted: Any
) -> None:
    provider.hold, provider.states = anyio.Event(), [{"status": "processing"}]
    Listed(provider)

    async def cancelled() -> bool:
        return CANCEL in provider.asked

    async with opened(settings, provider) as first, opened(settings, provider) as second:
        job = await start_job(first, segment_arguments(photo))
        await posted()
        await second.cancel(job.id, "local")
        await until(cancelled)
        assert not provider.hold.is_set()
        provider.hold.set()
        with anyio.fail_after(180):
            job = await first.wait(job, 10)
    assert (job.state, provider.posts) == ("cancelled", 1)


async def test_a_ledger_that_fails_while_a_request_in_flight_is_cancelled_does_not_cut_the_request_off(
    opened: StudioOpener,
    settings: Settings,
    provider: ScriptedProvider,
    photo: Path,
    posted: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = anyio.Event()

    async def broken(*_: Any) -> None:
        tried.set()
        raise StorageFailed("The ledger is locked.")

    provider.hold, provider.states = anyio.Event(), [{"status": "processing"}]
    Listed(provider)
    monkeypatch.setattr(Ledger, "runs_of_other_jobs", broken)
    async with opened(settings, provider) as studio:
        job = await start_job(studio, segment_arguments(photo))
        await posted()
        await studio.cancel(job.id, "local")
        with anyio.fail_after(180):
            await tried.wait()
            provider.hold.set()
            job = await studio.wait(job, 60)
    assert (job.state, provider.asked.count(CANCEL)) == ("cancelled", 1)


async def test_a_job_that_waits_out_a_429_sends_nothing_once_it_is_cancelled(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path, until: Until
) -> None:
    provider.created = (429, {"detail": "throttled"})
    async with opened(settings, provider, sleep=for_ever_when_long) as studio:
        job = await start_job(studio, segment_arguments(photo))

        async def waits() -> bool:
            return "trying again" in (await studio.job(job.id, "local")).message

        await until(waits)
        provider.created = (201, {"status": "starting"})
        await studio.cancel(job.id, "local")
        with anyio.fail_after(180):
            job = await studio.wait(job, 60)
        result = await studio.result(job)
    assert (job.state, provider.posts) == ("cancelled", 1)
    assert result.cost.charged_usd == 0.0
    assert "before anything was sent" in result.message


async def for_ever_when_long(seconds: float) -> None:
    await anyio.sleep(3600 if seconds >= 1 else 0.001)


@pytest.mark.parametrize(
    ("word", "says", "charged"),
    [("aborted", "not charged", False), ("canceled", "the time that it ran is charged", True)],
)
async def test_the_answer_to_a_cancel_says_whether_it_was_charged(
    opened: StudioOpener,
    settings: Settings,
    provider: ScriptedProvider,
    photo: Path,
    word: str,
    says: str,
    charged: bool,
) -> None:
    provider.states, provider.cancelled = [{"status": "starting"}], [{"status": word}]
    async with opened(settings, provider) as studio:
        job = await start_job(studio, segment_arguments(photo))
        with anyio.fail_after(180):
            await provider.on_ask.wait()
            await studio.cancel(job.id, "local")
            job = await studio.wait(job, 60)
    assert (job.state, job.charge.is_charged) == ("cancelled", charged)
    assert says in job.message
    assert job.error is None


async def test_a_cancel_between_a_claim_and_its_driver_is_noticed_without_a_heartbeat(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claiming, written, go_on = Leases.claim, anyio.Event(), anyio.Event()

    async def slowly(self: Leases, job_id: str) -> Job | None:
        job = await claiming(self, job_id)
        written.set()
        await go_on.wait()
        return job

    monkeypatch.setattr(Leases, "claim", slowly)
    provider.states = [{"status": "processing"}]
    async with opened(settings, provider, intervals=Intervals(lease=3000.0, heartbeat=1000.0)) as studio:
        job = await start_job(studio, segment_arguments(photo))
        with anyio.fail_after(180):
            await written.wait()
            await studio.cancel(job.id, "local")
            go_on.set()
            assert (await studio.wait(job, 60)).state == "cancelled"


async def test_a_cancel_is_safe_to_repeat(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "processing"}]
    async with opened(settings, provider) as studio:
        job = await start_job(studio, segment_arguments(photo))
        with anyio.fail_after(180):
            await provider.on_ask.wait()
            await studio.cancel(job.id, "local")
            once = await studio.wait(job, 60)
            twice = await studio.cancel(job.id, "local")
    assert twice == once
    assert provider.asked.count(CANCEL) == 1


async def test_a_key_that_is_refused_while_a_job_is_cancelled_is_not_tried_in_a_busy_loop(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    long_rest = anyio.Event()

    async def rest(seconds: float) -> None:
        if seconds >= 50:
            long_rest.set()
        await anyio.sleep(3600 if seconds >= 50 else 0.001)

    provider.states, answer = [{"status": "processing"}], provider.answer
    refused = anyio.Event()

    async def refusing(method: str, path: str, body: bytes) -> Any:
        if refused.is_set() and path.startswith("/v1/predictions"):
            return 401, {"detail": "Unauthenticated"}
        return await answer(method, path, body)

    provider.respond = refusing
    async with opened(settings, provider, sleep=rest) as studio:
        job = await start_job(studio, segment_arguments(photo))
        with anyio.fail_after(180):
            await provider.on_ask.wait()
        refused.set()
        await studio.cancel(job.id, "local")

        with anyio.fail_after(180):
            await long_rest.wait()
        for _ in range(50):
            found = await studio.job(job.id, "local")
    assert found.state in ("queued", "running"), "no word of the provider's, no end"
    assert provider.asked.count(CANCEL) <= 2


async def test_a_run_that_cannot_be_stopped_goes_on_and_says_so_and_its_result_is_kept(
    opened: StudioOpener, settings: Settings, photo: Path, provider: ScriptedProvider
) -> None:
    """Segmind has no cancel; the answer to a v1 request is the result itself."""
    begin, go_on = anyio.Event(), anyio.Event()

    async def segmind(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        body: Any = {"file_urls": ["https://sandbox.invalid/in.png"]}
        headers = [(b"content-type", b"application/json")]
        if scope["path"] == "/v1/sam-v2-image":
            begin.set()
            await go_on.wait()
            headers, body = [(b"content-type", b"image/png")], provider.files["/out.png"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        await send({"type": "http.response.body", "body": content})

    async with opened(settings, segmind) as studio:
        arguments = segment_arguments(photo, model="sam-v2-image")
        job = await start_job(studio, arguments)
        with anyio.fail_after(180):
            await begin.wait()
            await studio.cancel(job.id, "local")
            go_on.set()
            job = await studio.wait(job, 60)
    assert job.state == "succeeded"


async def test_what_is_proven_is_written_although_the_process_ends(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path, posted: Any
) -> None:
    """A refusal that comes while the process ends takes the intent back: nobody needs to review it."""
    hold = provider.hold = anyio.Event()
    provider.created = (422, {"detail": "no"})

    async def release() -> None:
        await anyio.sleep(0.2)
        hold.set()

    async with anyio.create_task_group() as tasks:
        async with opened(settings, provider) as studio:
            await start_job(studio, segment_arguments(photo))
            await posted()
            tasks.start_soon(release)
        with ledger_file(settings.home / "ledger.sqlite3") as ledger:
            assert ledger.execute("SELECT count(*) FROM submissions").fetchone() == (0,)


async def test_a_job_whose_intent_cannot_be_read_is_never_called_unsent(
    opened: StudioOpener,
    settings: Settings,
    provider: ScriptedProvider,
    photo: Path,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was cancelled while another process had it, which had paid already."""
    async with opened(settings, provider, sleep=for_ever_when_long) as studio:
        provider.created = (500, b"oops")
        job = await start_job(studio, segment_arguments(photo))

        async def reconciling() -> bool:
            return "looking for" in (await studio.job(job.id, "local")).message

        await until(reconciling)
    reading, failed = Ledger.submission, anyio.Event()

    async def sometimes(self: Ledger, job_id: str, principal: str) -> Any:
        if not failed.is_set():
            failed.set()
            raise StorageFailed("The ledger is locked.")
        return await reading(self, job_id, principal)

    async with opened(settings, provider) as studio:
        pass
    with ledger_file(settings.home / "ledger.sqlite3") as ledger:
        ledger.execute("UPDATE jobs SET cancel_requested = 1")
    monkeypatch.setattr(Ledger, "submission", sometimes)
    async with opened(settings, provider, intervals=Intervals(lease=0.5, heartbeat=0.15, poll=0.05)) as studio:
        with anyio.fail_after(180):
            job = await studio.wait(await studio.job(job.id, "local"), 60)
    assert failed.is_set()
    assert (job.state, provider.posts) == ("needs_review", 1)
    assert job.charge.is_charged is None
