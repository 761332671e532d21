"""The tasks extension by itself, on a plain server and a store of tasks in memory. Demands: ext-tasks, draft."""

import ast
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx  # noqa: TID251 - speaks to the server's ASGI app in memory
import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated
from mcp_types import (
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ErrorData,
    SubscriptionsListenRequestParams,
    TextContent,
)

import rotoscope.protocol.tasks as extension
from rotoscope.protocol.lowlevel import serve_method
from rotoscope.protocol.tasks import Task, TaskListenHandler, TasksExtension, current_offer

pytestmark = pytest.mark.anyio
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
QUESTION = ElicitRequest(params=ElicitRequestFormParams(message="Sure?", requested_schema=SCHEMA))
WORKING = Task("t1", "working", "62 %: rendering", 1_700_000_000.0, 1_700_000_001.5, ttl_ms=60_000, poll_ms=3000)
DONE = CallToolResult(content=[TextContent(type="text", text="no luck")], is_error=True)
STATES = {
    "working": WORKING,
    "input_required": replace(WORKING, status="input_required", inputs={"a": QUESTION, "b": QUESTION}),
    "completed": replace(WORKING, status="completed", result=DONE),
    "failed": replace(WORKING, status="failed", error=ErrorData(code=-32603, message="broken")),
    "cancelled": replace(WORKING, status="cancelled"),
}


class MemoryTasks:
    """Tasks in memory, all of one principal."""

    def __init__(self) -> None:
        self.tasks = {("me", "t1"): WORKING, ("you", "t2"): replace(WORKING, id="t2")}
        self.cancelled: list[str] = []
        self.updated: list[Mapping[str, Any]] = []
        self.delivered: list[str] = []
        self.listeners: list[Callable[[str], None]] = []

    def put(self, task: Task) -> None:
        self.tasks["me", task.id] = task
        for listener in self.listeners:
            listener(task.id)

    async def get(self, principal: str, task_id: str) -> Task | None:
        return self.tasks.get((principal, task_id))

    async def mark_delivered(self, principal: str, task_id: str) -> None:
        self.delivered.append(task_id)

    async def cancel(self, principal: str, task_id: str) -> None:
        self.cancelled.append(task_id)

    async def update(self, principal: str, task_id: str, responses: Mapping[str, Mapping[str, Any]]) -> None:
        self.updated.append(responses)

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


@pytest.fixture
def store() -> MemoryTasks:
    return MemoryTasks()


@pytest.fixture
def bus() -> InMemorySubscriptionBus:
    return InMemorySubscriptionBus()


@pytest.fixture
def listening() -> dict[str, int]:
    """The limits of the streams; a test may lower them."""
    return {}


@pytest.fixture
def server(store: MemoryTasks, bus: InMemorySubscriptionBus, listening: dict[str, int]) -> MCPServer[Any]:
    tasks = TasksExtension(store, lambda _: "me", required=frozenset({"only_task"}))
    built: MCPServer[Any] = MCPServer("plain", extensions=[tasks], subscriptions=bus, log_level="ERROR")

    async def may_receive(_: object, uri: str) -> bool:
        return "secret" not in uri

    serve_method(
        built,
        "subscriptions/listen",
        SubscriptionsListenRequestParams,
        TaskListenHandler(bus, tasks, may_receive, **listening),
    )

    def offers(name: str, task_id: str) -> None:
        def run() -> str:
            if (offer := current_offer()) is not None:
                offer.task_id = task_id
            return "the work is begun"

        built.add_tool(run, name=name, structured_output=False)

    offers("work", "t1")
    offers("only_task", "t1")
    offers("lost_work", "t-never-kept")
    built.add_tool(lambda: "hello", name="greet", structured_output=False)
    return built


@pytest.fixture
async def wire(server: MCPServer[Any], speak: Callable[..., Any]) -> AsyncIterator[Any]:
    async with speak(server) as connected:
        yield connected


async def test_a_call_that_offers_a_task_is_answered_with_it_flat(wire: Any) -> None:
    result = await wire.call("work")
    result.pop("_meta")
    assert result == {
        "resultType": "task",
        "taskId": "t1",
        "status": "working",
        "statusMessage": "62 %: rendering",
        "createdAt": "2023-11-14T22:13:20.000Z",
        "lastUpdatedAt": "2023-11-14T22:13:21.500Z",
        "ttlMs": 60_000,
        "pollIntervalMs": 3000,
    }


async def test_a_request_that_does_not_declare_the_extension_never_gets_a_task(wire: Any) -> None:
    result = await wire.call("work", tasks=False)
    assert result["resultType"] == "complete"
    assert result["content"][0]["text"] == "the work is begun"


async def test_a_client_of_the_handshake_era_never_gets_a_task(server: MCPServer[Any]) -> None:
    async with Client(server, mode="legacy") as client:
        found = await client.call_tool("work", {})
    assert getattr(found.content[0], "text", "") == "the work is begun"


async def test_a_tool_that_offers_nothing_answers_plainly(wire: Any) -> None:
    assert (await wire.call("greet"))["resultType"] == "complete"


async def test_a_task_that_the_store_does_not_return_is_never_announced(wire: Any) -> None:
    assert (await wire.call("lost_work"))["resultType"] == "complete"


async def test_a_tool_that_answers_only_with_tasks_refuses_who_takes_none(wire: Any) -> None:
    refused = await wire.ask("tools/call", tasks=False, name="only_task", arguments={})
    assert refused["error"]["code"] == -32021
    assert extension.IDENTIFIER in refused["error"]["data"]["requiredCapabilities"]["extensions"]
    assert (await wire.call("only_task"))["resultType"] == "task"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("working", None),
        ("input_required", "inputRequests"),
        ("completed", "result"),
        ("failed", "error"),
        ("cancelled", None),
    ],
)
async def test_a_task_comes_with_exactly_the_outcome_of_its_status(
    wire: Any, store: MemoryTasks, status: str, outcome: str | None
) -> None:
    store.put(STATES[status])
    found = (await wire.ask("tasks/get", taskId="t1"))["result"]
    assert found["status"] == status
    assert found["resultType"] == "complete"
    assert {"result", "error", "inputRequests"} & set(found) == ({outcome} if outcome else set())
    if status == "completed":
        assert found["result"]["isError"] is True


async def test_an_unlimited_task_says_so_with_null(wire: Any, store: MemoryTasks) -> None:
    store.put(replace(WORKING, ttl_ms=None))
    assert (await wire.ask("tasks/get", taskId="t1"))["result"]["ttlMs"] is None
    assert (await wire.call("work"))["ttlMs"] is None


def test_an_outcome_that_does_not_belong_to_the_status_is_refused() -> None:
    with pytest.raises(ValueError, match="completed"):
        replace(WORKING, status="completed")
    with pytest.raises(ValueError, match="working"):
        replace(WORKING, result=DONE)


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/update"])
async def test_a_task_of_somebody_else_is_answered_like_one_that_never_was(wire: Any, method: str) -> None:
    more: dict[str, Any] = {"inputResponses": {}} if method == "tasks/update" else {}
    foreign, unknown = [(await wire.ask(method, taskId=name, **more))["error"] for name in ("t2", "t9")]
    assert foreign["code"] == unknown["code"] == -32602
    assert foreign["message"] == unknown["message"]


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/update"])
async def test_the_methods_want_the_declaration(wire: Any, method: str) -> None:
    refused = await wire.ask(method, tasks=False, taskId="t1", inputResponses={})
    assert refused["error"]["code"] == -32021


@pytest.mark.parametrize("method", ["tasks/list", "tasks/result"])
async def test_methods_of_older_drafts_do_not_exist(wire: Any, method: str) -> None:
    assert (await wire.ask(method, taskId="t1"))["error"]["code"] == -32601


async def test_answers_reach_the_store_only_for_what_is_asked(wire: Any, store: MemoryTasks) -> None:
    store.put(STATES["input_required"])
    yes = {"action": "accept", "content": {"ok": True}}
    reply = await wire.ask("tasks/update", taskId="t1", inputResponses={"a": yes, "zzz": yes})
    assert set(reply["result"]) == {"resultType", "_meta"}
    await wire.ask("tasks/update", taskId="t1", inputResponses={"zzz": yes})
    assert store.updated == [{"a": yes}]


async def test_a_cancel_is_acknowledged_always_and_passed_on_while_it_can_matter(wire: Any, store: MemoryTasks) -> None:
    assert "error" not in await wire.ask("tasks/cancel", taskId="t1")
    store.put(STATES["completed"])
    assert "error" not in await wire.ask("tasks/cancel", taskId="t1")
    assert store.cancelled == ["t1"]


async def test_a_listener_gets_the_state_of_its_tasks_and_every_change(wire: Any, store: MemoryTasks) -> None:
    number = await wire.post("subscriptions/listen", notifications={"taskIds": ["t1", "t2", "t9"]})
    acknowledged = await wire.read()
    assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
    assert acknowledged["params"]["notifications"] == {"taskIds": ["t1"]}
    first = await wire.read()
    store.put(STATES["completed"])
    second = await wire.read()
    assert [notice["method"] for notice in (first, second)] == ["notifications/tasks"] * 2
    assert [notice["params"]["status"] for notice in (first, second)] == ["working", "completed"]
    assert second["params"]["result"]["isError"] is True
    for notice in (acknowledged, first, second):
        assert notice["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == number


async def test_a_stream_gets_an_end_once_also_where_it_looks_late(wire: Any, store: MemoryTasks) -> None:
    """A change before the end is looked at when the end is there: both looks show it."""
    store.put(replace(WORKING, id="t3"))
    await wire.post("subscriptions/listen", notifications={"taskIds": ["t1", "t3"]})
    assert (await wire.read())["method"] == "notifications/subscriptions/acknowledged"
    assert {(await wire.read())["params"]["taskId"] for _ in range(2)} == {"t1", "t3"}
    for _ in range(3):
        store.put(STATES["completed"])
        store.put(replace(STATES["completed"], updated_at=1_700_000_009.0))
    store.put(replace(WORKING, id="t3"))
    statuses = [(await wire.read())["params"]["status"] for _ in range(2)]
    assert statuses == ["completed", "working"]
    assert store.delivered == ["t1"]


async def test_an_end_is_marked_as_delivered_only_when_it_goes_out(
    wire: Any, store: MemoryTasks, bus: InMemorySubscriptionBus
) -> None:
    await wire.ask("tasks/get", taskId="t1")
    store.put(STATES["completed"])
    await wire.call("work")
    await wire.ask("tasks/cancel", taskId="t1")
    await wire.ask("tasks/update", taskId="t1", inputResponses={})
    assert store.delivered == []
    await wire.ask("tasks/get", taskId="t1")
    assert store.delivered == ["t1"]
    await wire.post("subscriptions/listen", notifications={"taskIds": ["t1"]})
    assert (await wire.read())["method"] == "notifications/subscriptions/acknowledged"
    assert (await wire.read())["params"]["status"] == "completed"
    await wire.ask("tasks/get", taskId="t2")
    assert store.delivered == ["t1", "t1"]


async def test_listening_to_tasks_wants_the_declaration(wire: Any) -> None:
    refused = await wire.ask("subscriptions/listen", tasks=False, notifications={"taskIds": ["t1"]})
    assert refused["error"]["code"] == -32021


@pytest.mark.parametrize("named", [["t1"] * 2 + [7], "t1", [f"t{n}" for n in range(2000)]])
async def test_a_filter_that_is_no_list_of_some_ids_is_refused(wire: Any, named: object) -> None:
    refused = await wire.ask("subscriptions/listen", notifications={"taskIds": named})
    assert refused["error"]["code"] == -32602


async def test_a_listener_is_notified_of_the_resources_that_it_may_read_and_of_no_others(
    wire: Any, bus: InMemorySubscriptionBus
) -> None:
    wanted = {"resourceSubscriptions": ["job://1", "job://secret"], "toolsListChanged": True}
    await wire.post("subscriptions/listen", tasks=False, notifications=wanted)
    agreed = (await wire.read())["params"]["notifications"]
    assert agreed == {"resourceSubscriptions": ["job://1"], "toolsListChanged": True}
    for uri in ("job://secret", "job://2", "job://1"):
        await bus.publish(ResourceUpdated(uri))
    notice = await wire.read()
    assert (notice["method"], notice["params"]["uri"]) == ("notifications/resources/updated", "job://1")


@pytest.fixture
def one_slow_reader(listening: dict[str, int]) -> None:
    listening.update(streams=1, waiting=2)


@pytest.mark.usefixtures("one_slow_reader")
async def test_a_reader_that_has_stopped_loses_its_stream_and_not_its_neighbours(
    wire: Any, bus: InMemorySubscriptionBus
) -> None:
    """The slot is given back although the write that nobody reads still hangs."""
    uris = [f"job://{n}" for n in range(5)]
    first = await wire.post("subscriptions/listen", notifications={"resourceSubscriptions": uris})
    assert (await wire.read())["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == first
    assert (await wire.ask("subscriptions/listen", notifications={}))["error"]["code"] == -32603
    for uri in uris:
        await bus.publish(ResourceUpdated(uri))
    second = await wire.post("subscriptions/listen", notifications={"toolsListChanged": True})
    received: list[dict[str, Any]] = []
    while not received or received[-1].get("params", {}).get("notifications") is None:
        received.append(await wire.read())
    assert received[-1]["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == second


@pytest.fixture
def one_stream(listening: dict[str, int]) -> None:
    listening.update(streams=1)


@pytest.mark.usefixtures("one_stream")
async def test_a_stream_counts_while_its_tasks_are_still_being_looked_up(
    wire: Any, store: MemoryTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = anyio.Event()

    async def slow(principal: str, task_id: str) -> Task | None:
        await found.wait()
        return store.tasks.get((principal, task_id))

    monkeypatch.setattr(store, "get", slow)
    first = await wire.post("subscriptions/listen", notifications={"taskIds": ["t1"]})
    with anyio.fail_after(180):
        refused = await wire.ask("subscriptions/listen", notifications={"taskIds": ["t1"]})
    assert refused["error"]["code"] == -32603
    found.set()
    assert (await wire.read())["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == first


@pytest.mark.usefixtures("one_stream")
async def test_a_refused_request_to_listen_leaves_its_place_to_the_next(wire: Any) -> None:
    for _ in range(2):
        assert (await wire.ask("subscriptions/listen", notifications={"taskIds": [7]}))["error"]["code"] == -32602
    await wire.post("subscriptions/listen", notifications={"taskIds": ["t1"]})
    assert (await wire.read())["method"] == "notifications/subscriptions/acknowledged"


@pytest.mark.parametrize(("header", "code"), [("t1", None), ("t2", -32020), (None, -32020)])
async def test_over_http_the_routing_header_must_name_the_task(
    server: MCPServer[Any], header: str | None, code: int | None
) -> None:
    app = server.streamable_http_app()
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {extension.IDENTIFIER: {}}},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"taskId": "t1", "_meta": meta}}
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28"}
    headers |= {"mcp-method": "tasks/get"} | ({"mcp-name": header} if header else {})
    with anyio.fail_after(180):
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            reply = await client.post("http://127.0.0.1:1/mcp", json=body, headers=headers)
    assert reply.status_code == (400 if code else 200)
    assert reply.json().get("error", {}).get("code") == code


def test_the_tasks_extension_imports_the_sdk_and_nothing_else_of_the_project() -> None:
    folder = Path(extension.__file__).parent
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in folder.glob("*.py")]
    nodes = itertools.chain.from_iterable(ast.walk(tree) for tree in trees)
    found = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    assert not {name for name in found if name.startswith("rotoscope") and ".protocol.tasks" not in name}
