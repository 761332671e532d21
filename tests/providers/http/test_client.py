"""The client: one request means one request, keys go to providers only, and a failure says what it proves."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest
from recorder import Recorder

from rotoscope.errors import OutputLost, ReplyLost, TooLarge, Unreachable, UnsafeSource
from rotoscope.providers.http.client import ProviderAccess, Wire
from rotoscope.providers.http.messages import HttpCall

pytestmark = pytest.mark.anyio
KEY = "r8_3f9a0c"
GATEWAY_KEY = "cf_51d20b7e"
ACCESS = {"replicate": ProviderAccess("Authorization", "Bearer ", KEY, ("replicate.delivery", "*.replicate.delivery"))}


def wire_to(app: Recorder) -> Wire:
    return Wire(ACCESS, frozenset({"sandbox.invalid"}), app)


def gateway_access() -> ProviderAccess:
    more = {"cf-aig-authorization": f"Bearer {GATEWAY_KEY}", "x-route": "replicate"}
    return ProviderAccess("Authorization", "Bearer ", KEY, more_headers=more, secrets=(GATEWAY_KEY,))


def gateway_wire(app: Recorder) -> Wire:
    return Wire({"replicate": gateway_access()}, frozenset({"sandbox.invalid"}), app)


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A raw server on loopback that reads a request, answers these bytes and closes; with what it has read."""
    received: list[bytes] = []

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            received.append(await stream.receive())
            if answer:
                await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"127.0.0.1:{port}", received
        tasks.cancel_scope.cancel()


async def test_a_request_goes_out_once_with_the_providers_key() -> None:
    app = Recorder(201, b'{"id": "x"}')
    reply = await wire_to(app).send("replicate", HttpCall("POST", "https://sandbox.invalid/v1/p", json={"a": "ü"}))
    assert (reply.status, reply.fields()) == (201, {"id": "x"})
    assert len(app.asked) == 1
    assert app.asked[0]["headers"]["authorization"] == f"Bearer {KEY}"
    assert json.loads(app.asked[0]["body"]) == {"a": "ü"}


async def test_a_call_without_a_key_carries_none() -> None:
    app = Recorder()
    await wire_to(app).send("replicate", HttpCall("PUT", "https://sandbox.invalid/put", content=b"x", with_key=False))
    assert "authorization" not in app.asked[0]["headers"]


async def test_a_gateways_own_key_goes_where_the_key_goes_and_nowhere_else(tmp_path: Path) -> None:
    app = Recorder()
    await gateway_wire(app).send("replicate", HttpCall("GET", "https://sandbox.invalid/v1/p"))
    await gateway_wire(app).send("replicate", HttpCall("PUT", "https://sandbox.invalid/put", with_key=False))
    await gateway_wire(app).download("replicate", "https://sandbox.invalid/o.png", tmp_path / "o", 100)
    sent = [(one["headers"].get("cf-aig-authorization"), one["headers"].get("x-route")) for one in app.asked]
    assert sent == [(f"Bearer {GATEWAY_KEY}", "replicate"), (None, None), (None, None)]


async def test_a_gateways_own_key_that_it_repeats_goes_no_further() -> None:
    said = f'{{"detail": "{GATEWAY_KEY} for replicate", "key": "{KEY}"}}'.encode()
    app = Recorder(401, said, headers=[(b"x-repeated", f"Bearer {GATEWAY_KEY}".encode())])
    reply = await gateway_wire(app).send("replicate", HttpCall("GET", "https://sandbox.invalid/v1/p"))
    assert reply.fields() == {"detail": "[key] for replicate", "key": "[key]"}
    assert reply.headers["x-repeated"] == "Bearer [key]"
    access = gateway_access()
    assert GATEWAY_KEY not in repr(access)


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    app = Recorder(307, headers=[(b"location", b"https://elsewhere.example/")])
    reply = await wire_to(app).send("replicate", HttpCall("POST", "https://sandbox.invalid/v1/p", json={}))
    assert reply.status == 307
    assert len(app.asked) == 1


@pytest.mark.parametrize("message", ["bad key Bearer {}", "Invalid token {}", "{}"])
@pytest.mark.parametrize("status", [200, 401, 500])
async def test_a_key_that_a_provider_repeats_goes_no_further(message: str, status: int) -> None:
    app = Recorder(status, json.dumps({"detail": message.format(KEY)}).encode())
    reply = await wire_to(app).send("replicate", HttpCall("GET", "https://sandbox.invalid/v1/p"))
    assert KEY.encode() not in reply.body


async def test_a_file_is_streamed_with_its_length(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"x" * 700_000)
    app = Recorder()
    await wire_to(app).send("replicate", HttpCall("PUT", "https://sandbox.invalid/put", source=file))
    assert app.asked[0]["headers"]["content-length"] == "700000"
    assert app.asked[0]["body"] == file.read_bytes()


async def test_a_form_carries_the_file_under_the_name_we_gave_it(tmp_path: Path) -> None:
    file = tmp_path / "secret-name.png"
    file.write_bytes(b"pixels")
    app = Recorder()
    form = {"content": ("picture.png", file, "image/png")}
    await wire_to(app).send("replicate", HttpCall("POST", "https://sandbox.invalid/v1/files", form=form))
    body = app.asked[0]["body"]
    assert b'name="content"; filename="picture.png"' in body
    assert b"pixels" in body
    assert b"secret-name" not in body


async def test_files_become_data_uris_when_they_are_sent(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"hello")
    app = Recorder()
    call = HttpCall("POST", "https://sandbox.invalid/up", data_uris={"data_urls": ((file, "image/png"),)})
    await wire_to(app).send("replicate", call)
    assert json.loads(app.asked[0]["body"]) == {"data_urls": ["data:image/png;base64,aGVsbG8="]}


async def test_a_refused_connection_proves_that_nothing_was_sent() -> None:
    async with server(b"") as (host, _):
        pass
    wire = Wire(ACCESS, frozenset({host}))
    with pytest.raises(Unreachable):
        await wire.send("replicate", HttpCall("POST", f"http://{host}/v1/p", json={}))
    await wire.aclose()


@pytest.mark.parametrize(
    "answer",
    [b"", b'HTTP/1.1 201 Created\r\ncontent-length: 500\r\n\r\n{"id":', b"nonsense\r\n\r\n"],
    ids=["closed", "cut off", "not http"],
)
async def test_a_reply_that_does_not_come_back_whole_is_lost_and_the_request_is_not_repeated(answer: bytes) -> None:
    """Official clients send a paid request up to ten times here."""
    async with server(answer) as (host, received):
        wire = Wire(ACCESS, frozenset({host}))
        with anyio.fail_after(180), pytest.raises(ReplyLost):
            await wire.send("replicate", HttpCall("POST", f"http://{host}/v1/p", json={}))
        await wire.aclose()
        assert len(received) == 1


async def test_a_download_carries_no_key_and_returns_its_hash(tmp_path: Path) -> None:
    app = Recorder(body=b"picture", headers=[(b"content-type", b"image/png; x=1")])
    got = await wire_to(app).download("replicate", "https://sandbox.invalid/o.png", tmp_path / "o", 100)
    assert (tmp_path / "o").read_bytes() == b"picture"
    assert (got.size, got.content_type) == (7, "image/png")
    assert "authorization" not in app.asked[0]["headers"]


async def test_an_output_on_a_foreign_host_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(OutputLost) as caught:
        await wire_to(Recorder()).download("replicate", "https://evil.example/o.png", tmp_path / "o", 100)
    assert caught.value.code == "output_blocked"


async def test_more_bytes_than_allowed_end_the_download(tmp_path: Path) -> None:
    async with server(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000) as (host, _):
        wire = Wire(ACCESS, frozenset({host}))
        with anyio.fail_after(180), pytest.raises(TooLarge):
            await wire.download("replicate", f"http://{host}/o.png", tmp_path / "o", 1000)
        await wire.aclose()


async def test_a_missing_output_is_reported_as_expired(tmp_path: Path) -> None:
    with pytest.raises(OutputLost) as caught:
        await wire_to(Recorder(404)).download("replicate", "https://sandbox.invalid/o.png", tmp_path / "o", 100)
    assert caught.value.code == "output_expired"


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.215.14", "10.0.0.1"], ["::1"], ["169.254.169.254"], []])
async def test_a_name_with_a_private_address_is_not_connected_to(tmp_path: Path, addresses: list[str]) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    wire = Wire(ACCESS, resolve=resolve)
    with pytest.raises(UnsafeSource):
        await wire.fetch("https://pictures.example/a.png", tmp_path / "a", 100)


async def test_the_operators_host_is_trusted_for_outputs_only(tmp_path: Path) -> None:
    """A page that a user gives must not lead into the operator's network."""
    app = Recorder(body=b"secret")
    with pytest.raises(UnsafeSource):
        await wire_to(app).fetch("https://sandbox.invalid/o.png", tmp_path / "o", 100)
    app = Recorder(302, headers=[(b"location", b"https://sandbox.invalid/again.png")])
    with pytest.raises(UnsafeSource):
        await wire_to(app).download("replicate", "https://sandbox.invalid/o.png", tmp_path / "o", 100)
    assert len(app.asked) == 1


async def test_a_part_of_a_file_is_sent_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"0123456789")
    app = Recorder()
    wire = wire_to(app)
    for start in (0, 4, 8):
        await wire.send("replicate", HttpCall("PUT", "https://sandbox.invalid/put", source=file, span=(start, 4)))
    assert [one["body"] for one in app.asked] == [b"0123", b"4567", b"89"]
    assert [one["headers"]["content-length"] for one in app.asked] == ["4", "4", "2"]


async def test_every_event_of_a_stream_is_passed_on(tmp_path: Path) -> None:
    app = Recorder(body=b'id: 1\ndata: {"status": "IN_QUEUE"}\n\n: ping\n\ndata: {"status": "COMPLETED"}\n\n')
    events: list[str] = []
    await wire_to(app).listen("replicate", HttpCall("GET", "https://sandbox.invalid/s"), events.append)
    assert events == ['{"status": "IN_QUEUE"}', '{"status": "COMPLETED"}']


@pytest.mark.parametrize(
    "call",
    [
        HttpCall("POST", "https://sandbox.invalid/half\ud83d", json={}),
        HttpCall("POST", "https://sandbox.invalid/v1/p", json={"prompt": "half \ud83d"}),
        HttpCall("POST", "https://sandbox.invalid/v1/p", {"X-Words": "half \ud83d"}, json={}),
    ],
    ids=["address", "body", "header"],
)
async def test_a_request_with_a_lone_surrogate_is_certainly_not_sent(call: HttpCall) -> None:
    app = Recorder()
    with pytest.raises(Unreachable):
        await wire_to(app).send("replicate", call)
    assert app.asked == []


async def test_an_app_that_raises_after_the_request_is_a_lost_reply() -> None:
    """The request has left, so nothing proves that it was not accepted."""

    async def broken(*_: object) -> None:
        raise UnicodeDecodeError("utf-8", b"\xed", 0, 1, "half a character")

    wire = Wire(ACCESS, frozenset({"sandbox.invalid"}), broken)
    with pytest.raises(ReplyLost):
        await wire.send("replicate", HttpCall("POST", "https://sandbox.invalid/v1/p", json={}))


async def test_a_malformed_url_is_not_fetched_and_not_redirected_to(tmp_path: Path) -> None:
    app = Recorder(302, headers=[(b"location", b"https://[x/o.png")])
    for url in ("https://[x/o.png", "https://sandbox.invalid/o.png"):
        with pytest.raises(UnsafeSource) as caught:
            await wire_to(app).download("replicate", url, tmp_path / "o", 100)
        assert caught.value.code == "url_malformed"
    assert len(app.asked) == 1


async def test_the_redirect_of_a_download_is_checked_again(tmp_path: Path) -> None:
    app = Recorder(302, headers=[(b"location", b"https://127.0.0.1/private.png")])
    with pytest.raises(UnsafeSource):
        await wire_to(app).download("replicate", "https://sandbox.invalid/o.png", tmp_path / "o", 100)
    assert len(app.asked) == 1
