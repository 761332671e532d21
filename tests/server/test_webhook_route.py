"""The route for webhooks: what is truly signed wakes its job once; everybody else learns nothing by any answer."""

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx  # noqa: TID251 - providers speak to our route as any client would
import pytest
from calls import SECONDS, StudioOpener, Until, segment_arguments, start_job
from scripted_provider import Answer, ScriptedProvider, opened, until
from sqlalchemy import func, select
from webhook_scene import PUBLIC_URL, Replica, post_to, signed, taking_webhooks

from rotoscope.providers.polling import MIN_PAUSE
from rotoscope.settings import Settings, read_settings
from rotoscope.store.access_schema import webhooks
from rotoscope.store.records import Job
from rotoscope_sandbox.webhooks import fal_keys, replicate_secret

__all__ = ["opened", "until"]  # fixtures

pytestmark = pytest.mark.anyio
KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
MIB = 1024 * 1024


@dataclass
class Provider:
    """Replicate and fal by script, with the keys of their webhooks.

    Attributes:
        key: what both sign with now.
        keys_status: what answers who asks for the keys.
        addresses: what each paying request has named.
        keys_asked: how often the keys were asked for.
    """

    script: ScriptedProvider = field(default_factory=ScriptedProvider)
    key: bytes = KEY
    keys_status: int = 200
    addresses: list[str] = field(default_factory=list)
    keys_asked: int = 0

    def __post_init__(self) -> None:
        self.script.states = [{"status": "processing"}]
        self.script.respond = self.respond

    async def respond(self, method: str, path: str, body: bytes) -> Answer:
        if path == "/v1/webhooks/default/secret":
            self.keys_asked += 1
            return self.keys_status, {"key": replicate_secret(self.key)}
        if path == "/.well-known/jwks.json":
            self.keys_asked += 1
            return self.keys_status, fal_keys(self.key)
        if method == "POST" and path == "/v1/predictions":
            self.addresses.append(json.loads(body)["webhook"].removeprefix(PUBLIC_URL))
        return await self.script.answer(method, path, body)

    @property
    def polls(self) -> int:
        return sum(one.startswith("GET /v1/predictions/") for one in self.script.asked)


@dataclass
class Scene:
    """A job whose run is at work, and whose polls wait for a wake."""

    provider: Provider
    replica: Replica
    job: Job
    until: Until

    @property
    def address(self) -> str:
        return self.provider.addresses[0]

    def set_time(self, clock: Callable[[], float]) -> None:
        """Let the age of the keys, and the pauses between requests for them, follow another clock."""
        known = self.replica.studio.context.webhooks
        assert known is not None
        object.__setattr__(known.keys, "clock", clock)

    async def post(
        self, path: str | None = None, body: bytes = b'{"id":"p1"}', headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Post what Replicate has signed, unless other headers are given."""
        given = signed("replicate", KEY, "msg_1", time.time(), body) if headers is None else headers
        return await post_to(self.replica.app, path or self.address, body, given)

    async def rows(self) -> int:
        database = self.replica.studio.context.ledger._database
        return await database.transact(lambda c: c.execute(select(func.count()).select_from(webhooks)).scalar_one())

    async def polled(self, times: int) -> None:
        """Wait until the run was polled so often."""

        async def is_so() -> bool:
            return self.provider.polls >= times

        await self.until(is_so)


async def wait_long(seconds: float) -> None:
    """No pause between polls ends by itself; only those that keep a rate of requests are shorter than the shortest."""
    await (anyio.sleep_forever() if seconds >= MIN_PAUSE else anyio.sleep(seconds))


@pytest.fixture
async def scene(opened: StudioOpener, environment: dict[str, str], photo: Path, until: Until) -> AsyncIterator[Scene]:
    settings = read_settings({**environment, "ROTOSCOPE_SANDBOX": "always", "ROTOSCOPE_PUBLIC_URL": PUBLIC_URL})
    provider = Provider()
    async with taking_webhooks(opened, settings, provider.script, sleep=wait_long) as replica:
        job = await start_job(replica.studio, segment_arguments(photo))
        found = Scene(provider, replica, job, until)

        async def is_watched() -> bool:
            return provider.keys_asked > 0  # the watcher asks for them before it waits

        await until(is_watched)
        yield found


async def test_the_address_names_the_job_without_its_id(scene: Scene) -> None:
    prefix, provider, nonce = scene.address.rsplit("/", 2)
    assert (prefix, provider) == ("/webhooks", "replicate")
    assert len(nonce) >= 16
    assert nonce not in scene.job.id
    assert scene.job.id not in scene.address


async def test_what_replicate_has_signed_wakes_the_job_and_the_end_is_read_back(scene: Scene) -> None:
    scene.provider.script.states = ScriptedProvider().states
    answer = await scene.post(body=b'{"id":"p1","status":"failed","output":"https://evil.invalid/x.png"}')
    job = await scene.replica.studio.wait(scene.job, SECONDS)
    assert (answer.status_code, answer.content) == (202, b"")
    assert job.state == "succeeded"
    assert scene.replica.outcomes == [("replicate", "taken")]


def spoilt(kind: str, nonce: str) -> tuple[str, bytes, dict[str, str]]:
    """A path, a body and headers with one thing wrong."""
    body, now, at = b'{"id":"p1"}', time.time(), "replicate"
    key, stamp, signer = (OTHER if kind == "forged" else KEY), now, "replicate"
    match kind:
        case "old":
            stamp = now - 310
        case "future":
            stamp = now + 310
        case "signed by fal":
            signer = "fal"
        case "sent to fal":
            at = "fal"
        case "sent to a provider without webhooks":
            at = "segmind"
        case "sent to nobody":
            at = "nobody"
    headers = {} if kind == "no signature" else signed(signer, key, "msg_1", stamp, body)
    return f"/webhooks/{at}/{nonce}", (b'{"id":"p2"}' if kind == "tampered body" else body), headers


REFUSED = (
    "forged",
    "old",
    "future",
    "tampered body",
    "no signature",
    "signed by fal",
    "sent to fal",
    "sent to a provider without webhooks",
    "sent to nobody",
)


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_is_not_truly_signed_is_refused_alike_whether_or_not_its_nonce_is_known(
    scene: Scene, kind: str
) -> None:
    nonce, before = scene.address.rpartition("/")[2], scene.provider.polls
    answers = [await post_to(scene.replica.app, *spoilt(kind, one)) for one in (nonce, "0" * len(nonce))]
    assert [(one.status_code, one.content, dict(one.headers)) for one in answers] == [
        (401, b"", dict(answers[0].headers))
    ] * 2
    assert await scene.rows() == 0
    assert scene.provider.polls == before
    assert "taken" not in dict(scene.replica.outcomes).values()


@pytest.mark.parametrize("nonce", ["0" * 16, "x", "%00", "a" * 5000, "'--"])
async def test_an_unknown_nonce_is_answered_like_a_known_one_and_nothing_is_kept(scene: Scene, nonce: str) -> None:
    unknown = await scene.post(f"/webhooks/replicate/{nonce}")
    known = await scene.post()
    assert [unknown.status_code, unknown.content, dict(unknown.headers)] == [202, b"", dict(known.headers)]
    assert await scene.rows() == 1
    assert scene.replica.outcomes == [("replicate", "ignored"), ("replicate", "taken")]


async def test_a_delivery_that_comes_again_is_answered_alike_and_wakes_nobody(scene: Scene) -> None:
    first = await scene.post()
    await scene.polled(1)
    again = [await scene.post() for _ in range(3)]
    assert {(one.status_code, one.content) for one in (first, *again)} == {(202, b"")}
    assert [outcome for _, outcome in scene.replica.outcomes] == ["taken", "ignored", "ignored", "ignored"]
    assert await scene.rows() == 1


async def test_a_webhook_about_another_run_does_not_take_the_place_of_the_jobs_own(scene: Scene) -> None:
    """One that was caught and sent to the address of another job."""
    other = await scene.post(body=b'{"id":"p2"}')
    own = await scene.post()
    assert (other.status_code, own.status_code) == (202, 202)
    assert [outcome for _, outcome in scene.replica.outcomes] == ["ignored", "taken"]
    await scene.polled(1)


async def test_of_a_job_only_so_many_deliveries_are_kept(scene: Scene) -> None:
    for number in range(30):
        body = b'{"id":"p1"}'
        answer = await scene.post(headers=signed("replicate", KEY, f"msg_{number}", time.time(), body))
        assert answer.status_code == 202
    assert await scene.rows() == 16


async def test_a_body_of_more_than_a_mebibyte_is_read_no_further(scene: Scene) -> None:
    given = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(64):
            given += MIB // 4
            yield bytes(MIB // 4)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(scene.replica.app), base_url=PUBLIC_URL) as client:
        answer = await client.post(scene.address, content=chunks())
    assert (answer.status_code, answer.content) == (413, b"")
    assert given <= 2 * MIB
    assert scene.replica.outcomes == []
    whole = b'{"id":"p1","logs":"' + b"x" * (MIB - 21) + b'"}'
    assert len(whole) == MIB
    assert (await scene.post(body=whole)).status_code == 202


async def test_what_is_sent_to_a_name_that_strangers_made_up_is_counted_as_other(scene: Scene) -> None:
    for name in ("nobody", "segmind", "x" * 500):
        await scene.post(f"/webhooks/{name}/{'0' * 16}")
    assert set(scene.replica.outcomes) == {("other", "forged")}


async def test_only_a_post_is_taken(scene: Scene) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(scene.replica.app), base_url=PUBLIC_URL) as client:
        statuses = [(await client.request(method, scene.address)).status_code for method in ("GET", "PUT", "DELETE")]
    assert statuses == [405, 405, 405]


@pytest.mark.parametrize("provider", ["replicate", "fal"])
async def test_a_flood_of_forgeries_asks_for_the_keys_no_more_than_once_a_minute(scene: Scene, provider: str) -> None:
    now = start = anyio.current_time()
    scene.set_time(lambda: now)
    before, body, path = scene.provider.keys_asked, b'{"id":"p1","request_id":"p1"}', f"/webhooks/{provider}/{'0' * 16}"
    for seconds in range(0, 600, 5):
        now = start + seconds
        forged = signed(provider, OTHER, "msg_1", time.time(), body)
        assert (await post_to(scene.replica.app, path, body, forged)).status_code == 401
    assert 1 <= scene.provider.keys_asked - before <= 10
    right = signed(provider, KEY, "msg_1", time.time(), body)
    assert (await post_to(scene.replica.app, path, body, right)).status_code == 202


async def test_a_secret_that_was_changed_is_read_again_at_the_first_webhook_that_it_signs(scene: Scene) -> None:
    later = anyio.current_time() + 61
    scene.set_time(lambda: later)
    scene.provider.key, body = OTHER, b'{"id":"p1"}'
    answer = await scene.post(headers=signed("replicate", OTHER, "msg_1", time.time(), body))
    assert (answer.status_code, scene.provider.keys_asked) == (202, 2)
    assert (await scene.post()).status_code == 401  # what the old one has signed


async def test_without_keys_nothing_is_believed_and_the_provider_may_send_it_again(scene: Scene) -> None:
    now = anyio.current_time() + 86_401
    scene.set_time(lambda: now)
    scene.provider.keys_status = 500
    answers = [await scene.post(), await scene.post("/webhooks/replicate/" + "0" * 16)]
    assert [(one.status_code, one.headers["retry-after"]) for one in answers] == [(503, "30")] * 2
    assert await scene.rows() == 0
    now += 61
    scene.provider.keys_status = 200
    assert (await scene.post()).status_code == 202


async def test_any_user_of_fal_can_have_a_webhook_signed_and_wakes_nobody_without_the_nonce(scene: Scene) -> None:
    body = b'{"request_id":"p1","status":"OK"}'
    headers = signed("fal", KEY, "p1", time.time(), body)
    answer = await post_to(scene.replica.app, "/webhooks/fal/" + scene.address.rpartition("/")[2], body, headers)
    assert answer.status_code == 202
    assert scene.replica.outcomes == [("fal", "ignored")]  # the nonce is of another provider's request
    assert await scene.rows() == 0


async def test_no_line_of_the_log_holds_the_whole_nonce_or_the_secret(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await scene.post()
    await post_to(scene.replica.app, *spoilt("forged", scene.address.rpartition("/")[2]))
    assert scene.address.rpartition("/")[2] not in caplog.text
    assert replicate_secret(KEY) not in caplog.text
    assert replicate_secret(KEY).removeprefix("whsec_") not in caplog.text


async def test_without_a_public_address_the_request_is_as_ever_and_no_webhook_is_believed(
    opened: StudioOpener, settings: Settings, photo: Path
) -> None:
    provider = ScriptedProvider()
    bodies: list[dict[str, Any]] = []

    async def respond(method: str, path: str, body: bytes) -> Answer:
        if method == "POST" and path == "/v1/predictions":
            bodies.append(json.loads(body))
        return await provider.answer(method, path, body)

    provider.respond = respond
    async with taking_webhooks(opened, settings, provider) as replica:
        job = await start_job(replica.studio, segment_arguments(photo))
        assert (await replica.studio.wait(job, SECONDS)).state == "succeeded"
        answer = await post_to(replica.app, *spoilt("right", "0" * 16))
    assert [set(body) for body in bodies] == [{"version", "input"}]
    assert answer.status_code == 401
