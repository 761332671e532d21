"""The stdio runner: `server/discover` asks a question, and does not decide in which era a connection speaks.

The SDK's own runner takes the very first request for the decision. A client that probes with `server/discover`, waits
a second (Vercel's AI SDK) and then sends `initialize` on the same pipe is refused there with -32022 and gives up.
"""

import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, TypeVar, cast

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.runner import serve_dual_era_loop
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
    ErrorData,
    JSONRPCError,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from rotoscope.contracts.characters import whole_text
from rotoscope.front.opening import request_id_of
from rotoscope.server.lowlevel import lowlevel

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Handover", "serve_stdio"]

_LEADING = 8  # messages before the first request that the SDK's loop takes; it drops the others

Incoming: TypeAlias = SessionMessage | Exception
_Kept: TypeAlias = tuple[Incoming, Context | None]
"""What was read, and the context in which it was: what is known of its arrival."""
_Refuse: TypeAlias = Callable[[Exception], Awaitable[None]]
State = TypeVar("State")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handover:
    """What somebody who spoke on the pipe before the SDK was loaded hands over.

    A front may answer a client's first requests from stored replies. The SDK must still see them, because
    `initialize` sets up its side of the session, and its replies must not be sent a second time. So the front gives
    every line that it has read, also of what it answered, in the order of arrival, and the ids that it answered.
    The reply to each of these ids is dropped once; an id that the client uses again later is answered.

    A front that reads ahead must not lose half a line: it either stops at a line's end or gives a `stdin` that
    begins with the rest, which may as well be fed by a thread that still reads. Streams of one's own are served as
    they are: the SDK diverts file descriptors 0 and 1, so that a stray print does not reach the client, only where
    it opens them itself; who hands over other streams has done that already.

    Attributes:
        lines: JSON-RPC messages as they were read, with or without the line's end.
        answered: ids of requests among them that have their reply.
        stdin: where the following lines come from; None: standard input.
        stdout: where replies go; None: standard output.
    """

    lines: Sequence[str | bytes] = ()
    answered: frozenset[RequestId] = frozenset()
    stdin: AsyncIterable[str] | None = None
    stdout: anyio.AsyncFile[str] | None = None


async def serve_stdio(server: MCPServer[Any], handover: Handover | None = None) -> None:
    """Serve one client until its input ends.

    Args:
        server: what is served; its lifespan is entered once.
        handover: what was read and answered before, if anything.
    """
    given = handover or Handover()
    inner = lowlevel(server)
    stdin = cast("anyio.AsyncFile[str] | None", given.stdin)  # the SDK only takes lines from it
    async with stdio_server(stdin, given.stdout) as (reading, writing), inner.lifespan(inner) as state:
        outgoing = _Outgoing(writing, given.answered)
        incoming = _Relayed([(_message(line), None) for line in given.lines], reading, partial(_refuse, outgoing))
        async with incoming, outgoing:
            opening = await _until_decided(inner, incoming, outgoing, state)
            if opening:
                await serve_dual_era_loop(
                    inner,
                    _Relayed(opening, incoming),
                    outgoing,
                    lifespan_state=state,
                    init_options=inner.create_initialization_options(),
                )


async def _until_decided(
    server: Server[State], incoming: "_Relayed", outgoing: "_Outgoing", state: State
) -> list[_Kept]:
    """Answer what decides nothing. What else came, to the first request that decides; empty when none came.

    Only the first few messages that are no requests are kept: no session would ever see the others.
    """
    kept: list[_Kept] = []
    async for item in incoming:
        request = item.message if isinstance(item, SessionMessage) else None
        if isinstance(item, SessionMessage) and _is_probe(request):
            await outgoing.send(await _answered(server, item, state))
            continue
        decides = isinstance(request, JSONRPCRequest)
        if decides or len(kept) < _LEADING:
            kept.append((item, incoming.last_context))
        if decides:
            return kept
    return []


def _is_probe(message: object) -> bool:
    """Whether it is `server/discover` as the modern era sends it: with the version in its envelope."""
    if not isinstance(message, JSONRPCRequest) or message.method != "server/discover":
        return False
    meta = (message.params or {}).get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta


async def _answered(server: Server[State], probe: SessionMessage, state: State) -> SessionMessage:
    """The reply to a probe, from a connection of its own that ends with it."""
    asking, asked = anyio.create_memory_object_stream[Incoming](1)
    telling, told = anyio.create_memory_object_stream[SessionMessage](1)
    async with asking, told, _serving(server, _Relayed([(probe, None)], asked), telling, state):
        return await told.receive()


@asynccontextmanager
async def _serving(
    server: Server[State], incoming: "_Relayed", outgoing: MemoryObjectSendStream[SessionMessage], state: State
) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve_dual_era_loop(server, incoming, outgoing, lifespan_state=state))
        yield
        tasks.cancel_scope.cancel()


def _message(line: str | bytes) -> Incoming:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValidationError as error:
        return error  # as the SDK's reader does


async def _refuse(outgoing: "_Outgoing", error: Exception) -> None:
    """Answer a request that is none, which the SDK drops in silence: its client would wait for ever."""
    found = _details(error)
    request_id = next((number for number in map(_id_in, found) if number is not None), None)
    if request_id is None:
        _log.warning("a line of the client's was no message, and named no request: it was dropped")
        return
    code = PARSE_ERROR if any(detail["type"] == "json_invalid" for detail in found) else INVALID_REQUEST
    words = "This is no JSON-RPC 2.0 request: send one object in whole UTF-8 characters, as the protocol has it."
    refusal = JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=code, message=words))
    await outgoing.send(SessionMessage(refusal))


def _details(error: Exception) -> "list[ErrorDetails]":
    return error.errors(include_url=False, include_context=False) if isinstance(error, ValidationError) else []


def _id_in(detail: "ErrorDetails") -> RequestId | None:
    """The id of the request that could not be read, where it can be made out."""
    given = detail["input"]
    if isinstance(given, str):
        return request_id_of(given.encode("utf-8", "surrogatepass"))
    found = given.get("id") if isinstance(given, dict) and "method" in given else None
    if isinstance(found, str):
        return found if whole_text(found) == found else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


class _Reading(Protocol):
    async def receive(self) -> Incoming: ...
    async def aclose(self) -> None: ...


class _Writing(Protocol):
    async def send(self, item: SessionMessage, /) -> None: ...
    async def aclose(self) -> None: ...


class _Relayed:
    """A stream to read from: first what was kept, then what still comes; without what is refused here, if anything."""

    def __init__(self, kept: Sequence[_Kept], rest: _Reading, refuse: _Refuse | None = None) -> None:
        self._kept = list(reversed(kept))
        self._rest = rest
        self._refuse = refuse
        self.last_context: Context | None = None

    async def receive(self) -> Incoming:
        while isinstance(item := await self._next(), Exception) and self._refuse is not None:
            await self._refuse(item)
        return item

    async def _next(self) -> Incoming:
        if self._kept:
            item, self.last_context = self._kept.pop()
            return item
        item = await self._rest.receive()
        self.last_context = getattr(self._rest, "last_context", None)
        return item

    async def aclose(self) -> None:
        await self._rest.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Incoming:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Outgoing:
    """A stream to write to that drops the replies which the client has already."""

    def __init__(self, writing: _Writing, answered: frozenset[RequestId]) -> None:
        self._writing = writing
        self._answered = set(answered)

    async def send(self, item: SessionMessage) -> None:
        message = item.message
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id in self._answered:
            self._answered.discard(message.id)
            return
        await self._writing.send(item)

    async def aclose(self) -> None:
        await self._writing.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
