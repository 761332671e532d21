"""The only place that speaks HTTP: one client with keys and no redirects, one without keys for downloads.

`httpx` is imported here alone, and only when something is sent.
"""

import base64
import hashlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import anyio
import anyio.to_thread

from rotoscope.errors import OutputLost, ReplyLost, StorageFailed, TooLarge, Unreachable
from rotoscope.wire.egress import check_addresses, check_url, host_allowed, moved, split_url
from rotoscope.wire.messages import HttpCall, Json, Reply

if TYPE_CHECKING:
    import httpx  # noqa: TID251 - this is the one module

__all__ = ["AsgiApp", "Door", "Downloaded", "Times", "Wire", "resolve_host"]

CONNECT_SECONDS = 5.0
DOWNLOAD_SECONDS = 600.0
REPLY_BYTES = 64 * 1024 * 1024
REDIRECTS = 3
_CHUNK = 256 * 1024
# 20 is where httpx begins to slow down on one pool.
_CONNECTIONS = 20
_SECRET_LENGTH = 8  # characters; a shorter key is the sandbox's, and an ordinary word
# A compressed body could be small on the wire and endless on the disk.
_AS_IT_IS = {"Accept-Encoding": "identity"}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
AsgiApp = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Door:
    """What the wire must know of a provider: the header with its key, and where its outputs may come from."""

    header: str
    prefix: str
    key: str = field(repr=False)
    output_hosts: tuple[str, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries the key."""
        return {self.header: self.prefix + self.key}

    def without_key(self, content: bytes) -> bytes:
        """The same bytes with the key blotted out: a provider may repeat it, and it goes no further than this."""
        return content.replace(self.key.encode(), b"[key]") if len(self.key) >= _SECRET_LENGTH else content


@dataclass(frozen=True, slots=True)
class Times:
    """How long a reply is waited for, in seconds: to what may change something, to a question, and at the most."""

    submit: float = 30.0
    ask: float = 10.0
    longest: float = 3600.0


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that was fetched: its hash (hex), its size in bytes and what the server called it."""

    sha256: str
    size: int
    content_type: str


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Every address of a host name, as the system's resolver gives them."""
    found = await anyio.getaddrinfo(host, port, type=1)
    return [str(entry[4][0]) for entry in found]


class Wire:
    """Sends what others have worded. Every HTTP error becomes one of ours here.

    Args:
        doors: what to know of each provider, by name.
        trusted: hosts (`name` or `name:port`) that the operator named; they may be http and private.
        sandbox: the ASGI app that answers for the trusted hosts inside this process, or None.
        resolve: finds the addresses of a host.
        times: how long replies are waited for.
    """

    def __init__(
        self,
        doors: Mapping[str, Door],
        trusted: frozenset[str] = frozenset(),
        sandbox: AsgiApp | None = None,
        resolve: Resolve = resolve_host,
        times: "Times | None" = None,
    ) -> None:
        self._doors = doors
        self._trusted = trusted
        self._sandbox = sandbox
        self._resolve = resolve
        self._times = times or Times()
        self._keyed: dict[str, httpx.AsyncClient] = {}
        self._room: dict[str, anyio.CapacityLimiter] = {}
        self._plain: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        """Close every connection."""
        for client in (*self._keyed.values(), *([self._plain] if self._plain else [])):
            await client.aclose()

    async def send(self, provider: str, call: HttpCall, guard: Callable[[], None] | None = None) -> Reply:
        """Send a request exactly once; never follow a redirect.

        Args:
            provider: whose key goes with it.
            call: the request.
            guard: called when a connection stands and nothing was sent on it yet; what it raises comes out.

        Raises:
            Unreachable: no connection was made; nothing was sent.
            ReplyLost: the request may have arrived; its reply did not come back whole, or not in time.
        """
        async with self._room.setdefault(provider, anyio.CapacityLimiter(_CONNECTIONS)):
            with anyio.move_on_after(self._longest(call)):
                return await self._send(provider, call, guard)
        raise ReplyLost(f"The reply of {provider} did not come in time.", hint="Ask for the job again.")

    def longest(self, call: HttpCall) -> float:
        """After how many seconds, at most, a small request is over, one way or the other."""
        return CONNECT_SECONDS + self._patience(call)

    def _longest(self, call: HttpCall) -> float | None:
        """Each byte of a reply may come in time and the whole still never end; a large upload takes what it takes."""
        large = call.source is not None or call.form is not None or call.data_uris is not None
        return None if large else self._patience(call) if call.method == "GET" else self.longest(call)

    def _patience(self, call: HttpCall) -> float:
        usual = self._times.ask if call.method == "GET" else self._times.submit
        return min(call.patience_seconds or usual, self._times.longest)

    async def _send(self, provider: str, call: HttpCall, guard: Callable[[], None] | None) -> Reply:
        door = self._doors[provider]
        headers = {**call.headers, **(door.headers if call.with_key else {})}
        if call.data_uris is not None:
            call = replace(call, json=await anyio.to_thread.run_sync(_data_uris, call.data_uris), data_uris=None)
        if guard is not None:
            guard()
        with _our_errors(provider):
            async with self._opened(self._keyed_client(provider), call, headers, _guarded(guard)) as response:
                body = await _body(response)
        return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, door.without_key(body))

    async def listen(self, provider: str, call: HttpCall, told: Callable[[str], None]) -> None:
        """Read a stream of server-sent events to its end; `told` gets the data of each of them.

        Raises:
            Unreachable, ReplyLost: it could not be opened, or broke.
        """
        door = self._doors[provider]
        headers = {**call.headers, **door.headers}
        with _our_errors(provider):
            async with self._opened(self._keyed_client(provider), call, headers) as response:
                if not response.is_success:
                    return
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        told(line.removeprefix("data:").strip())

    async def download(self, provider: str, url: str, into: Path, limit: int) -> Downloaded:
        """Fetch an output of a provider into a file, without any key.

        Raises:
            OutputLost: another host than the provider's, or it cannot be fetched.
            UnsafeSource: an address that is not read.
            TooLarge: more than `limit` bytes.
        """
        host, trusted = split_url(url).hostname or "", self._is_trusted(url)
        if not trusted and not host_allowed(host, self._doors[provider].output_hosts):
            raise OutputLost(
                f"The result of {provider} is on a host that is not known to be its own.",
                hint="Add the host to output_hosts in a providers.toml of yours if it is right.",
                code="output_blocked",
            )
        return await self._fetch(url, into, limit, trusted=trusted)

    async def fetch(self, url: str, into: Path, limit: int) -> Downloaded:
        """Fetch what a user pointed at, after the address guard has judged it.

        Raises:
            UnsafeSource: an address that is not read.
            OutputLost: it cannot be fetched.
            TooLarge: more than `limit` bytes.
        """
        return await self._fetch(url, into, limit, trusted=False)

    async def _fetch(self, url: str, into: Path, limit: int, *, trusted: bool) -> Downloaded:
        with anyio.move_on_after(DOWNLOAD_SECONDS):
            for _ in range(REDIRECTS + 1):
                found = await self._fetch_hop(url, into, limit, trusted=trusted)
                if isinstance(found, Downloaded):
                    return found
                # The operator's host is trusted for what it serves itself, not for where it sends us.
                url, trusted = found, False
        raise OutputLost("The file took too long, or moved too often, to be fetched.", hint="Try again later.")

    async def _fetch_hop(self, url: str, into: Path, limit: int, *, trusted: bool) -> Downloaded | str:
        """One request: the file, or where it has moved."""
        call, extensions = (HttpCall("GET", url, _AS_IT_IS), {}) if trusted else await self._judged(url)
        with _our_errors("the host of the file"):
            async with self._opened(self._plain_client(), call, call.headers, extensions) as response:
                if response.is_redirect:
                    return moved(url, str(response.headers.get("location", "")))
                if not response.is_success:
                    raise _gone(response.status_code)
                return await _saved(response, into, limit)

    async def _judged(self, url: str) -> tuple[HttpCall, dict[str, str]]:
        """The request to the very address that was judged; the name stays in Host and in TLS."""
        target = check_url(url)
        try:
            addresses = await self._resolve(target.host, target.port)
        except OSError:
            addresses = []
        address = check_addresses(target, addresses)
        parts = urlsplit(target.url)
        literal = f"[{address}]" if ":" in address else address
        dialled = urlunsplit(parts._replace(netloc=f"{literal}:{target.port}", fragment=""))
        return HttpCall("GET", dialled, {"Host": parts.netloc, **_AS_IT_IS}), {"sni_hostname": target.host}

    def _is_trusted(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and parts.netloc.lower() in self._trusted

    @asynccontextmanager
    async def _opened(
        self,
        client: "httpx.AsyncClient",
        call: HttpCall,
        headers: Mapping[str, str],
        extensions: Mapping[str, object] | None = None,
    ) -> AsyncIterator["httpx.Response"]:
        import httpx  # noqa: TID251 - this is the one module

        parts = {name: (file, path.open("rb"), kind) for name, (file, path, kind) in (call.form or {}).items()}
        try:
            try:
                request = client.build_request(
                    call.method,
                    call.url,
                    headers=dict(headers) | ({"Content-Length": str(_span(call)[1])} if call.source else {}),
                    json=call.json,
                    content=_chunks(call.source, *_span(call)) if call.source else call.content,
                    files=parts or None,
                    timeout=httpx.Timeout(self._patience(call), connect=CONNECT_SECONDS),
                    extensions={**(extensions or {})},
                )
            except ValueError as error:
                raise Unreachable("The request cannot be written; nothing was sent.", hint="Check the key.") from error
            response = await client.send(request, stream=True)
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            for _, opened, _ in parts.values():
                opened.close()

    def _keyed_client(self, provider: str) -> "httpx.AsyncClient":
        if provider not in self._keyed:
            self._keyed[provider] = self._client(trust_env=True)
        return self._keyed[provider]

    def _plain_client(self) -> "httpx.AsyncClient":
        if self._plain is None:
            # A proxy from the environment would dial for us and undo the judged address.
            self._plain = self._client(trust_env=False)
        return self._plain

    def _client(self, *, trust_env: bool) -> "httpx.AsyncClient":
        import httpx  # noqa: TID251 - this is the one module

        # httpx logs whole URLs, with the signatures in their queries, at INFO.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        mounts: dict[str, httpx.AsyncBaseTransport | None] = {}
        if self._sandbox is not None:
            mounts = {f"all://{host}": httpx.ASGITransport(self._sandbox) for host in self._trusted}
        # Downloads reuse no connection: one opened for a judged name must not serve another.
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS if trust_env else 0)
        return httpx.AsyncClient(mounts=mounts, limits=limits, follow_redirects=False, trust_env=trust_env)


def _guarded(guard: Callable[[], None] | None) -> dict[str, object]:
    """Httpcore tells of each of its steps: https://www.encode.io/httpcore/extensions/#trace."""
    if guard is None:
        return {}

    async def told(step: str, _: Mapping[str, object]) -> None:
        if step.endswith("send_request_headers.started"):
            guard()

    return {"trace": told}


class _our_errors:  # noqa: N801 - it reads as a word of the with statement
    """Translate httpx's errors, by what each proves about the request."""

    def __init__(self, who: str) -> None:
        self.who = who

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import httpx  # noqa: TID251 - this is the one module

        never_sent = httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError
        if isinstance(error, never_sent | httpx.UnsupportedProtocol | httpx.InvalidURL):
            raise Unreachable(
                f"{self.who} could not be reached; nothing was sent.", hint="Check the network, then try again."
            ) from error
        if isinstance(error, httpx.TransportError | httpx.DecodingError | ssl.SSLError | ValueError):
            raise ReplyLost(f"The reply of {self.who} did not come back.", hint="Ask for the job again.") from error


async def _body(response: "httpx.Response") -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > REPLY_BYTES:
            raise ReplyLost("The provider's reply is larger than any reply should be.", hint="Ask for the job again.")
    return bytes(body)


async def _saved(response: "httpx.Response", into: Path, limit: int) -> Downloaded:
    digest, size = hashlib.sha256(), 0
    declared = response.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    try:
        async with await anyio.open_file(into, "wb") as file:
            async for chunk in response.aiter_raw(_CHUNK):
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                digest.update(chunk)
                await file.write(chunk)
    except OSError as error:
        raise StorageFailed(
            "A file that was being fetched could not be written.", hint="Free some space in ROTOSCOPE_HOME."
        ) from error
    if declared.isdigit() and int(declared) != size:
        raise OutputLost("The file came back shorter than it should be.", hint="Try again.")
    return Downloaded(digest.hexdigest(), size, response.headers.get("content-type", "").split(";")[0].strip().lower())


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The file has more than {limit // (1024 * 1024)} MB.", hint="Use a smaller file.")


def _gone(status: int) -> OutputLost:
    expired = status in (401, 403, 404, 410)
    return OutputLost(
        f"The file could not be fetched: its host answered {status}.",
        hint="It may have expired." if expired else "Try again later.",
        code="output_expired" if expired else "download_failed",
    )


def _span(call: HttpCall) -> tuple[int, int]:
    """Which bytes of the source are sent, as (first, how many)."""
    size = call.source.stat().st_size if call.source else 0
    start, most = call.span or (0, size)
    return start, min(most, max(0, size - start))


async def _chunks(source: Path, start: int, length: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(source, "rb") as file:
        await file.seek(start)
        while length > 0 and (chunk := await file.read(min(_CHUNK, length))):
            length -= len(chunk)
            yield chunk


def _data_uris(files: Mapping[str, tuple[tuple[Path, str], ...]]) -> Json:
    return {name: [_data_uri(path, kind) for path, kind in listed] for name, listed in files.items()}


def _data_uri(path: Path, content_type: str) -> str:
    return f"data:{content_type};base64,{base64.b64encode(path.read_bytes()).decode()}"
