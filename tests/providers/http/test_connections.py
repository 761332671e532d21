"""The connection of a request: a new one for a paying request, a lane for each kind, a proxy for all or for none."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc
import pytest

from rotoscope.errors import ReplyLost, StorageFailed, Unreachable, UnsafeSource
from rotoscope.providers.http.client import ProviderAccess, ReplyTimeouts, Wire
from rotoscope.providers.http.messages import HttpCall
from rotoscope.providers.http.outgoing import CountdownTiming
from rotoscope.providers.http.proxies import ProxySettings

pytestmark = pytest.mark.anyio
ACCESS = {"fal": ProviderAccess("Authorization", "Key ", "k1_3f9a0c", ("*.fal.media",))}
GATEWAY = "http://gateway.invalid"
FINE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n{}"
TLS = b"\x16\x03"
TUNNEL_REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"


@dataclass
class Server:
    """A server on loopback that keeps its connections; where a path says `hang`, it reads and never answers."""

    answer: bytes = FINE
    host: str = ""
    lines_read: list[tuple[int, str]] = field(default_factory=list)
    """(number of the connection, first line) of each request."""
    opened: int = 0
    hangs: int = 0
    closed: int = 0

    async def handle(self, stream: anyio.abc.SocketStream) -> None:
        self.opened += 1
        number, read = self.opened, b""
        async with stream:
            while True:
                try:
                    read += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    self.closed += 1
                    return
                if read.startswith(TLS):
                    self.hangs += 1
                    await stream.send(self.answer)
                    continue
                head, whole, body = read.partition(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                if not whole or len(body) < int(length or 0):
                    continue
                line, read = head.partition(b"\r\n")[0].decode(), b""
                self.lines_read.append((number, line))
                if "hang" in line:
                    self.hangs += 1
                    continue
                await stream.send(self.answer)

    async def hung(self, count: int) -> None:
        with anyio.fail_after(180):
            while self.hangs < count:
                await anyio.wait_all_tasks_blocked()

    @property
    def lines(self) -> list[str]:
        return [line for _, line in self.lines_read]


@asynccontextmanager
async def serving(answer: bytes = FINE) -> AsyncIterator[Server]:
    server = Server(answer)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        server.host = f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.start_soon(listener.serve, server.handle)
        yield server
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def wired(*hosts: str, proxies: ProxySettings | None = None, found: Sequence[str] = ()) -> AsyncIterator[Wire]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return found

    wire = Wire(ACCESS, frozenset(hosts), resolve=resolve, timeouts=ReplyTimeouts(20.0, 20.0), proxies=proxies)
    yield wire
    await wire.aclose()


async def test_a_paying_request_goes_out_on_a_new_connection() -> None:
    """An idle connection may be closed by the other side at that moment, and then nobody knows what it has seen."""
    async with serving() as server, wired(server.host) as wire:
        for method, pays in (("GET", False), ("GET", False), ("POST", True), ("POST", True), ("GET", False)):
            await wire.send("fal", HttpCall("GET" if method == "GET" else "POST", f"http://{server.host}/"), pays=pays)
        numbers = [number for number, _ in server.lines_read]
    assert numbers == [1, 1, 2, 3, 1]


async def test_a_reply_keeps_the_date_of_the_provider() -> None:
    async with serving() as server, wired(server.host) as wire:
        reply = await wire.send("fal", HttpCall("GET", f"http://{server.host}/"))
    assert reply.headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"


async def test_streams_and_polls_never_delay_a_paying_request_a_cancel_or_an_upload(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"x" * 1000)
    async with serving() as server, wired(server.host) as wire, anyio.create_task_group() as tasks:
        at = f"http://{server.host}"
        for _ in range(20):
            tasks.start_soon(wire.listen, "fal", HttpCall("GET", f"{at}/hang"), lambda _: None)
        await server.hung(20)
        with anyio.fail_after(180):
            await wire.listen("fal", HttpCall("GET", f"{at}/one-too-many"), lambda _: None)
            await wire.send("fal", HttpCall("GET", f"{at}/question"))
        for _ in range(30):
            tasks.start_soon(wire.send, "fal", HttpCall("GET", f"{at}/hang"))
            tasks.start_soon(wire.send, "fal", HttpCall("PUT", f"{at}/hang", source=file))
        await server.hung(60)
        with anyio.fail_after(180):
            await wire.send("fal", HttpCall("POST", f"{at}/run", json={}), pays=True)
            await wire.send("fal", HttpCall("PUT", f"{at}/cancel"))
        tasks.cancel_scope.cancel()
    answered = [line.split()[1] for line in server.lines if "hang" not in line]
    assert answered == ["/question", "/run", "/cancel"]


async def every_request(wire: Wire, at: str, folder: Path) -> None:
    """One request of each kind."""
    file = folder / "a.bin"
    file.write_bytes(b"x" * 1000)
    await wire.send("fal", HttpCall("POST", f"{at}/run", json={}), pays=True)
    await wire.send("fal", HttpCall("GET", f"{at}/status"))
    await wire.send("fal", HttpCall("PUT", f"{at}/cancel"))
    await wire.send("fal", HttpCall("PUT", f"{at}/upload", source=file))
    await wire.send("fal", HttpCall("POST", f"{at}/form", form={"content": ("a.png", file, "image/png")}))
    await wire.send("fal", HttpCall("POST", f"{at}/uris", data_uris={"a": ((file, "image/png"),)}))
    await wire.listen("fal", HttpCall("GET", f"{at}/stream"), lambda _: None)
    await wire.download("fal", f"{at}/output", folder / "o", 100)


PATHS = ("run", "status", "cancel", "upload", "form", "uris", "stream", "output")


async def test_every_request_goes_through_the_proxy_and_so_do_downloads(tmp_path: Path) -> None:
    async with serving() as proxy:
        proxies = ProxySettings({"http": f"http://{proxy.host}"})
        async with wired("gateway.invalid", proxies=proxies) as wire:
            await every_request(wire, GATEWAY, tmp_path)
    assert [line.split()[1] for line in proxy.lines] == [f"{GATEWAY}/{path}" for path in PATHS]


async def test_no_request_goes_through_the_proxy_where_no_proxy_excludes_it(tmp_path: Path) -> None:
    async with serving() as proxy, serving() as server:
        proxies = ProxySettings({"http": f"http://{proxy.host}"}, no_proxy=("127.0.0.1",))
        async with wired(server.host, proxies=proxies) as wire:
            await every_request(wire, f"http://{server.host}", tmp_path)
    assert proxy.lines == []
    assert [line.split()[1] for line in server.lines] == [f"/{path}" for path in PATHS]


async def test_the_client_reads_nothing_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as proxy, serving() as server, wired(server.host) as wire:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.host}")
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
        await every_request(wire, f"http://{server.host}", tmp_path)
    assert proxy.lines == []


@pytest.mark.parametrize("found", [(), ("93.184.215.14",)], ids=["only the proxy knows the name", "known here too"])
async def test_an_output_behind_a_proxy_is_asked_for_by_its_name(tmp_path: Path, found: Sequence[str]) -> None:
    async with serving(TUNNEL_REFUSED) as proxy:
        proxies = ProxySettings({"https": f"http://{proxy.host}"})
        async with wired(proxies=proxies, found=found) as wire:
            with pytest.raises(Unreachable):
                await wire.download("fal", "https://v3.fal.media/o.mp4", tmp_path / "o", 100)
            with pytest.raises(Unreachable):
                await wire.fetch("https://pictures.example/a.png", tmp_path / "a", 100)
    assert [line.split()[:2] for line in proxy.lines] == [
        ["CONNECT", "v3.fal.media:443"],
        ["CONNECT", "pictures.example:443"],
    ]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://pictures.example/a.png", ["10.0.0.1"]),
        ("https://pictures.example/a.png", ["93.184.215.14", "127.0.0.1"]),
        ("https://127.0.0.1/a.png", []),
        ("https://[::1]/a.png", []),
        ("https://169.254.169.254/a.png", []),
        ("https://metadata.internal/a.png", []),
        ("https://localhost/a.png", []),
        ("http://pictures.example/a.png", []),
        ("https://pictures.example:22/a.png", []),
        ("https://user@pictures.example/a.png", []),
    ],
)
async def test_a_proxy_is_never_asked_for_an_address_that_is_not_allowed(
    tmp_path: Path, url: str, found: Sequence[str]
) -> None:
    async with serving() as proxy:
        proxies = ProxySettings(dict.fromkeys(("http", "https"), f"http://{proxy.host}"))
        async with wired(proxies=proxies, found=found) as wire:
            with pytest.raises(UnsafeSource):
                await wire.fetch(url, tmp_path / "a", 100)
    assert proxy.lines == []


async def refused(
    proxies: ProxySettings, url: str = "https://api.example/v1/p", headers: Mapping[str, str] | None = None
) -> None:
    """The paying request is certainly not sent, and `before_send` was not called."""
    asked: list[bool] = []

    def guard() -> None:
        asked.append(True)

    async with wired(proxies=proxies) as wire:
        with anyio.fail_after(180), pytest.raises(Unreachable):
            await wire.send("fal", HttpCall("POST", url, headers or {}, json={}), guard, pays=True)
    assert asked == [True] * bool(headers)


async def test_whatever_fails_before_the_first_byte_proves_that_nothing_was_sent() -> None:
    await refused(ProxySettings(certificates="/nowhere/certificates.pem"))
    await refused(ProxySettings(certificate_folder="/nowhere", proxies={"https": "gopher://127.0.0.1:1"}))
    await refused(ProxySettings({"https": "http://127.0.0.1:1"}))
    await refused(ProxySettings(), url="gopher://api.example/")
    async with serving(TUNNEL_REFUSED) as proxy:
        await refused(ProxySettings({"https": f"http://{proxy.host}"}))
        assert len(proxy.lines) == 1
    async with serving(b"no TLS here") as server:
        await refused(ProxySettings(), f"https://{server.host}/")
    async with serving() as server:
        await refused(ProxySettings(), f"http://{server.host}/", {"X-Words": "two\nlines"})
        assert server.lines == []


async def test_an_error_of_a_library_before_the_first_byte_proves_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import httpx  # noqa: TID251 - breaks it

    for error in (ImportError("socksio"), RuntimeError("a"), ValueError("b"), KeyError("c"), OSError("d")):
        raising: Callable[..., None] = _raising(error)
        with monkeypatch.context() as patched:
            patched.setattr(httpx, "AsyncHTTPTransport", raising)
            await refused(ProxySettings())


def _raising(error: Exception) -> Callable[..., None]:
    def raising(*_: object, **__: object) -> None:
        raise error

    return raising


async def test_a_connection_that_is_never_established_is_given_up_and_closed() -> None:
    """The provider, or a proxy before it, accepts the connection and sends nothing more."""
    for through_proxy in (False, True):
        async with serving(b"") as server:
            clock = [0.0]

            def read_clock(clock: list[float] = clock) -> float:
                return clock[0]

            async def sleep(seconds: float, server: Server = server, clock: list[float] = clock) -> None:
                await server.hung(1)
                clock[0] += seconds

            proxies = ProxySettings({"https": f"http://{server.host}"}) if through_proxy else ProxySettings()
            at = "https://hang.example/" if through_proxy else f"https://{server.host}/"
            wire = Wire(ACCESS, proxies=proxies, timing=CountdownTiming(read_clock, sleep))
            with anyio.fail_after(180), pytest.raises(Unreachable):
                await wire.send("fal", HttpCall("POST", at, json={}), pays=True)
            with anyio.fail_after(180):
                while not server.closed:
                    await anyio.wait_all_tasks_blocked()
            await wire.aclose()


@pytest.mark.parametrize("error", [ImportError("a"), RuntimeError("b"), KeyError("c"), OSError("d"), TimeoutError()])
async def test_whatever_fails_once_the_request_has_left_is_a_lost_reply(error: Exception) -> None:
    async def broken(*_: object) -> None:
        raise error

    wire = Wire(ACCESS, frozenset({"sandbox.invalid"}), broken)
    with pytest.raises(ReplyLost):
        await wire.send("fal", HttpCall("POST", "https://sandbox.invalid/run", json={}), pays=True)


@pytest.mark.parametrize("proxied", [True, False])
async def test_an_error_of_before_send_comes_out_and_nothing_was_sent(proxied: bool) -> None:
    class TooLate(Exception):
        """This process was stopped for a while."""

    async with serving() as server:
        proxies = ProxySettings({"http": f"http://{server.host}"}) if proxied else ProxySettings()
        at = GATEWAY if proxied else f"http://{server.host}"
        async with wired("gateway.invalid", server.host, proxies=proxies) as wire:
            with pytest.raises(TooLate):
                await wire.send("fal", HttpCall("POST", at, json={}), _raising(TooLate()), pays=True)
    assert server.lines == []
    assert server.opened == 1


async def test_a_missing_local_file_is_not_reported_as_a_network_failure(tmp_path: Path) -> None:
    async with serving() as server, wired(server.host) as wire:
        for call in (
            HttpCall("PUT", f"http://{server.host}/", source=tmp_path / "gone"),
            HttpCall("POST", f"http://{server.host}/", form={"content": ("a", tmp_path / "gone", "image/png")}),
            HttpCall("POST", f"http://{server.host}/", data_uris={"a": ((tmp_path / "gone", "image/png"),)}),
        ):
            with pytest.raises(StorageFailed):
                await wire.send("fal", call)
    assert server.lines == []
