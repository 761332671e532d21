"""An ASGI app in a process of its own: it answers and fails as it would here, and ends with its parent."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx  # noqa: TID251 - the tests speak to the app as any client would
import pytest

from rotoscope.workers.apps import AppEnded, AppProcess

pytestmark = pytest.mark.anyio
SECONDS = 180


@asynccontextmanager
async def hosted(folder: Path) -> AsyncIterator[AppProcess]:
    app = AppProcess(
        {**os.environ, "FAL_KEY": "secret"}, "echoing", "build", {"word": "hello", "gone": folder / "gone"}
    )
    with anyio.fail_after(SECONDS):
        try:
            yield app
        finally:
            await app.aclose()


def client(app: AppProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.invalid", timeout=SECONDS)


async def test_a_request_is_answered_by_an_app_in_another_process_that_sees_no_key(tmp_path: Path) -> None:
    async with hosted(tmp_path) as app, client(app) as asking:
        reply = await asking.post("/", content=b"x" * 1000)
        assert reply.text == "hello 1000 [] False "
        assert int(reply.headers["x-pid"]) == app.pid != os.getpid()


async def test_a_long_body_arrives_whole_and_requests_at_once_do_not_mix(tmp_path: Path) -> None:
    async def body(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 70_000

    sizes: dict[int, str] = {}

    async def ask(asking: httpx.AsyncClient, count: int) -> None:
        sizes[count] = (await asking.put("/", content=body(count))).text.split()[1]

    async with hosted(tmp_path) as app, client(app) as asking, anyio.create_task_group() as tasks:
        for count in range(1, 9):
            tasks.start_soon(ask, asking, count)
    assert sizes == {count: str(count * 70_000) for count in range(1, 9)}


async def test_what_the_app_raises_and_what_its_caller_raises_arrive(tmp_path: Path) -> None:
    async def torn() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError("the file is gone")

    async with hosted(tmp_path) as app, client(app) as asking:
        with pytest.raises(OSError, match="not here"):
            await asking.get("/denied")
        with pytest.raises(AppEnded, match="a bug"):
            await asking.get("/broken")
        with pytest.raises(LookupError, match="the file is gone"):
            await asking.post("/", content=torn())
        assert (await asking.get("/")).status_code == 200


async def test_an_app_whose_process_has_ended_is_started_again(tmp_path: Path) -> None:
    async with hosted(tmp_path) as app, client(app) as asking:
        first = (await asking.get("/")).headers["x-pid"]
        with pytest.raises(AppEnded):
            await asking.get("/ended")
        with anyio.fail_after(SECONDS):
            while app.pid is not None:
                await anyio.lowlevel.checkpoint()
        assert (await asking.get("/")).headers["x-pid"] != first


async def test_the_cancel_of_a_request_reaches_the_app(tmp_path: Path) -> None:
    async with hosted(tmp_path) as app, client(app) as asking:
        await asking.get("/")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asking.get, "/waits")
            await anyio.wait_all_tasks_blocked()
            assert (await asking.get("/")).status_code == 200  # so the other was opened before
            tasks.cancel_scope.cancel()
        while not (tmp_path / "gone").exists():
            await anyio.lowlevel.checkpoint()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_closing_ends_the_process(tmp_path: Path) -> None:
    async with hosted(tmp_path) as app, client(app) as asking:
        await asking.get("/")
        place = Path(f"/proc/{app.pid}")
        await app.aclose()
        assert not place.exists()
        assert app.pid is None
