"""Webhooks of providers wake the jobs that they are about, in whichever process; what they say is never followed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import BOX, SECONDS, StudioOpener, Until, perform, segment_arguments, start_job
from scripted_provider import OUTPUT_URL, Answer, ScriptedProvider
from sqlalchemy import select
from store_database import POSTGRESQL_PARAM
from webhook_scene import PUBLIC_URL, Mailman, Replica, post_to, signed, taking_webhooks

from rotoscope.composition.driving import Driving
from rotoscope.contracts.arguments import SegmentImage
from rotoscope.models.catalog import manifest_folder
from rotoscope.providers.polling import MIN_PAUSE
from rotoscope.settings import Settings, read_settings
from rotoscope.store.access_schema import webhooks
from rotoscope.store.records import Job
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox
from rotoscope_sandbox.webhooks import replicate_secret

pytestmark = pytest.mark.anyio
KEY = bytes(range(32))
QUICK = Intervals(poll=0.05, change_poll=0.05, list_pauses=(0.0, 0.05), late_list_pauses=())


@pytest.fixture
def public(environment: dict[str, str]) -> Settings:
    """The settings of a server with an address at which the sandbox reaches it."""
    return read_settings({**environment, "ROTOSCOPE_SANDBOX": "always", "ROTOSCOPE_PUBLIC_URL": PUBLIC_URL})


@pytest.fixture
async def mailman() -> AsyncIterator[Mailman]:
    found = Mailman(asyncio.get_running_loop())
    yield found
    await found.finish()


async def wait_for_wake(seconds: float) -> None:
    """No pause between polls or looks ends by itself; only those that keep a rate of requests do."""
    await (anyio.sleep_forever() if seconds >= MIN_PAUSE else anyio.sleep(seconds))


def arguments_for(wire: str, photo: Path) -> SegmentImage:
    if wire == "fal":
        return SegmentImage.model_validate({"image": str(photo), "box": BOX, "model": "fal-ai/sam2/image"})
    model = "sa2va" if wire == "gateway" else "bytedance/sa2va-4b-image"
    return segment_arguments(photo, model=model)


async def kept(studio: Studio) -> list[tuple[str, str | None]]:
    """The job and the run of every webhook that was kept."""
    query = select(webhooks.c.job_id, webhooks.c.prediction_id)
    database = studio.context.ledger._database
    return await database.transact(lambda c: [(job_id, run) for job_id, run in c.execute(query)])


# Whole jobs on the sandbox, which sends webhooks as the providers do, and as they should not.


async def test_a_webhook_alone_ends_the_wait(
    opened: StudioOpener, public: Settings, photo: Path, tmp_path: Path, mailman: Mailman
) -> None:
    sandbox = mailman.build_sandbox(tmp_path / "sandbox")
    async with taking_webhooks(opened, public, sandbox, sleep=wait_for_wake) as replica:
        mailman.app = replica.app
        result = await perform(replica.studio, segment_arguments(photo))
        assert await kept(replica.studio) == [(result.job_id, sandbox.state.accepted[0])]
    assert result.status == "succeeded", result.error
    assert mailman.statuses == [202]
    assert replica.outcomes == [("replicate", "taken")]


async def test_fal_is_given_an_address_too_and_what_it_sends_is_verified_with_its_published_key(
    opened: StudioOpener, public: Settings, photo: Path, tmp_path: Path, mailman: Mailman, until: Until
) -> None:
    sandbox = mailman.build_sandbox(tmp_path / "sandbox")
    async with taking_webhooks(opened, public, sandbox) as replica:
        mailman.app = replica.app
        result = await perform(replica.studio, arguments_for("fal", photo))

        async def has_come() -> bool:
            return bool(replica.outcomes)

        await until(has_come)
        assert await kept(replica.studio) == [(result.job_id, sandbox.state.accepted[0])]
    assert (result.status, replica.outcomes) == ("succeeded", [("fal", "taken")])


@pytest.mark.parametrize("wire", ["replicate", "fal"])
@pytest.mark.parametrize(
    ("kind", "outcomes"),
    [
        ("twice", {"taken", "ignored"}),
        ("disorder", {"taken"}),
        ("early", {"taken"}),
        ("never", set()),
        ("forged", {"forged"}),
        ("old", {"stale"}),
    ],
)
async def test_whatever_becomes_of_its_webhook_a_job_succeeds_and_is_paid_for_once(
    opened: StudioOpener,
    public: Settings,
    photo: Path,
    tmp_path: Path,
    mailman: Mailman,
    wire: str,
    kind: str,
    outcomes: set[str],
) -> None:
    sandbox = mailman.build_sandbox(tmp_path / "sandbox")
    sandbox.state.faults.add(f"odd-webhook;kind={kind}")
    async with taking_webhooks(opened, public, sandbox) as replica:
        mailman.app = replica.app
        result = await perform(replica.studio, arguments_for(wire, photo))
        assert {outcome for _, outcome in replica.outcomes} <= outcomes
        assert len(await kept(replica.studio)) <= 1
    assert result.status == "succeeded", result.error
    assert len(sandbox.state.accepted) == sum(sandbox.state.counters.posts.values()) == 1


async def test_a_webhook_before_the_reply_to_the_paying_request_is_not_lost(
    opened: StudioOpener, public: Settings, photo: Path, tmp_path: Path, mailman: Mailman
) -> None:
    sandbox = mailman.build_sandbox(tmp_path / "sandbox")
    sandbox.state.faults.add("odd-webhook;kind=early")
    async with taking_webhooks(opened, public, sandbox, sleep=wait_for_wake) as replica:
        mailman.app = replica.app
        result = await perform(replica.studio, segment_arguments(photo))
    assert result.status == "succeeded", result.error
    assert replica.outcomes == [("replicate", "taken")]


async def test_a_webhook_that_nobody_took_is_sent_again(
    opened: StudioOpener, public: Settings, photo: Path, tmp_path: Path, mailman: Mailman, until: Until
) -> None:
    sandbox = mailman.build_sandbox(tmp_path / "sandbox", pace=0.001)
    async with taking_webhooks(opened, public, sandbox, sleep=wait_for_wake) as replica:
        job = await start_job(replica.studio, segment_arguments(photo))

        async def was_tried() -> bool:
            return bool(mailman.statuses)

        await until(was_tried)
        mailman.app = replica.app
        assert (await replica.studio.wait(job, SECONDS)).state == "succeeded"
    assert mailman.statuses[0] is None
    assert mailman.statuses[-1] == 202
    assert len({json.dumps(body) for _, body in mailman.came}) == 1


@pytest.fixture(params=["sqlite", POSTGRESQL_PARAM])
def shared(request: pytest.FixtureRequest, public: Settings) -> Settings:
    """The settings of replicas, on each database that they may share."""
    if request.param == "sqlite":
        return public
    return replace(public, database=request.getfixturevalue("postgresql_url"))


async def test_a_webhook_wakes_the_job_that_another_replica_drives(
    opened: StudioOpener, shared: Settings, photo: Path, tmp_path: Path, mailman: Mailman
) -> None:
    """The one that receives it has no part in the job; the ledger carries the wake to the one that has."""
    sandbox, idle = mailman.build_sandbox(tmp_path / "sandbox"), Driving(most_jobs=0)
    async with (
        taking_webhooks(opened, shared, sandbox, sleep=wait_for_wake, intervals=QUICK) as driver,
        taking_webhooks(opened, shared, sandbox, sleep=wait_for_wake, intervals=QUICK, driving=idle) as other,
    ):
        mailman.app = other.app
        job = await start_job(driver.studio, segment_arguments(photo))
        ended = await driver.studio.wait(job, SECONDS)
        assert await kept(driver.studio) == [(job.id, sandbox.state.accepted[0])]
    assert ended.state == "succeeded", ended.error
    assert (driver.outcomes, other.outcomes) == ([], [("replicate", "taken")])
    assert len(sandbox.state.accepted) == 1


# Replies that were lost: a webhook names the run, and the provider is asked whether that is so.


@dataclass
class Losing:
    """Replicate by script: it accepts a paying request, and its reply is lost; its list shows nothing.

    Attributes:
        shown: what it shows of a run when it is asked about it, by the input that it was given; None: no such run.
        when_paid: called when the request has come, before its reply is lost.
        secret: what its webhooks are signed with.
    """

    script: ScriptedProvider = field(default_factory=ScriptedProvider)
    shown: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda given: given
    when_paid: Callable[["Losing"], Any] | None = None
    addresses: list[str] = field(default_factory=list)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    lists: int = 0
    looks: int = 0

    def __post_init__(self) -> None:
        self.script.respond = self.respond

    async def respond(self, method: str, path: str, body: bytes) -> Answer:
        path = path.removeprefix("/replicate")
        if path.endswith("/webhooks/default/secret"):
            return 200, {"key": replicate_secret(KEY)}
        if method == "POST" and path.endswith("/predictions"):
            sent = json.loads(body)
            self.addresses.append(sent["webhook"].removeprefix(PUBLIC_URL))
            self.inputs.append(sent["input"])
            if self.when_paid is not None:
                await self.when_paid(self)
            return 500, b"oops"
        if path == "/v1/predictions":
            self.lists += 1
            return 200, {"results": []}
        if path.startswith("/v1/predictions/"):
            return self.run(path.rpartition("/")[2])
        return await self.script.answer(method, path, body)

    def run(self, name: str) -> Answer:
        self.looks += 1
        given = self.shown(self.inputs[-1])
        if given is None:
            return 404, {"detail": "The requested resource could not be found."}
        output = {"img": OUTPUT_URL, "response": "Sure, [SEG]."}
        known = {"model": "bytedance/sa2va-4b-image", "input": given, "status": "succeeded", "output": output}
        return 200, {"id": name, "logs": "", "error": None, **known}

    async def send_webhook(self, replica: Replica, name: str = "p1") -> int:
        body = json.dumps({"id": name}).encode()
        headers = signed("replicate", KEY, f"msg_{name}", time.time(), body)
        return (await post_to(replica.app, self.addresses[-1], body, headers)).status_code


async def run_of(studio: Studio, job: Job) -> str | None:
    found = await studio.context.ledger.submission(job.id, job.principal)
    assert found is not None
    return found.prediction_id


async def test_a_lost_reply_is_found_by_the_webhook_that_came_before_it(
    opened: StudioOpener, public: Settings, photo: Path
) -> None:
    provider = Losing()
    async with taking_webhooks(opened, public, provider.script, intervals=QUICK) as replica:

        async def send_at_once(losing: Losing) -> None:
            await losing.send_webhook(replica)

        provider.when_paid = send_at_once
        job = await replica.studio.wait(await start_job(replica.studio, segment_arguments(photo)), SECONDS)
        assert await run_of(replica.studio, job) == "p1"
    assert job.state == "succeeded", job.error
    assert (len(provider.addresses), provider.lists) == (1, 0)
    assert provider.looks >= 2  # once to verify it, once to read its end


async def test_a_webhook_ends_the_pause_between_two_looks_for_a_lost_run(
    opened: StudioOpener, public: Settings, photo: Path, until: Until
) -> None:
    provider, tempo = Losing(), Intervals(poll=0.05, change_poll=0.05, list_pauses=(0.0, 1000.0))
    async with taking_webhooks(opened, public, provider.script, intervals=tempo, sleep=wait_for_wake) as replica:
        job = await start_job(replica.studio, segment_arguments(photo))

        async def was_looked_for() -> bool:
            return provider.lists > 0

        await until(was_looked_for)
        assert await provider.send_webhook(replica) == 202
        assert (await replica.studio.wait(job, SECONDS)).state == "succeeded"
    assert len(provider.addresses) == 1


async def test_a_webhook_ends_the_review_of_a_job_whose_run_was_not_found(
    opened: StudioOpener, public: Settings, photo: Path, until: Until
) -> None:
    provider = Losing()
    async with taking_webhooks(opened, public, provider.script, intervals=QUICK) as replica:
        job = await replica.studio.wait(await start_job(replica.studio, segment_arguments(photo)), SECONDS)
        assert job.state == "needs_review"
        assert await provider.send_webhook(replica) == 202

        async def has_ended() -> bool:
            return (await replica.studio.job(job.id, "local")).state == "succeeded"

        await until(has_ended)
        assert await run_of(replica.studio, job) == "p1"
    assert len(provider.addresses) == 1


@pytest.mark.parametrize(
    "shown",
    [lambda _: None, lambda given: {**given, "image": "https://pictures.example/other.png"}, lambda _: {}],
    ids=["no such run", "a run with another input", "a run without its input"],
)
async def test_a_run_that_the_provider_does_not_confirm_is_not_adopted(
    opened: StudioOpener, public: Settings, photo: Path, shown: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> None:
    provider = Losing(shown=shown)
    async with taking_webhooks(opened, public, provider.script, intervals=QUICK) as replica:

        async def send_at_once(losing: Losing) -> None:
            assert await losing.send_webhook(replica) == 202

        provider.when_paid = send_at_once
        job = await replica.studio.wait(await start_job(replica.studio, segment_arguments(photo)), SECONDS)
        assert await run_of(replica.studio, job) is None
    assert (job.state, job.error_code) == ("needs_review", "submit_unknown")
    assert provider.looks >= 1
    assert len(provider.addresses) == 1


async def test_the_run_of_one_job_is_not_adopted_by_another(
    opened: StudioOpener, public: Settings, photo: Path
) -> None:
    """Not even where a webhook to the other's address names it, and both were given the same input."""
    provider = Losing()
    async with taking_webhooks(opened, public, provider.script, intervals=QUICK) as replica:

        async def send_at_once(losing: Losing) -> None:
            assert await losing.send_webhook(replica) == 202

        provider.when_paid = send_at_once
        first = await replica.studio.wait(await start_job(replica.studio, segment_arguments(photo)), SECONDS)
        assert first.state == "succeeded"
        words = segment_arguments(photo, "another")
        second = await replica.studio.wait(await start_job(replica.studio, words), SECONDS)
        # Its webhook had the delivery id of the first one too: nothing of it was kept.
        assert second.state == "needs_review"
        body = b'{"id":"p1"}'
        headers = signed("replicate", KEY, "msg_other", time.time(), body)
        assert (await post_to(replica.app, provider.addresses[-1], body, headers)).status_code == 202
        await replica.studio.review.look_at(second)
        assert await run_of(replica.studio, second) is None
        assert (await replica.studio.job(second.id, "local")).state == "needs_review"


@pytest.fixture
def gateway(public: Settings) -> Settings:
    """A gateway whose record says that it sends webhooks, and a model at it; it has no list."""
    own = public.home / "models"
    own.mkdir(parents=True)
    records = (manifest_folder() / "providers.toml").read_text(encoding="utf-8")
    record = records[records.index("[gateway]") :].replace("can_list = false", "webhooks = true\ncan_list = false")
    (own / "providers.toml").write_text(record, encoding="utf-8")
    shipped = (manifest_folder() / "models" / "sa2va-4b-image.toml").read_text(encoding="utf-8")
    passed_on = shipped.replace('id = "bytedance/sa2va-4b-image"', 'id = "sa2va"').replace('"replicate"', '"gateway"')
    (own / "gateway.toml").write_text(passed_on.replace('form = "version"', 'form = "official"'), encoding="utf-8")
    return public


@pytest.mark.parametrize("is_early", [True, False])
async def test_where_there_is_no_list_a_webhook_is_what_finds_a_lost_run(
    opened: StudioOpener, gateway: Settings, photo: Path, until: Until, is_early: bool
) -> None:
    provider = Losing()
    small = photo.with_name("small.png")
    small.write_bytes(ScriptedProvider().files["/out.png"])
    async with taking_webhooks(opened, gateway, provider.script, intervals=QUICK) as replica:

        async def send_at_once(losing: Losing) -> None:
            assert await losing.send_webhook(replica) == 202

        provider.when_paid = send_at_once if is_early else None
        job = await start_job(replica.studio, arguments_for("gateway", small))
        job = await replica.studio.wait(job, SECONDS)
        if not is_early:
            assert job.state == "needs_review"
            await provider.send_webhook(replica)

        async def has_ended() -> bool:
            return (await replica.studio.job(job.id, "local")).state == "succeeded"

        await until(has_ended)
    assert provider.addresses[0].startswith("/webhooks/gateway/")
    assert (len(provider.addresses), provider.lists) == (1, 0)


async def test_without_such_a_record_a_gateway_is_given_no_address(
    opened: StudioOpener, public: Settings, tmp_path: Path, mailman: Mailman
) -> None:
    async with taking_webhooks(opened, public, mailman.build_sandbox(tmp_path / "sandbox")) as replica:
        known = replica.studio.context.webhooks
    assert known is not None
    assert known.addresses.providers == {"replicate", "fal"}


async def test_fal_confirms_a_lost_run_by_its_status(
    opened: StudioOpener, public: Settings, photo: Path, tmp_path: Path, mailman: Mailman
) -> None:
    sandbox: Sandbox = mailman.build_sandbox(tmp_path / "sandbox")
    sandbox.state.faults.add("odd-webhook;kind=early")
    sandbox.state.faults.add("no-id", wire="fal")
    async with taking_webhooks(opened, public, sandbox, intervals=QUICK) as replica:
        mailman.app = replica.app
        result = await perform(replica.studio, arguments_for("fal", photo))
    assert result.status == "succeeded", result.error
    assert len(sandbox.state.accepted) == 1
    assert not [one for one in sandbox.state.requests if "by-endpoint" in one.path]
