"""Files come and go in pieces: nothing large is ever held in memory, and results can be read from any place on."""

import hashlib
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import pytest

from rotoscope_sandbox import Sandbox, models
from rotoscope_sandbox.models import EngineTask, Model
from rotoscope_sandbox.store import Incoming

pytestmark = pytest.mark.anyio

PIECE = 256 * 1024
PIECES = 24


def content() -> Iterator[bytes]:
    for number in range(PIECES):
        yield bytes([number]) * PIECE


async def streamed() -> AsyncIterator[bytes]:
    for piece in content():
        yield piece


WHOLE = hashlib.sha256(b"".join(content())).hexdigest()


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much was written at a time."""
    sizes: list[int] = []
    write = Incoming.write

    def noted(self: Incoming, chunk: bytes) -> None:
        sizes.append(len(chunk))
        write(self, chunk)

    monkeypatch.setattr(Incoming, "write", noted)
    return sizes


async def test_a_put_is_written_as_it_comes(fal: httpx.AsyncClient, pieces: list[int], folder: Path) -> None:
    asked = {"file_name": "clip.mp4", "content_type": "video/mp4"}
    upload = (await fal.post("/storage/upload/initiate", params={"storage_type": "fal-cdn-v3"}, json=asked)).json()
    reply = await fal.put(upload["upload_url"], content=streamed())
    assert reply.status_code == 200
    assert (sum(pieces), max(pieces)) == (PIECES * PIECE, PIECE)
    got = await fal.get(upload["file_url"])
    assert hashlib.sha256(got.content).hexdigest() == WHOLE
    assert got.headers["content-type"] == "video/mp4"
    assert not [place for place in (folder / "files").iterdir() if place.name.startswith(".")]


async def test_a_form_is_written_piece_by_piece(app: Sandbox, ask: Callable[..., Any], pieces: list[int]) -> None:
    async with ask(app, "replicate") as raw:
        reply = await raw.post("/v1/files", files={"content": ("clip.mp4", b"".join(content()), "video/mp4")})
    upload = reply.json()
    assert (upload["size"], upload["checksums"]["sha256"]) == (PIECES * PIECE, WHOLE)
    assert max(pieces) <= 1024 * 1024


async def test_an_upload_that_breaks_off_leaves_nothing(fal: httpx.AsyncClient, folder: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise ConnectionResetError

    upload = (await fal.post("/storage/upload/initiate", json={"file_name": "a.mp4"})).json()
    with pytest.raises(ConnectionResetError):
        await fal.put(upload["upload_url"], content=broken())
    assert (await fal.get(upload["file_url"])).status_code == 404
    assert [place.suffix for place in (folder / "files").iterdir()] == [".json"]


async def test_a_large_file_comes_in_parts_as_the_npm_client_sends_them(fal: httpx.AsyncClient, folder: Path) -> None:
    """Source: @fal-ai/client: parts go below the upload URL with its own query, each answers with number and etag."""
    query = {"storage_type": "fal-cdn-v3"}
    asked = {"file_name": "clip.mp4", "content_type": "video/mp4"}
    upload = (await fal.post("/storage/upload/initiate-multipart", params=query, json=asked)).json()
    address = httpx.URL(upload["upload_url"])
    assert address.query, "the query has to survive"
    all_pieces, parts = list(content()), []
    for number in (2, 1, 3):
        body = b"".join(all_pieces[(number - 1) * 8 : number * 8])
        part = await fal.put(address.copy_with(path=f"{address.path}/{number}"), content=body)
        assert part.json()["partNumber"] == number
        assert part.headers["etag"] == part.json()["etag"]
        parts.append(part.json())
    assert (await fal.get(upload["file_url"])).status_code == 404
    complete = address.copy_with(path=f"{address.path}/complete")
    missing = await fal.post(complete, json={"parts": [*parts, {"partNumber": 9, "etag": "x"}]})
    empty = await fal.post(complete, json={"parts": []})
    assert (missing.status_code, empty.status_code) == (400, 400)
    assert (await fal.post(complete, json={"parts": parts})).status_code == 200
    got = await fal.get(upload["file_url"])
    assert hashlib.sha256(got.content).hexdigest() == WHOLE
    assert not [place for place in (folder / "files").iterdir() if place.is_dir()]


async def test_parts_of_nothing_are_refused(fal: httpx.AsyncClient) -> None:
    assert (await fal.put(f"/storage/parts/{'a' * 26}/1?x=1", content=b"x")).status_code == 404
    upload = (await fal.post("/storage/upload/initiate-multipart", json={})).json()
    address = httpx.URL(upload["upload_url"])
    assert (await fal.put(address.copy_with(path=f"{address.path}/0"), content=b"x")).status_code == 400


async def test_a_result_can_be_read_from_any_place_on(
    app: Sandbox, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, finish: Callable[..., None]
) -> None:
    def compute(task: EngineTask) -> str:
        made = task.scratch / "made.mp4"
        made.write_bytes(bytes(range(200)))
        task.report({"frames": 3})
        return task.keep("output.mp4", made)

    model = Model("replicate", "test/film", {}, compute, version="v")
    monkeypatch.setattr(models, "all_models", lambda: (model,))
    monkeypatch.setattr("rotoscope_sandbox.core.all_models", lambda: (model,))
    async with ask(app, "replicate") as raw:
        created = (await raw.post("/v1/predictions", json={"version": "v", "input": {}})).json()
        finish(app, created["id"])
        done = (await raw.get(f"/v1/predictions/{created['id']}")).json()
        whole = await raw.get(done["output"])
        part = await raw.get(done["output"], headers={"range": "bytes=50-59"})
    assert done["metrics"]["frames"] == 3
    assert (whole.headers["content-length"], whole.headers["content-type"]) == ("200", "video/mp4")
    assert (part.status_code, part.content) == (206, bytes(range(50, 60)))
    assert part.headers["content-range"] == "bytes 50-59/200"


async def test_the_status_stream_sends_a_change_while_the_work_goes_on(
    app: Sandbox, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work only goes on once its log line was received: a stream that waits for the end would never see one."""
    received = threading.Event()

    def compute(task: EngineTask) -> dict[str, Any]:
        task.log("half way")
        assert received.wait(60)
        return {"done": True}

    monkeypatch.setattr(models, "all_models", lambda: (Model("fal", "test/engine", {}, compute),))
    async with ask(app, "fal") as client:
        accepted = (await client.post("/test/engine", json={})).json()
    events: list[str] = []

    async def receive() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        events.extend(re.findall(r"data: (.+)\n\n", message.get("body", b"").decode()))
        if events and "half way" in events[-1]:
            received.set()

    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "https",
        "path": f"/test/engine/requests/{accepted['request_id']}/status/stream",
        "raw_path": b"",
        "query_string": b"logs=1",
        "root_path": "",
        "headers": [(b"host", b"sandbox.invalid"), (b"authorization", b"Key test:key")],
        "http_version": "1.1",
    }
    with anyio.fail_after(180):
        await app(scope, receive, send)
    assert '"IN_PROGRESS"' in events[-2]
    assert '"COMPLETED"' in events[-1]
    assert len(events) == len(set(events)), "only changes are upload"
