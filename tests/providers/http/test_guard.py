"""Every URL that a reply names is checked before it is requested, or is built by us: over all dialects."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from recorder import Recorder

from rotoscope.errors import OutputLost, ProviderError, RotoscopeError, Unreachable, UnsafeSource
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.providers.dialects import DIALECTS, Dialect, UploadFile
from rotoscope.providers.http.client import ProviderAccess, Wire
from rotoscope.providers.http.guard import connect_timeouts, origin_of
from rotoscope.providers.http.messages import HttpCall, Json, Reply
from rotoscope.providers.http.outgoing import CountdownTiming
from rotoscope.providers.http.proxies import ProxySettings
from rotoscope.providers.states import Call, Ready, Waiting

pytestmark = pytest.mark.anyio
PROVIDERS = load_catalog(manifest_folder()).providers
FORMS = [("replicate", "official"), ("gateway", "version"), ("fal", "queue"), ("segmind", "v1"), ("segmind", "v2")]
ACCESS = {
    name: ProviderAccess(
        one.auth.header,
        one.auth.prefix,
        "key-of-a-test",
        one.output_hosts,
        one.upload_hosts,
        frozenset(map(origin_of, one.bases.values())),
    )
    for name, one in PROVIDERS.items()
}
INSIDE = [
    "http://127.0.0.1:56811/put",
    "https://127.0.0.1/put",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.5:6379/",
    "http://[::1]:22/",
    "http://2130706433/",
    "https://168.63.129.16/",
    "http://v3.fal.media/plain-http",
    "https://v3.fal.media:22/port",
    "https://user:word@v3.fal.media/",
    "https://v3.fal.media.evil.example/",
    "https://evil.example/put",
    "https://db.service.consul/",
    "ftp://v3.fal.media/",
    "HTTPS://EVIL.example/",
    "https://v3.fal.media\\@evil.example/",
]


async def nowhere(host: str, port: int) -> Sequence[str]:
    """A resolver that finds no name."""
    return []


def hostile(url: str) -> Json:
    """A reply with every member that any dialect may read, and one URL in all of them."""
    names: tuple[str, ...] = (
        "status_url",
        "response_url",
        "cancel_url",
        "stream_url",
        "next",
        "upload_url",
        "file_url",
        "logs_url",
    )
    names += ("row_url", "generation_url", "url", "web", "get", "cancel", "stream", "previous", "next_page")
    urls: dict[str, Json] = dict.fromkeys(names, url)
    row: dict[str, Json] = {**urls, "urls": dict(urls), "id": "p1", "request_id": "p1", "input": {}, "json_input": {}}
    lists: dict[str, Json] = {name: [row] for name in ("results", "items", "requests", "data")}
    found: dict[str, Json] = {**row, **lists, "request_body": {}, "next_cursor": "c2", "file_urls": [url]}
    return found


def replies(url: str) -> Iterator[Reply]:
    for status in ("IN_QUEUE", "QUEUED", "starting", "COMPLETED", "processing"):
        body = json.dumps({**dict(hostile(url)), "status": status}).encode()  # type: ignore[arg-type]
        yield Reply(200, {"content-type": "application/json", "location": url, "link": f"<{url}>; rel=next"}, body)


def built_requests(dialect: Dialect, call: Call, url: str, folder: Path) -> Iterator[HttpCall]:
    """Every request that a dialect builds from such replies."""
    file = folder / "a.bin"
    file.write_bytes(b"pixels")
    for reply in replies(url):
        for work in steps(dialect, call, reply, file):
            try:
                found = work()
            except RotoscopeError:
                continue
            yield from (one for one in found if isinstance(one, HttpCall))


def steps(dialect: Dialect, call: Call, reply: Reply, file: Path) -> Iterator[Callable[[], list[Any]]]:
    def requests_after_submit() -> list[Any]:
        ticket = getattr(dialect.read(reply, call), "ticket", None)
        if ticket is None:
            return []
        asked = [
            dialect.ask(Waiting(ticket)),
            dialect.ask(Ready(ticket)),
            dialect.cancel(ticket),
            dialect.listen(ticket),
        ]
        later = [dialect.read(reply, Waiting(ticket)), dialect.read(reply, Ready(ticket))]
        return [*asked, *(dialect.ask(one) for one in later if isinstance(one, Waiting | Ready))]

    def uploaded(size: int) -> list[Any]:
        placement = dialect.read_upload(reply, UploadFile(file, "a.bin", "image/png", size))
        return [*placement.parts, placement.complete]

    yield lambda: [dialect.submit(call), dialect.list_recent(call, 0.0), dialect.list_runs(call.endpoint, 0.0)]
    yield requests_after_submit
    yield lambda: [dialect.read_recent(reply, call).next_page]
    yield lambda: [dialect.read_runs(reply, call.endpoint).next_page]
    yield lambda: [dialect.look_up(call, "p1"), dialect.ask(Waiting(dialect.ticket(call, "p1")))]
    yield lambda: uploaded(6)
    yield lambda: uploaded(200_000_000)


@pytest.mark.parametrize(("provider", "form"), FORMS, ids=[f"{one}-{form}" for one, form in FORMS])
async def test_no_url_from_a_reply_is_requested_unless_it_is_the_providers_own(
    tmp_path: Path, provider: str, form: str
) -> None:
    """A request with the key goes to the provider's own bases; any other is refused before a connection is made."""
    shipped = PROVIDERS[provider]
    dialect = DIALECTS[shipped.dialect](shipped.bases)
    own = {origin_of(base) for base in shipped.bases.values()}
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return []

    wire = Wire({provider: ACCESS[provider]}, resolve=resolve)
    seen = 0
    for url in INSIDE:
        for call in built_requests(dialect, Call(provider, "owner/model", {}, form=form), url, tmp_path):
            seen += 1
            if call.with_key:
                assert origin_of(call.url) in own, (url, call)
                continue
            with pytest.raises(ProviderError) as caught:
                await wire.send(provider, call)
            assert not isinstance(caught.value, Unreachable), (url, caught.value)
    assert seen
    assert asked == []


async def test_a_key_goes_nowhere_but_to_the_providers_own_bases() -> None:
    wire = Wire(ACCESS, resolve=nowhere)
    for url in ("https://evil.example/v1/p", "https://api.replicate.com.evil.example/", "http://api.replicate.com/"):
        with pytest.raises(Unreachable, match="own hosts"):
            await wire.send("replicate", HttpCall("POST", url, json={}), pays=True)
        with pytest.raises(Unreachable, match="own hosts"):
            await wire.listen("replicate", HttpCall("GET", url), print)


@asynccontextmanager
async def at(
    found: dict[str, list[str]], access: dict[str, ProviderAccess] = ACCESS, **more: Any
) -> AsyncIterator[Wire]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return found.get(host, [])

    wire = Wire(access, resolve=resolve, **more)
    yield wire
    await wire.aclose()


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.215.14", "10.0.0.1"], ["::1"], ["fd00:ec2::254"]])
async def test_a_storage_host_with_a_private_address_is_sent_nothing(tmp_path: Path, addresses: list[str]) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"pixels")
    call = HttpCall("PUT", "https://v3.fal.media/up", source=file, with_key=False)
    async with at({"v3.fal.media": addresses}) as wire:
        with pytest.raises(ProviderError, match="not used") as caught:
            await wire.send("fal", call)
    assert caught.value.code == "url_blocked"


async def test_a_storage_host_that_is_not_known_is_refused_by_its_name(tmp_path: Path) -> None:
    async with at({}) as wire:
        with pytest.raises(ProviderError) as caught:
            await wire.send("fal", HttpCall("PUT", "https://bucket.evil.example/up", content=b"x", with_key=False))
    assert "bucket.evil.example" in caught.value.message
    assert "upload_hosts" in caught.value.hint


async def test_the_operators_address_of_one_provider_is_not_trusted_for_another(tmp_path: Path) -> None:
    app = Recorder(body=b"secret")
    access = {
        "gateway": ProviderAccess("Authorization", "Bearer ", "g", trusted=frozenset({"gateway.invalid"})),
        "replicate": ACCESS["replicate"],
    }
    wire = Wire(access, sandbox=app)
    with pytest.raises(OutputLost) as caught:
        await wire.download("replicate", "https://gateway.invalid/admin", tmp_path / "o", 100)
    assert caught.value.code == "output_blocked"
    with pytest.raises(ProviderError):
        await wire.send("replicate", HttpCall("PUT", "https://gateway.invalid/admin", content=b"x", with_key=False))
    assert app.asked == []
    await wire.download("gateway", "https://gateway.invalid/o.png", tmp_path / "o", 100)
    await wire.send("gateway", HttpCall("PUT", "https://gateway.invalid/up", content=b"x", with_key=False))
    assert [one["path"] for one in app.asked] == ["/o.png", "/up"]


@pytest.mark.parametrize(
    ("location", "allowed"),
    [("https://replicate.delivery/b.png", True), ("https://elsewhere.example/b.png", False), ("/b.png", False)],
)
async def test_a_redirect_stays_within_the_hosts_of_outputs(tmp_path: Path, location: str, allowed: bool) -> None:
    """The second host does not exist; the test is whether it is resolved at all."""
    app = Recorder(302, headers=[(b"location", location.encode())])
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return []

    access = {"replicate": ProviderAccess("A", "", "key-of-a-test", ("replicate.delivery",))}
    wire = Wire(access, frozenset({"sandbox.invalid"}), app, resolve=resolve)
    with pytest.raises((OutputLost, UnsafeSource)) as caught:
        await wire.download("replicate", "https://sandbox.invalid/a.png", tmp_path / "o", 100)
    assert asked == (["replicate.delivery"] if allowed else [])
    assert (caught.value.code == "url_unreachable") is allowed


async def test_every_checked_address_is_tried_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network without a route for IPv6 refuses or hangs: the next address is tried within one budget."""
    dialled: list[str] = []

    async def connect(remote_host: str, **_: Any) -> Any:
        dialled.append(remote_host)
        if "::" in remote_host:
            await anyio.sleep_forever()
        raise OSError

    monkeypatch.setattr(anyio, "connect_tcp", connect)
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        await anyio.wait_all_tasks_blocked()
        clock[0] += seconds

    found = ["2606:2800:220:1::1", "2606:2800:220:1::2", "93.184.215.14"]
    async with at({"replicate.delivery": found}, timing=CountdownTiming(lambda: clock[0], sleep)) as wire:
        with anyio.fail_after(180), pytest.raises(Unreachable):
            await wire.download("replicate", "https://replicate.delivery/o.png", tmp_path / "o", 100)
    assert dialled == [found[0], found[2], found[1]]
    assert clock[0] <= 10


def test_the_budget_of_several_addresses_is_one() -> None:
    for ways in range(1, 12):
        shares = connect_timeouts(8.0, ways)
        assert len(shares) == ways
        assert sum(shares) == pytest.approx(8.0)
    assert connect_timeouts(8.0, 2) == [4.0, 4.0]


async def test_no_cookie_of_one_host_goes_to_another() -> None:
    app = Recorder(headers=[(b"set-cookie", b"who=you; Path=/")])
    wire = Wire(ACCESS, frozenset({"sandbox.invalid"}), app)
    for _ in range(2):
        await wire.send("replicate", HttpCall("GET", "https://sandbox.invalid/v1/p"))
    assert "cookie" not in app.asked[1]["headers"]


async def test_an_upload_goes_through_the_proxy_by_its_name(tmp_path: Path) -> None:
    lines: list[str] = []

    async def refuse(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            lines.append((await stream.receive()).partition(b"\r\n")[0].decode())
            await stream.send(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, refuse)
        proxy = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        async with at({}, proxies=ProxySettings({"https": proxy})) as wire:
            for host, asked in (("v3.fal.media", 1), ("metadata.goog", 1), ("evil.example", 1)):
                with pytest.raises(ProviderError):
                    await wire.send("fal", HttpCall("PUT", f"https://{host}/up", content=b"x", with_key=False))
                assert len(lines) == asked
        tasks.cancel_scope.cancel()
    assert [line.split()[1] for line in lines] == ["v3.fal.media:443"]
