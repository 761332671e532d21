"""A subscriber of a job is notified of it, in both eras."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from calls import ServerBuilder
from mcp import Client, MCPError
from mcp.server.mcpserver import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import ResourceUpdatedNotification

from rotoscope.models.access import SANDBOX_URL
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.server.notifications import JobBroadcaster
from rotoscope.settings import Settings
from rotoscope.store.records import Job
from rotoscope_sandbox import Sandbox, build_sandbox

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.{MCPDeprecationWarning.__name__}"),
]
FILM = {"prompt": "a storm", "duration": 4, "resolution": "480p"}
JOB = Job(
    "j1", "generate_video", "m", "p", "local", True, "running", "watch", {}, 0.5, "Running.", None, False, None,
    1, 0.0, 1.0, None,
)  # fmt: skip
NOBODYS = "job://" + "f" * 32


@pytest.fixture
def waiting(tmp_path: Path, settings: Settings, serve: ServerBuilder) -> MCPServer[LazyStudio]:
    """A server whose jobs run for hours, and whose calls do not wait."""
    slow: Sandbox = build_sandbox(tmp_path / "slow", pace=5000.0, public_url=SANDBOX_URL)
    return serve(replace(settings, inline_seconds=0.0), slow)


class Ear:
    """Collects the notifications of a handshake session."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self.received = anyio.Event()

    async def __call__(self, message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            self.uris.append(str(message.params.uri))
            self.received.set()


@asynccontextmanager
async def on_loopback(server: MCPServer[LazyStudio]) -> AsyncIterator[str]:
    """Serves real HTTP; the URL."""
    app = server.streamable_http_app()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # who connects before it serves waits
        running = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.serve, [listener])
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
            running.should_exit = True


async def begin(client: Client) -> str:
    answer = await client.call_tool("generate_video", FILM)
    assert answer.structured_content is not None
    return str(answer.structured_content["job_id"])


async def status(client: Client, job_id: str) -> str:
    answer = await client.call_tool("get_job", {"job_id": job_id})
    assert answer.structured_content is not None
    return str(answer.structured_content["status"])


async def test_a_subscriber_of_the_handshake_era_is_notified_of_its_job(waiting: MCPServer[LazyStudio]) -> None:
    ear = Ear()
    async with Client(waiting, mode="legacy", message_handler=ear) as client:
        job_id = await begin(client)
        await client.subscribe_resource(f"job://{job_id}")
        with anyio.fail_after(180):
            await ear.received.wait()  # where it stands
            ear.received = anyio.Event()
            await client.call_tool("cancel_job", {"job_id": job_id})
            await ear.received.wait()
    assert set(ear.uris) == {f"job://{job_id}"}


async def test_who_subscribes_to_a_job_that_has_ended_is_notified_at_once(waiting: MCPServer[LazyStudio]) -> None:
    """Nothing will ever change any more: who waits for a notice would wait for ever."""
    ear = Ear()
    async with Client(waiting, mode="legacy", message_handler=ear) as client:
        job_id = await begin(client)
        with anyio.fail_after(180):
            while (await status(client, job_id)) != "cancelled":
                await client.call_tool("cancel_job", {"job_id": job_id})
            for _ in range(2):
                ear.received = anyio.Event()
                await client.subscribe_resource(f"job://{job_id}")
                await ear.received.wait()


async def test_over_http_each_session_is_notified_of_its_own_jobs(waiting: MCPServer[LazyStudio]) -> None:
    ears = Ear(), Ear()
    async with on_loopback(waiting) as url, AsyncExitStack() as open_clients:
        clients = [
            await open_clients.enter_async_context(Client(url, mode="legacy", message_handler=ear)) for ear in ears
        ]
        jobs = [await begin(client) for client in clients]
        for client, job_id in zip(clients, jobs, strict=True):
            await client.subscribe_resource(f"job://{job_id}")
        for job_id in jobs:
            await clients[0].call_tool("cancel_job", {"job_id": job_id})
        with anyio.fail_after(180):
            for ear in ears:
                await ear.received.wait()
    assert [set(ear.uris) for ear in ears] == [{f"job://{job_id}"} for job_id in jobs]


async def test_a_listener_of_the_modern_era_is_notified_of_its_job(waiting: MCPServer[LazyStudio]) -> None:
    async with Client(waiting) as client:
        job_id = await begin(client)
        async with client.listen(resource_subscriptions=[f"job://{job_id}", NOBODYS]) as events:
            assert events.honored.resource_subscriptions == [f"job://{job_id}"]
            await client.call_tool("cancel_job", {"job_id": job_id})
            with anyio.fail_after(180):
                event = await anext(aiter(events))
    assert getattr(event, "uri", None) == f"job://{job_id}"


async def test_who_subscribes_to_a_job_that_is_not_theirs_is_refused(waiting: MCPServer[LazyStudio]) -> None:
    async with Client(waiting, mode="legacy") as client:
        with pytest.raises(MCPError) as caught:
            await client.subscribe_resource(NOBODYS)
    assert caught.value.code == -32602


@pytest.mark.parametrize("uri", ["nope://x", "JOB://x", "job:x"])
async def test_who_subscribes_to_what_is_not_served_is_refused(waiting: MCPServer[LazyStudio], uri: str) -> None:
    """Nothing would ever be noticed it."""
    async with Client(waiting, mode="legacy") as client:
        with pytest.raises(MCPError):
            await client.subscribe_resource(uri)
    async with Client(waiting) as client, client.listen(resource_subscriptions=[uri]) as events:
        assert not events.honored.resource_subscriptions


async def test_the_handshake_says_that_resources_can_be_subscribed_to(waiting: MCPServer[LazyStudio]) -> None:
    async with Client(waiting, mode="legacy") as client:
        assert client.server_capabilities is not None
        assert client.server_capabilities.resources is not None
        assert client.server_capabilities.resources.subscribe is True


class Session:
    """What a fan-out needs of a session of the handshake era."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.more = anyio.Event()

    async def send_resource_updated(self, uri: str) -> None:
        self.received.append(uri)
        self.more.set()


async def test_who_unsubscribed_is_notified_no_more() -> None:
    async def look(_: str) -> Job:
        return JOB

    fanout = JobBroadcaster(InMemorySubscriptionBus(), look)
    gone, staying = Session(), Session()
    fanout.add_session("job://j1", "gone", gone)  # type: ignore[arg-type]
    fanout.add_session("job://j1", "staying", staying)  # type: ignore[arg-type]
    fanout.remove_session("job://j1", "gone")
    fanout.remove_session("job://j2", "gone")
    async with anyio.create_task_group() as telling:
        telling.start_soon(fanout.publish_changes)
        with anyio.fail_after(180):
            await staying.more.wait()
        telling.cancel_scope.cancel()
    assert (gone.received, staying.received) == ([], ["job://j1"])


async def test_a_finished_job_is_reported_once_however_often_it_is_read() -> None:
    """A client that answers each notice by reading the job would never come to rest."""
    jobs = {"done": replace(JOB, state="succeeded"), "open": JOB}
    reported: list[str] = []
    bus = InMemorySubscriptionBus()
    bus.subscribe(lambda event: reported.append(getattr(event, "uri", "")))

    async def look(job_id: str) -> Job:
        return jobs[job_id]

    fanout = JobBroadcaster(bus, look)
    fanout.subscribe(lambda _: None)

    async def tell(*job_ids: str) -> None:
        """The last one is notified of: those before it have been looked at."""
        before = len(reported)
        for job_id in job_ids:
            fanout.queue_change(job_id)
        with anyio.fail_after(180):
            while len(reported) == before or reported[-1] != f"job://{job_ids[-1]}":
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as telling:
        telling.start_soon(fanout.publish_changes)
        await tell("done")
        await tell("done", "open")
        await tell("done", "open")
        assert reported == ["job://done", "job://open", "job://open"]
        jobs["done"] = replace(jobs["done"], updated_at=9.0)  # somebody resolved what needed review
        await tell("done")
        telling.cancel_scope.cancel()


async def test_a_change_that_nobody_listens_to_costs_no_look_into_the_ledger() -> None:
    looked: list[str] = []

    async def look(job_id: str) -> Job:
        looked.append(job_id)
        return JOB

    fanout, session = JobBroadcaster(InMemorySubscriptionBus(), look), Session()
    fanout.add_session("job://j1", "one", session)  # type: ignore[arg-type]
    for job_id in ("j2", "j3", "j1"):
        fanout.queue_change(job_id)
    async with anyio.create_task_group() as telling:
        telling.start_soon(fanout.publish_changes)
        with anyio.fail_after(180):
            await session.more.wait()
        telling.cancel_scope.cancel()
    assert (looked, session.received) == (["j1"], ["job://j1"])


async def test_a_listener_of_a_task_is_notified_how_it_ends(
    waiting: MCPServer[LazyStudio], speak: Callable[..., Any]
) -> None:
    async with speak(waiting) as wire:
        task_id = (await wire.call("generate_video", **FILM))["taskId"]
        await wire.post("subscriptions/listen", notifications={"taskIds": [task_id]})
        assert (await wire.read())["params"]["notifications"] == {"taskIds": [task_id]}
        await wire.post("tasks/cancel", taskId=task_id)
        reported = await wire.read()
        while reported.get("params", {}).get("status") != "cancelled":
            reported = await wire.read()
    assert reported["method"] == "notifications/tasks"
    assert reported["params"]["taskId"] == task_id
