"""Faults of the connection itself, over real sockets."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import pytest

from rotoscope_sandbox import Sandbox
from rotoscope_sandbox.serving import serve_in_thread

pytestmark = pytest.mark.anyio

WIRES = ["replicate", "gateway", "fal", "segmind", "segmind-v1"]
ASKED = ["replicate", "fal", "segmind"]
LOST = {"reset": httpx.ReadError, "close": httpx.RemoteProtocolError, "truncated-reply": httpx.RemoteProtocolError}


def causes(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize("wire", WIRES)
async def test_the_answer_is_lost_and_the_prediction_is_there(
    socket_client: Any, app: Sandbox, wire: str, fault: str
) -> None:
    app.state.faults.add(fault)
    async with socket_client(wire) as one:
        with pytest.raises(LOST[fault]) as lost:
            await one.submit()
        assert len(app.state.accepted) == 1
        assert (await one.submit()).status_code == one.success_status
    if fault == "reset":
        assert any(isinstance(cause, ConnectionResetError) for cause in causes(lost.value))
    if fault == "truncated-reply":
        assert "received 6 bytes, expected 500" in str(lost.value)


@pytest.mark.parametrize("fault", LOST)
async def test_the_answer_is_lost_and_nothing_was_accepted(socket_client: Any, app: Sandbox, fault: str) -> None:
    async with socket_client("replicate") as one:
        with pytest.raises(LOST[fault]):
            await one.submit(f"{fault};accepted=no", input={"image": "data:,", "instruction": "the end"})
    assert app.state.accepted == []
    # The whole request had been read before the end came.
    assert b"the end" in app.state.requests[-1].body


async def unanswered(act: Callable[[], Awaitable[object]], begun: Callable[[], bool]) -> bool:
    """Whether a call is still open a moment after the sandbox has begun to act on it; then it is given up."""
    answered = anyio.Event()

    async def call() -> None:
        await act()
        answered.set()

    with anyio.fail_after(180):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            while not begun():
                await anyio.lowlevel.checkpoint()
            with anyio.move_on_after(0.2):
                await answered.wait()
            tasks.cancel_scope.cancel()
    return not answered.is_set()


@pytest.mark.parametrize("wire", WIRES)
async def test_hang_sends_nothing_after_the_prediction_was_accepted(
    socket_client: Any, app: Sandbox, wire: str
) -> None:
    app.state.faults.add("hang")
    async with socket_client(wire) as one:
        assert await unanswered(one.submit, lambda: len(app.state.accepted) == 1)
        assert (await one.submit()).status_code == one.success_status


async def test_hang_runs_into_the_clients_own_timeout(socket_client: Any) -> None:
    async with socket_client("replicate", patience=0.3) as one:
        with pytest.raises(httpx.ReadTimeout):
            await one.submit("hang;accepted=no")


@pytest.mark.parametrize("kind", ["headers", "body"])
@pytest.mark.parametrize("wire", ASKED)
async def test_slow_reply_a_byte_a_second_is_too_slow_once(
    socket_client: Any, app: Sandbox, wire: str, kind: str
) -> None:
    rule = app.state.faults.add(f"slow-reply;kind={kind}")
    async with socket_client(wire) as one:
        accepted = await one.submit_accepted()
        assert await unanswered(lambda: one.ask(accepted), lambda: app.state.faults.count(rule) == 1)
        assert (await one.ask(accepted)).status_code == 200


@pytest.mark.parametrize("kind", ["headers", "body"])
async def test_slow_reply_a_patient_client_gets_the_true_answer(socket_client: Any, kind: str) -> None:
    async with socket_client("segmind") as one:
        accepted = await one.submit_accepted(f"slow-reply;kind={kind};interval=0")
        assert (await one.ask(accepted)).json()["status"] == "COMPLETED"


@pytest.mark.parametrize(("kind", "problem"), [("short", httpx.RemoteProtocolError), ("reset", httpx.ReadError)])
@pytest.mark.parametrize("wire", ASKED)
async def test_truncated_output_an_output_is_cut_twice(
    socket_client: Any, app: Sandbox, wire: str, kind: str, problem: type[Exception]
) -> None:
    app.state.faults.add(f"truncated-output;kind={kind}")
    async with socket_client(wire) as one:
        url = await one.output(await one.submit_accepted())
        for _ in range(2):
            with pytest.raises((problem, httpx.RemoteProtocolError)):
                await one.client.get(url)
        reply = await one.client.get(url)
    assert len(reply.content) == int(reply.headers["content-length"])


async def take(reply: httpx.Response, got: bytearray) -> None:
    async for piece in reply.aiter_raw():
        got.extend(piece)


async def test_truncated_output_the_rest_can_be_fetched_by_range(socket_client: Any) -> None:
    async with socket_client("replicate") as one:
        url = await one.output(await one.submit_accepted("truncated-output;times=1"))
        got = bytearray()
        async with one.client.stream("GET", url) as reply:
            size = int(reply.headers["content-length"])
            with pytest.raises(httpx.RemoteProtocolError):
                await take(reply, got)
        rest = await one.client.get(url, headers={"range": f"bytes={len(got)}-"})
        whole = await one.client.get(url)
    assert len(got) == size // 2
    assert (rest.status_code, bytes(got) + rest.content) == (206, whole.content)


async def test_truncated_output_of_segminds_v1_cuts_the_answer_that_was_paid(socket_client: Any, app: Sandbox) -> None:
    async with socket_client("segmind-v1") as one:
        with pytest.raises(httpx.RemoteProtocolError):
            await one.submit("truncated-output")
    assert len(app.state.accepted) == 1


async def test_damaged_output_declares_more_than_anybody_should_take(socket_client: Any) -> None:
    async with socket_client("replicate") as one:
        url = await one.output(await one.submit_accepted("damaged-output;kind=declared"))
        async with one.client.stream("GET", url) as reply:
            assert int(reply.headers["content-length"]) > 512 * 1024 * 1024
            assert reply.headers["content-type"] == "image/png"


async def test_damaged_output_has_no_end_that_a_client_would_live_to_see(socket_client: Any) -> None:
    async with socket_client("fal") as one:
        url = await one.output(await one.submit_accepted("damaged-output;kind=endless"))
        taken = 0
        async with one.client.stream("GET", url) as reply:
            assert "content-length" not in reply.headers
            async for piece in reply.aiter_raw():
                taken += len(piece)
                if taken > 2**20:
                    break
        assert (await one.client.get("/sandbox/ledger")).status_code == 200
    assert taken > 2**20


async def test_damaged_output_of_segminds_v1_is_paid_and_too_much(socket_client: Any, app: Sandbox) -> None:
    async with socket_client("segmind-v1") as one:
        headers = {"x-sandbox-fault": "damaged-output;kind=declared"}
        async with one.client.stream("POST", "/v1/sam-v2-image", json=one.given, headers=headers) as reply:
            assert int(reply.headers["content-length"]) > 512 * 1024 * 1024
    assert len(app.state.accepted) == 1


async def test_faults_on_one_connection_do_not_disturb_the_others(socket_client: Any, app: Sandbox) -> None:
    app.state.faults.add("hang", times=3)
    async with socket_client("replicate") as one, anyio.create_task_group() as tasks:
        with anyio.fail_after(180):
            for _ in range(3):
                tasks.start_soon(one.submit)
            while len(app.state.accepted) < 3:
                await anyio.lowlevel.checkpoint()
            assert (await one.submit()).status_code == 201
        tasks.cancel_scope.cancel()


async def test_a_server_that_stops_does_not_wait_for_a_client_that_hangs(app: Sandbox, given: Any) -> None:
    app.state.faults.add("hang")
    with anyio.fail_after(180):
        async with anyio.create_task_group() as tasks:
            with serve_in_thread(app) as url:

                async def hang() -> None:
                    headers = {"authorization": "Bearer x"}
                    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
                        with pytest.raises(httpx.TransportError):
                            await client.post("/v1/predictions", json=given("replicate"))

                tasks.start_soon(hang)
                while not app.state.accepted:
                    await anyio.lowlevel.checkpoint()
