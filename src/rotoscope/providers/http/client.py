"""The only module that speaks HTTP. Keys go to providers alone, and no redirect of a provider is followed.

Each kind of request has a lane (connections) of its own, so that none waits behind another kind: paying requests,
cancels, uploads, polls, event streams, downloads. `httpx` is imported here alone, and only when something is sent; it
reads nothing from the environment by itself: proxies and certificates come from `ProxySettings`, for all requests.
"""

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread

from rotoscope.errors import OutputLost, Unreachable
from rotoscope.providers.http.downloads import (
    Download,
    download_error,
    read_body,
    require_minimum_speed,
    save_download,
    slow_host_error,
    stream_lines,
)
from rotoscope.providers.http.egress import resolve_redirect
from rotoscope.providers.http.guard import (
    Destination,
    EgressGuard,
    ProviderAccess,
    ReplyTimeouts,
    Resolve,
    connect_timeouts,
    redact_reply,
)
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.http.outgoing import (
    CHUNK,
    NO_KEEPALIVE,
    Countdown,
    CountdownTiming,
    Lane,
    OutgoingRequest,
    ProgressFile,
    RequestProgress,
    data_uri_json,
    lane_of,
    map_read_errors,
    outgoing_request,
    request_content,
)
from rotoscope.providers.http.proxies import ProxySettings, resolve_host

if TYPE_CHECKING:
    import httpx  # noqa: TID251 - this is the one module

__all__ = ["AsgiApp", "Download", "ProviderAccess", "ReplyTimeouts", "Wire", "resolve_host"]

CONNECT_SECONDS = 5.0
DOWNLOAD_SECONDS = 600.0
MAX_REDIRECTS = 3
_CONNECT_ALL_SECONDS = 8.0  # for all addresses of one name together
# Beyond 20 connections httpx begins to slow down on one pool.
_MAX_CONNECTIONS = 20
# A compressed body could be small on the wire and endless on the disk.
_UNCOMPRESSED = {"Accept-Encoding": "identity"}

AsgiApp = Callable[..., Awaitable[None]]
Answer = TypeVar("Answer")
_Use = Callable[["httpx.Response"], Awaitable[Answer]]
_Hook = Callable[[], None] | None
_OnEvent = Callable[[str], None]


class Wire:
    """Sends requests that dialects have built. Every HTTP error becomes one of `rotoscope.errors` here.

    Args:
        access: the key and the hosts of each provider, by name.
        trusted: hosts (`name` or `name:port`) that stand in for every provider; they may be http and private.
        sandbox: the ASGI app that answers for trusted hosts inside this process, or None.
        resolve: finds the addresses of a host.
        timeouts: how long to wait for replies.
        proxies: the proxies and certificates of every request.
        timing: how deadlines are watched.
    """

    def __init__(
        self,
        access: Mapping[str, ProviderAccess],
        trusted: frozenset[str] = frozenset(),
        sandbox: AsgiApp | None = None,
        resolve: Resolve = resolve_host,
        timeouts: "ReplyTimeouts | None" = None,
        proxies: ProxySettings | None = None,
        timing: CountdownTiming | None = None,
    ) -> None:
        self._access = access
        self._sandbox = sandbox
        self._timeouts = timeouts or ReplyTimeouts()
        self._proxies = proxies or ProxySettings()
        self._egress = EgressGuard(access, trusted, resolve, self._proxies)
        self._timing = timing or CountdownTiming()
        self._clients: dict[tuple[str, Lane, str | None], httpx.AsyncClient] = {}
        self._limiters: dict[tuple[str, Lane], anyio.CapacityLimiter] = {}
        self._tls: ssl.SSLContext | None = None

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()

    async def send(
        self, provider: str, call: HttpCall, before_send: _Hook = None, *, pays: bool = False, key: str | None = None
    ) -> Reply:
        """Send a request exactly once; never follow a redirect.

        Args:
            provider: the provider whose key goes with it.
            call: the request.
            before_send: called when a connection stands and nothing was sent on it yet; what it raises comes out.
            pays: whether it costs money; it then goes out on a new connection.
            key: goes with it in place of the provider's usual one.

        Raises:
            Unreachable: no connection was made; nothing was sent.
            ReplyLost: the request may have arrived; its reply did not come back whole, or not in time.
            ProviderError: a reply named its address, and that address is not allowed; nothing was sent.
            StorageFailed: the file to be sent cannot be read; nothing was sent.
        """
        access, lane = self._access[provider].with_key(key), lane_of(call, pays=pays)
        call = replace(call, headers={**call.headers, **(access.headers if call.with_key else {})})
        destinations = await self._egress.call_destinations(provider, call)
        async with self._limiter(provider, lane):
            new_progress = partial(self._new_progress, provider, call, before_send)
            reply = await self._try_destinations(
                (provider, lane), call, destinations, new_progress, partial(_read_reply, call.max_reply_bytes)
            )
        return await redact_reply(access, reply)

    def max_request_seconds(self, call: HttpCall) -> float:
        """The most seconds that a small request takes, however it ends.

        A pause of this process (stopped, swapped out, a machine that sleeps) is not counted.
        """
        return CONNECT_SECONDS + self._reply_timeout(call)

    def _reply_timeout(self, call: HttpCall) -> float:
        usual = self._timeouts.ask if call.method == "GET" else self._timeouts.submit
        return min(call.patience_seconds or usual, self._timeouts.maximum)

    def _new_progress(
        self, peer: str, call: HttpCall, before_send: _Hook = None, connect: float = CONNECT_SECONDS
    ) -> RequestProgress:
        """Watch a request. A reply gets its whole time again only while a file moves: a trickle must end some time."""
        return RequestProgress(peer, Countdown(connect, self._timing), self._reply_timeout(call), before_send)

    def _limiter(self, provider: str, lane: Lane) -> anyio.CapacityLimiter:
        return self._limiters.setdefault((provider, lane), anyio.CapacityLimiter(_MAX_CONNECTIONS))

    async def listen(self, provider: str, call: HttpCall, on_event: _OnEvent, key: str | None = None) -> None:
        """Read a stream of server-sent events to its end; `on_event` gets the data of each of them.

        It returns at once where too many streams are open already: the caller must poll now and then anyway.

        Raises:
            Unreachable, ReplyLost: it could not be opened, or broke.
        """
        access = self._access[provider].with_key(key)
        limiter, progress = self._limiter(provider, "stream"), self._new_progress(provider, call)
        destination = (await self._egress.call_destinations(provider, call))[0]

        async def read_events(response: "httpx.Response") -> None:
            if not response.is_success:
                return
            async for line in stream_lines(response.aiter_bytes(), progress.restart_timeout):
                if line.startswith(b"data:"):
                    on_event(access.redact(line[5:]).decode(errors="replace").strip())

        if limiter.available_tokens < 1:
            return
        async with limiter:
            call = replace(call, url=destination.url, headers={**call.headers, **access.headers})
            await self._exchange((provider, "stream"), OutgoingRequest(call, progress), read_events)

    async def download(self, provider: str, url: str, into: Path, limit: int) -> Download:
        """Fetch an output of a provider into a file, without any key.

        Raises:
            OutputLost: it is on a host that is not the provider's, or it cannot be fetched.
            UnsafeSource: the address is not allowed.
            TooLarge: more than `limit` bytes.
        """
        return await self._fetch(provider, url, into, limit)

    async def fetch(self, url: str, into: Path, limit: int) -> Download:
        """Fetch a URL that a user gave, after the guard has checked its address.

        Raises:
            UnsafeSource: the address is not allowed.
            OutputLost: it cannot be fetched.
            TooLarge: more than `limit` bytes.
        """
        return await self._fetch("", url, into, limit)

    async def read_public(self, url: str, max_bytes: int) -> Reply:
        """Read a small document at a public https address, without any key; no redirect is followed.

        Raises:
            UnsafeSource, Unreachable, ReplyLost: its address is not allowed, or it could not be read whole.
        """
        call, destinations = HttpCall("GET", url, _UNCOMPRESSED), await self._egress.public_destinations(url)
        watch, read = partial(self._new_progress, "the host of the document", call), partial(_read_reply, max_bytes)
        async with self._limiter("", "download"):
            return await self._try_destinations(("", "download"), call, destinations, watch, read)

    async def _fetch(self, provider: str, url: str, into: Path, limit: int) -> Download:
        async with self._limiter(provider, "download"):
            try:
                hops = partial(self._follow_redirects, provider, url, into, limit)
                return await Countdown(DOWNLOAD_SECONDS, self._timing).run(hops)
            except TimeoutError:
                raise slow_host_error() from None

    async def _follow_redirects(self, provider: str, url: str, into: Path, limit: int) -> Download:
        if provider:
            self._egress.check_output(provider, url)
        destinations = (
            (Destination(url),)
            if self._egress.is_trusted(provider, url)
            else await self._egress.public_destinations(url)
        )
        for _ in range(MAX_REDIRECTS + 1):
            found = await self._fetch_or_redirect(provider, url, destinations, into, limit)
            if isinstance(found, Download):
                return found
            url = found
            self._egress.check_redirect(provider, url)
            destinations = await self._egress.public_destinations(url)
        raise OutputLost("The file moved too often to be fetched.", hint="Try again later.")

    async def _fetch_or_redirect(
        self, provider: str, url: str, destinations: Sequence[Destination], into: Path, limit: int
    ) -> Download | str:
        """Send one request; returns the file, or the URL that it has moved to."""
        call = HttpCall("GET", url, _UNCOMPRESSED)
        progress: RequestProgress

        def new_progress(connect: float) -> RequestProgress:
            nonlocal progress
            progress = self._new_progress("the host of the file", call, connect=connect)
            return progress

        async def save_response(response: "httpx.Response") -> Download | str:
            if response.is_redirect:
                return resolve_redirect(url, str(response.headers.get("location", "")))
            if not response.is_success:
                raise download_error(response.status_code)
            pieces = require_minimum_speed(response.aiter_raw(CHUNK), self._timing.clock)
            return await save_download(pieces, response.headers, into, limit, progress.restart_timeout)

        return await self._try_destinations((provider, "download"), call, destinations, new_progress, save_response)

    async def _try_destinations(
        self,
        pool: tuple[str, Lane],
        call: HttpCall,
        destinations: Sequence[Destination],
        new_progress: Callable[..., RequestProgress],
        use: _Use[Answer],
    ) -> Answer:
        """Send one request to the first of several destinations that can be reached.

        The next one is tried only after `Unreachable`, which proves that nothing was sent.

        Raises:
            Unreachable: none can be reached; nothing was sent.
        """
        budget = CONNECT_SECONDS if len(destinations) == 1 else _CONNECT_ALL_SECONDS
        for destination, seconds in zip(destinations[:-1], connect_timeouts(budget, len(destinations)), strict=False):
            with suppress(Unreachable):
                return await self._exchange(
                    pool, outgoing_request(call, destination, new_progress(connect=seconds)), use
                )
        left = connect_timeouts(budget, len(destinations))[-1]
        return await self._exchange(pool, outgoing_request(call, destinations[-1], new_progress(connect=left)), use)

    async def _exchange(self, pool: tuple[str, Lane], outgoing: OutgoingRequest, use: _Use[Answer]) -> Answer:
        """Send one request, and use its response within the time that it has."""
        call, progress = outgoing.call, outgoing.progress
        if call.data_uris is not None:
            with map_read_errors():
                outgoing = replace(outgoing, body=await anyio.to_thread.run_sync(data_uri_json, call.data_uris))

        async def work() -> Answer:
            try:
                async with _open_response(self._client(*pool, call.url), outgoing) as response:
                    return await use(response)
            finally:
                await progress.close_unsent()

        with progress:
            return await progress.countdown.run(work)

    def _client(self, provider: str, lane: Lane, url: str) -> "httpx.AsyncClient":
        inside = self._sandbox is not None and self._egress.is_trusted(provider, url)
        proxy = "inside" if inside else self._proxies.proxy_for(url)
        found = self._clients.get((provider, lane, proxy))
        if found is None:
            found = self._clients[provider, lane, proxy] = self._new_client(lane, proxy, inside=inside)
        return found

    def _new_client(self, lane: Lane, proxy: str | None, *, inside: bool) -> "httpx.AsyncClient":
        from http.cookiejar import CookieJar, DefaultCookiePolicy

        import httpx  # noqa: TID251 - this is the one module

        # httpx logs whole URLs, with the signatures in their queries, at INFO.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        transport: httpx.AsyncBaseTransport
        if inside and self._sandbox is not None:
            transport = _in_process_transport(self._sandbox)
        else:
            tls = self._tls = self._tls or _new_tls_context(self._proxies)
            limits = httpx.Limits(
                max_connections=_MAX_CONNECTIONS, max_keepalive_connections=0 if lane in NO_KEEPALIVE else None
            )
            # Only a proxy that is reached over TLS itself may be given certificates.
            own = tls if proxy is not None and proxy.lower().startswith("https:") else None
            through = None if proxy is None else httpx.Proxy(proxy, ssl_context=own)
            transport = httpx.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits, proxy=through)
        # The countdown of each request is its time: httpx's own would count a pause of this process too. No cookie is
        # kept: one that a host has set would go to every other that is dialled by the same address.
        none = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        return httpx.AsyncClient(transport=transport, trust_env=False, timeout=None, cookies=none)  # noqa: S113 - see above


def _in_process_transport(app: AsgiApp) -> "httpx.AsyncBaseTransport":
    """A transport to an app in this process. A request counts as sent once the app has it, as on a connection."""
    import httpx  # noqa: TID251 - this is the one module

    class InProcessTransport(httpx.ASGITransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await request.extensions["trace"]("inside.send_request_headers.started", {})
            return await super().handle_async_request(request)

    return InProcessTransport(app)


def _new_tls_context(proxies: ProxySettings) -> ssl.SSLContext:
    if proxies.certificates or proxies.certificate_folder:
        return ssl.create_default_context(
            cafile=proxies.certificates, capath=None if proxies.certificates else proxies.certificate_folder
        )
    import httpx  # noqa: TID251 - this is the one module

    return httpx.create_ssl_context(trust_env=False)


@asynccontextmanager
async def _open_response(client: "httpx.AsyncClient", outgoing: OutgoingRequest) -> AsyncIterator["httpx.Response"]:
    with ExitStack() as files:
        try:
            with map_read_errors():
                request = _build_request(client, outgoing, files)
        except ValueError as error:
            raise Unreachable("The request cannot be written; nothing was sent.", hint="Check the key.") from error
        response = await client.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()


def _build_request(client: "httpx.AsyncClient", outgoing: OutgoingRequest, files: ExitStack) -> "httpx.Request":
    call = outgoing.call
    content, content_headers = request_content(outgoing)
    form = {
        name: (file, files.enter_context(ProgressFile(path, outgoing.progress.restart_timeout)), kind)
        for name, (file, path, kind) in (call.form or {}).items()
    }
    return client.build_request(
        call.method,
        call.url,
        headers={**call.headers, **content_headers},
        json=call.json,
        content=content,
        files=form or None,
        extensions={"trace": outgoing.progress.on_trace, **outgoing.extensions},
    )


async def _read_reply(max_bytes: int, response: "httpx.Response") -> Reply:
    body = await read_body(response.aiter_bytes(), max_bytes)
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)
