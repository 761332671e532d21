"""A call whose price needs consent, from a client that takes tasks and can ask: the question is in its task."""

import base64
import io
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from calls import BOX, SECONDS, ServerBuilder, text_of
from client import ClientOpener, RawClient
from decoding import InThread
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult
from PIL import Image
from prices import with_price
from task_client import TaskClient

from rotoscope.composition import make_studio_opener, stdio_roots
from rotoscope.models.catalog import manifest_folder
from rotoscope.server.app import build_server
from rotoscope.server.clients.profiles import read_client_profiles
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings, read_settings
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
YES = {"action": "accept", "content": {}}
NO_ANSWERS: list[dict[str, Any]] = [
    {"action": "decline"},
    {"action": "cancel"},
    {"action": "accept", "content": {"spend": False}},
    {"action": "accept", "content": {"spend": "yes"}},
]
Task = dict[str, Any]
AskingOpener = Callable[..., Any]


@pytest.fixture
def environment(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """The user's own manifest of a model that costs 3 USD a run."""
    write_price(tmp_path / "rotoscope" / "models", 3.0)
    return environment


def write_price(folder: Path, usd: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = (manifest_folder() / "models" / "sam2-image.toml").read_text(encoding="utf-8")
    shipped = 'id = "fal-ai/sam2/image"'
    assert shipped in text
    priced = with_price(text.replace(shipped, 'id = "mine/expensive"', 1), "run", usd, "2026-11-01")
    (folder / "expensive.toml").write_text(priced, encoding="utf-8")


@pytest.fixture
def expensive(photo: Path) -> dict[str, Any]:
    return {"image": str(photo), "box": BOX, "model": "mine/expensive"}


@pytest.fixture
def open_asking(settings: Settings, sandbox: Sandbox, serve: ServerBuilder, speak: ClientOpener) -> AskingOpener:
    """Opens a client that takes tasks and can ask, on a process of its own; each on the same ledger."""

    @asynccontextmanager
    async def opening(server: MCPServer[LazyStudio] | None = None) -> AsyncIterator[RawClient]:
        async with speak(server or serve(settings, sandbox)) as wire:
            wire.capabilities = {"elicitation": {}}
            yield wire

    return opening


async def get(wire: RawClient, task_id: str) -> Task:
    return (await wire.ask("tasks/get", taskId=task_id))["result"]  # type: ignore[no-any-return]


async def question_of(wire: RawClient, task_id: str) -> tuple[str, dict[str, Any]]:
    """The key and the parameters of what a task asks."""
    with anyio.fail_after(SECONDS):
        while (task := await get(wire, task_id))["status"] == "working":
            await anyio.lowlevel.checkpoint()
    assert task["status"] == "input_required", task
    ((key, request),) = task["inputRequests"].items()
    assert request["method"] == "elicitation/create"
    return key, request["params"]


async def answer(wire: RawClient, task_id: str, key: str, said: object) -> dict[str, Any]:
    return await wire.ask("tasks/update", taskId=task_id, inputResponses={key: said})


async def begin(wire: RawClient, expensive: dict[str, Any]) -> str:
    """The id of the task that a call became."""
    begun = await wire.call("segment_image", **expensive)
    assert (begun["resultType"], begun["status"]) == ("task", "input_required"), begun
    return str(begun["taskId"])


def change_rows(settings: Settings, statement: str) -> None:
    with closing(sqlite3.connect(settings.home / "ledger.sqlite3", isolation_level=None)) as ledger:
        assert ledger.execute(statement).rowcount == 1


EXPIRE = "UPDATE price_questions SET expires_at = expires_at - 601"


async def test_the_call_is_a_task_at_once_that_asks_and_a_yes_starts_its_job(
    open_asking: AskingOpener, sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
        key, asked = await question_of(wire, task_id)
        assert sandbox.state.accepted == []
        assert "3.00 USD" in asked["message"]
        assert asked["requestedSchema"] == {"type": "object", "properties": {}}, "one key is enough at a terminal"
        assert (await get(wire, task_id))["pollIntervalMs"] == 1000
        assert (await answer(wire, task_id, key, YES))["result"]["resultType"] == "complete"
        task = await wire.finished(task_id)
        job = await wire.call("get_job", job_id=task_id)
    assert task["status"] == "completed"
    assert task["result"]["structuredContent"]["status"] == "succeeded"
    assert job["structuredContent"]["job_id"] == task_id
    assert len(sandbox.state.accepted) == 1


async def test_the_official_client_is_asked_in_the_task_and_reaches_the_result(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async def never(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        pytest.fail("what is asked in the task is not asked beside it")

    tasks = TaskClient(ElicitResult(action="accept", content={}))
    async with Client(server, elicitation_callback=never, extensions=[tasks]) as client:
        with anyio.fail_after(SECONDS):
            found = await client.call_tool("segment_image", expensive)
    assert isinstance(found, CallToolResult)
    assert not found.is_error, text_of(found)
    assert (list(tasks.asked), len(sandbox.state.accepted)) == (["price-1"], 1)


@pytest.mark.parametrize("said", NO_ANSWERS, ids=["decline", "dismiss", "false", "no boolean"])
async def test_a_no_ends_the_task_as_cancelled_and_spends_nothing(
    open_asking: AskingOpener, sandbox: Sandbox, expensive: dict[str, Any], said: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
        await answer(wire, task_id, "price-1", said)
        task = await wire.finished(task_id)
        late = await answer(wire, task_id, "price-1", YES)
        after = await wire.finished(task_id)
        listed = await wire.call("list_jobs")
    assert (task["status"], after["status"]) == ("cancelled", "cancelled")
    assert "error" not in late, "answers that are not asked for any more are ignored"
    assert "nothing was sent or spent" in task["statusMessage"]
    assert "dry_run" in task["statusMessage"]
    assert not {"result", "inputRequests"} & set(task)
    assert (sandbox.state.accepted, listed["structuredContent"]["jobs"]) == ([], [])


@pytest.mark.parametrize("said", [{}, {"action": "maybe"}, {"content": {"spend": True}}, {"action": 1}])
async def test_what_is_no_answer_leaves_the_question_open(
    open_asking: AskingOpener, sandbox: Sandbox, expensive: dict[str, Any], said: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
        await answer(wire, task_id, "price-1", said)
        await answer(wire, task_id, "price-2", YES)
        assert (await question_of(wire, task_id))[0] == "price-1"
    assert sandbox.state.accepted == []


async def test_a_question_that_nobody_answers_in_time_ends_and_a_late_yes_spends_nothing(
    open_asking: AskingOpener, settings: Settings, sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
        change_rows(settings, EXPIRE)
        task = await get(wire, task_id)
        await answer(wire, task_id, "price-1", YES)
        after = await wire.finished(task_id)
        # A client that shows no question of a task agrees by its arguments from here on.
        refused = await wire.call("segment_image", **expensive)
        await wire.call("segment_image", **expensive, dry_run=True)
        made = await wire.call("segment_image", **expensive)
    assert (task["status"], after["status"]) == ("completed", "completed")
    for ended in (task["result"], after["result"], refused):
        assert ended["isError"] is True
        assert ended["content"][0]["text"].startswith("consent: ")
        assert "dry_run" in ended["content"][0]["text"]
    assert made["structuredContent"]["status"] == "succeeded"
    assert len(sandbox.state.accepted) == 1


async def test_a_process_that_dies_after_asking_loses_nothing(
    open_asking: AskingOpener, sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
    async with open_asking() as wire:
        key, _ = await question_of(wire, task_id)
        await answer(wire, task_id, key, YES)
        assert (await wire.finished(task_id))["result"]["isError"] is False
    assert len(sandbox.state.accepted) == 1


async def test_a_process_that_dies_after_the_yes_loses_nothing_and_pays_once(
    open_asking: AskingOpener, sandbox: Sandbox, expensive: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object, **__: object) -> None:
        await anyio.sleep_forever()

    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
        with monkeypatch.context() as patched:
            patched.setattr(Studio, "start", hang)
            await answer(wire, task_id, "price-1", YES)
            assert (await get(wire, task_id))["status"] == "working"
    assert sandbox.state.accepted == []
    async with open_asking() as wire, open_asking() as other:
        for asking in (wire, other):
            assert (await asking.finished(task_id))["result"]["isError"] is False
    assert len(sandbox.state.accepted) == 1


async def test_a_yes_that_could_not_be_followed_in_time_starts_nothing(
    open_asking: AskingOpener, settings: Settings, sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
    change_rows(settings, "UPDATE price_questions SET state = 'agreed', expires_at = expires_at - 601")
    async with open_asking() as wire:
        task = await get(wire, task_id)
    assert task["result"]["content"][0]["text"].startswith("consent: ")
    assert sandbox.state.accepted == []


async def test_two_processes_that_are_given_a_yes_at_once_pay_once(
    open_asking: AskingOpener, sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with open_asking() as one, open_asking() as other:
        task_id = await begin(one, expensive)
        await question_of(other, task_id)
        async with anyio.create_task_group() as asking:
            asking.start_soon(answer, one, task_id, "price-1", YES)
            asking.start_soon(answer, other, task_id, "price-1", YES)
        ends = [await wire.finished(task_id) for wire in (one, other)]
    assert [end["result"]["structuredContent"]["job_id"] for end in ends] == [task_id, task_id]
    assert len(sandbox.state.accepted) == 1


async def test_another_principal_neither_sees_nor_answers_nor_ends_the_question(
    settings: Settings, sandbox: Sandbox, home: Path, open_asking: AskingOpener, expensive: dict[str, Any]
) -> None:
    caller = ["anna"]
    opener = make_studio_opener(settings, stdio_roots(settings, home, home), sandbox, InThread())
    clients = read_client_profiles(manifest_folder() / "clients.toml")
    server = build_server(opener, clients, settings.inline_seconds, find_principal=lambda _: caller[0])
    async with open_asking(server) as wire:
        task_id = await begin(wire, expensive)
        caller[0] = "bert"
        for method, more in (
            ("tasks/get", {}),
            ("tasks/update", {"inputResponses": {"price-1": YES}}),
            ("tasks/cancel", {}),
        ):
            assert (await wire.ask(method, taskId=task_id, **more))["error"]["code"] == -32602
        theirs = await begin(wire, expensive)
        caller[0] = "anna"
        assert (await get(wire, task_id))["status"] == "input_required"
    assert theirs != task_id
    assert sandbox.state.accepted == []


async def test_a_price_that_has_risen_is_asked_about_again_under_another_key(
    open_asking: AskingOpener, environment: dict[str, str], sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
    write_price(Path(environment["ROTOSCOPE_HOME"]) / "models", 3.5)
    async with open_asking() as wire:
        await answer(wire, task_id, "price-1", YES)
        key, asked = await question_of(wire, task_id)
        assert (key, sandbox.state.accepted) == ("price-2", [])
        assert "3.50 USD" in asked["message"]
        await answer(wire, task_id, "price-1", YES)
        assert (await question_of(wire, task_id))[0] == "price-2", "a yes to the old price is none to the new"
        await answer(wire, task_id, "price-2", YES)
        task = await wire.finished(task_id)
    assert task["result"]["structuredContent"]["cost"]["estimate_usd"] == 3.5
    assert len(sandbox.state.accepted) == 1


async def test_a_price_that_has_fallen_needs_no_second_yes(
    open_asking: AskingOpener, environment: dict[str, str], sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
    write_price(Path(environment["ROTOSCOPE_HOME"]) / "models", 2.0)
    async with open_asking() as wire:
        await answer(wire, task_id, "price-1", YES)
        assert (await wire.finished(task_id))["result"]["structuredContent"]["cost"]["estimate_usd"] == 2.0


async def test_what_cannot_be_carried_out_after_the_yes_says_why_and_spends_nothing(
    open_asking: AskingOpener,
    environment: dict[str, str],
    sandbox: Sandbox,
    serve: ServerBuilder,
    expensive: dict[str, Any],
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
    capped = serve(read_settings({**environment, "ROTOSCOPE_MAX_USD_PER_DAY": "2"}), sandbox)
    async with open_asking(capped) as wire:
        await answer(wire, task_id, "price-1", YES)
        task = await wire.finished(task_id)
    assert task["status"] == "completed"
    assert task["result"]["isError"] is True
    assert task["result"]["content"][0]["text"].startswith("budget: ")
    assert sandbox.state.accepted == []


async def test_a_task_that_is_cancelled_while_it_asks_ends_and_takes_no_yes(
    open_asking: AskingOpener, sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
        assert "error" not in await wire.ask("tasks/cancel", taskId=task_id)
        await answer(wire, task_id, "price-1", YES)
        task = await wire.finished(task_id)
    assert task["status"] == "cancelled"
    assert sandbox.state.accepted == []


async def test_a_cancel_between_the_yes_and_the_start_keeps_the_job_from_being_opened(
    open_asking: AskingOpener, sandbox: Sandbox, expensive: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    start, may_start = Studio.start, anyio.Event()

    async def start_late(*given: Any, **more: Any) -> object:
        await may_start.wait()
        return await start(*given, **more)

    monkeypatch.setattr(Studio, "start", start_late)
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
        await answer(wire, task_id, "price-1", YES)
        await wire.ask("tasks/cancel", taskId=task_id)
        may_start.set()
        task = await wire.finished(task_id)
        listed = await wire.call("list_jobs")
    assert task["status"] == "cancelled"
    assert (sandbox.state.accepted, listed["structuredContent"]["jobs"]) == ([], [])


async def test_the_same_call_again_is_the_same_task_and_another_call_is_another(
    open_asking: AskingOpener, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
    async with open_asking() as wire:
        assert await begin(wire, expensive) == task_id
        assert await begin(wire, {**expensive, "overlay": False}) != task_id
        assert await begin(wire, {**expensive, "box": {**BOX, "left": 30}}) != task_id


async def test_a_yes_to_what_runs_already_joins_that_job_under_the_id_of_the_task(
    open_asking: AskingOpener, sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
        wire.capabilities = {}
        await wire.call("segment_image", tasks=False, **expensive, dry_run=True)
        reply = await wire.post("tools/call", tasks=False, name="segment_image", arguments=expensive)
        while (message := await wire.read()).get("id") != reply:
            pass
        job_id = message["result"]["structuredContent"]["job_id"]
        await answer(wire, task_id, "price-1", YES)
        task = await wire.finished(task_id)
    assert (task["taskId"], task["result"]["structuredContent"]["job_id"]) == (task_id, job_id)
    assert job_id != task_id
    assert len(sandbox.state.accepted) == 1


@pytest.mark.parametrize(("capabilities", "tasks"), [({}, True), ({"elicitation": {"url": {}}}, True)])
async def test_a_client_that_shows_no_forms_agrees_by_its_arguments_as_before(
    open_asking: AskingOpener, expensive: dict[str, Any], capabilities: dict[str, Any], tasks: bool
) -> None:
    async with open_asking() as wire:
        wire.capabilities = capabilities
        refused = await wire.call("segment_image", tasks=tasks, **expensive)
    assert refused["isError"] is True
    assert refused["content"][0]["text"].startswith("consent: ")


async def test_a_client_that_takes_no_tasks_is_asked_by_the_result_of_its_call_as_before(
    open_asking: AskingOpener, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        assert (await wire.call("segment_image", tasks=False, **expensive))["resultType"] == "input_required"


async def test_a_request_that_is_too_long_to_be_kept_is_asked_about_by_the_result_of_its_call(
    open_asking: AskingOpener, expensive: dict[str, Any]
) -> None:
    noise = Image.frombytes("RGB", (600, 600), random.Random(1).randbytes(1_080_000))
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    image = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    async with open_asking() as wire:
        asked = await wire.call("segment_image", **{**expensive, "image": image})
    assert asked["resultType"] == "input_required"


async def test_who_listens_to_the_task_is_sent_the_question_and_its_end(
    open_asking: AskingOpener, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
        await wire.post("subscriptions/listen", notifications={"taskIds": [task_id]})
        assert (await wire.read())["method"] == "notifications/subscriptions/acknowledged"
        asked = (await wire.read())["params"]
        await answer(wire, task_id, "price-1", {"action": "decline"})
        notices = [one["params"] for one in wire.earlier if one.get("method") == "notifications/tasks"]
        while not notices or notices[-1]["status"] != "cancelled":
            notices.append((await wire.read())["params"])
    assert (asked["taskId"], list(asked["inputRequests"])) == (task_id, ["price-1"])
    assert notices[-1]["taskId"] == task_id


async def test_who_listens_is_sent_the_end_of_a_question_that_nobody_answers(
    open_asking: AskingOpener, settings: Settings, expensive: dict[str, Any]
) -> None:
    async with open_asking() as wire:
        task_id = await begin(wire, expensive)
    change_rows(settings, "UPDATE price_questions SET expires_at = expires_at - 598")
    async with open_asking() as wire:
        await wire.post("subscriptions/listen", notifications={"taskIds": [task_id]})
        assert (await wire.read())["method"] == "notifications/subscriptions/acknowledged"
        while (notice := (await wire.read())["params"])["status"] == "input_required":
            pass
    assert notice["status"] == "completed"
    assert notice["result"]["content"][0]["text"].startswith("consent: ")
