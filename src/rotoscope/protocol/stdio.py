"""The stdio runner: `server/discover` asks a question, and does not decide in which era a connection speaks.

The SDK's own runner takes the very first request for the decision. A client that probes with `server/discover`, waits
a second (Vercel's AI SDK) and then sends `initialize` on the same pipe is refused there with -32022 and gives up.
"""

import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.runner import serve_dual_era_loop
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import (
    PROTOCOL_VERSION_META_KEY,
    JSONRPCError,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from rotoscope.protocol.in_flight import BatchReplies, IncomingMessage, RequestQueue
from rotoscope.protocol.incoming import Batch, ErrorReply, Message, parse_line
from rotoscope.protocol.lowlevel import lowlevel_server
from rotoscope.protocol.requests import shorten_error

__all__ = ["Handover", "LineSink", "serve_stdio"]

_MAX_LEADING = 8  # messages before the first request that the SDK's loop takes; it drops the others

Incoming: TypeAlias = SessionMessage | Exception
_ReadItem: TypeAlias = tuple[Incoming, Context | None]
"""What was read, and the context in which it was: what is known of its arrival."""
State = TypeVar("State")


class LineSink(Protocol):
    """Where whole lines are written."""

    async def write(self, text: str, /) -> object:
        """Write a line."""
        ...

    async def flush(self) -> object:
        """See to it that it is sent."""
        ...


@dataclass(frozen=True, slots=True)
class Handover:
    """What somebody who spoke on the pipe before the SDK was loaded hands over.

    A fast start may answer a client's first requests from stored replies. The SDK must still see them, because
    `initialize` sets up its side of the session, and its replies must not be sent a second time. So the fast start
    gives every line that it has read, also of what it answered, in the order of arrival, and the ids that it answered.
    The reply to each of these ids is dropped once; an id that the client uses again later is answered.

    A fast start that reads ahead must not lose half a line: it either stops at a line's end or gives a `stdin` that
    begins with the rest, which may as well be fed by a thread that still reads. Streams of one's own are served as
    they are: the SDK diverts file descriptors 0 and 1, so that a stray print does not reach the client, only where
    it opens them itself; who hands over other streams has done that already.

    Attributes:
        lines: JSON-RPC messages as they were read, with or without the line's end.
        answered_ids: ids of requests among them that have their reply.
        stdin: where the following lines come from; None: standard input.
        stdout: where replies go; None: standard output.
    """

    lines: Sequence[str | bytes] = ()
    answered_ids: frozenset[RequestId] = frozenset()
    stdin: AsyncIterable[str | bytes] | None = None
    stdout: LineSink | None = None


async def serve_stdio(server: MCPServer[Any], handover: Handover | None = None) -> None:
    """Serve one client until its input ends.

    Args:
        server: what is served; its lifespan is entered once.
        handover: what was read and answered before, if anything.
    """
    given = handover or Handover()
    inner = lowlevel_server(server)
    async with (
        _open_streams(given) as (lines, writing),
        inner.lifespan(inner) as state,
        anyio.create_task_group() as tasks,
    ):
        flights = RequestQueue()
        outgoing = _ReplyStream(writing, given.answered_ids, flights)
        incoming = _ReplayStream((), _QueueStream(flights))
        tasks.start_soon(_LineReader(flights, outgoing).read, given.lines, lines)
        async with outgoing:
            opening = await _answer_probes(inner, incoming, outgoing, state)
            if opening:
                await serve_dual_era_loop(
                    inner,
                    _ReplayStream(opening, incoming),
                    outgoing,
                    lifespan_state=state,
                    init_options=inner.create_initialization_options(),
                )
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _open_streams(given: Handover) -> AsyncIterator[tuple[AsyncIterable[str | bytes], LineSink]]:
    """The streams that were given; else the standard ones, which the SDK sets aside from stray prints."""
    if given.stdin is not None and given.stdout is not None:
        yield given.stdin, given.stdout
        return
    # The SDK goes on until both of its streams are closed here.
    async with stdio_server() as (reading, writing), reading, writing:

        async def lines() -> AsyncIterator[str]:
            async for item in reading:
                yield _original_line(item)

        yield lines(), _SdkSink(writing.send)


@dataclass(frozen=True, slots=True)
class _SdkSink:
    """The SDK's way out, which takes messages: of a batch one after the other, and no id that it does not know."""

    send: Callable[[SessionMessage], Awaitable[None]]

    async def write(self, text: str, /) -> None:
        found = json.loads(text)
        for message in found if isinstance(found, list) else [found]:
            if isinstance(message.get("id"), float):
                message["id"] = None
            await self.send(SessionMessage(jsonrpc_message_adapter.validate_python(message, by_name=False)))

    async def flush(self) -> None:
        """Every line is written through."""


def _original_line(item: Incoming) -> str:
    """The line that the SDK has read, again: it keeps what it could not read only inside its error."""
    if isinstance(item, SessionMessage):
        return item.message.model_dump_json(by_alias=True, exclude_unset=True)
    details = item.errors(include_url=False, include_context=False) if isinstance(item, ValidationError) else []
    if any(detail["type"] == "json_invalid" for detail in details):
        return str(details[0]["input"])
    whole = next((detail["input"] for detail in details if detail["type"] in ("missing", "model_type")), "")
    return json.dumps(whole)


async def _answer_probes(
    server: Server[State], incoming: "_ReplayStream", outgoing: "_ReplyStream", state: State
) -> list[_ReadItem]:
    """Answer what decides nothing. What else came, to the first request that decides; empty when none came.

    Only the first few messages that are no requests are kept: no session would ever see the others.
    """
    kept: list[_ReadItem] = []
    async for item in incoming:
        request = item.message if isinstance(item, SessionMessage) else None
        if isinstance(item, SessionMessage) and _is_probe(request):
            await outgoing.send(await _answer_probe(server, item, state))
            continue
        decides = isinstance(request, JSONRPCRequest)
        if decides or len(kept) < _MAX_LEADING:
            kept.append((item, incoming.last_context))
        if decides:
            return kept
    return []


def _is_probe(message: object) -> bool:
    """Whether it is `server/discover` as the modern era sends it: with the version in its envelope."""
    return isinstance(message, JSONRPCRequest) and message.method == "server/discover" and _has_envelope(message)


def _has_envelope(request: JSONRPCRequest) -> bool:
    meta = (request.params or {}).get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta


async def _answer_probe(server: Server[State], probe: SessionMessage, state: State) -> SessionMessage:
    """The reply to a probe, from a connection of its own that ends with it."""
    asking, asked = anyio.create_memory_object_stream[Incoming](1)
    reply_send, reply_receive = anyio.create_memory_object_stream[SessionMessage](1)
    async with (
        asking,
        reply_receive,
        _run_probe_loop(server, _ReplayStream([(probe, None)], asked), reply_send, state),
    ):
        return await reply_receive.receive()


@asynccontextmanager
async def _run_probe_loop(
    server: Server[State], incoming: "_ReplayStream", outgoing: MemoryObjectSendStream[SessionMessage], state: State
) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve_dual_era_loop(server, incoming, outgoing, lifespan_state=state))
        yield
        tasks.cancel_scope.cancel()


class _MessageSource(Protocol):
    async def receive(self) -> Incoming: ...
    async def aclose(self) -> None: ...


class _LineReader:
    """Reads the lines of a client, answers those that are no messages, and has the others served."""

    def __init__(self, flights: RequestQueue, outgoing: "_ReplyStream") -> None:
        self._queue = flights
        self._outgoing = outgoing
        self._revision: str | None = None  # as `initialize` asks for it; empty where there is none

    async def read(self, before: Sequence[str | bytes], lines: AsyncIterable[str | bytes]) -> None:
        """Read until the input ends: first what was read before, then what still comes."""
        with suppress(anyio.ClosedResourceError):  # the session has ended, and nobody is answered any more
            for line in before:
                await self._handle_line(line)
            async for line in lines:
                await self._handle_line(line)
        self._queue.close()

    async def _handle_line(self, line: str | bytes) -> None:
        await self._queue.wait_for_space()
        understood = parse_line(line, self._revision or "")
        if isinstance(understood, ErrorReply):
            await self._outgoing.write_line(understood.to_line())
        elif isinstance(understood, Batch):
            await self._queue_batch(understood, len(line))
        elif understood is not None:
            await self._outgoing.count_reply(self._queue_message(understood, len(line)))

    async def _queue_batch(self, batch: Batch, size: int) -> None:
        asked = sum(isinstance(part, JSONRPCRequest) for part in batch.parts)
        refused = [part.to_line() for part in batch.parts if isinstance(part, ErrorReply)]
        answers = BatchReplies(asked + 1, refused)  # one more, lest it be written before its last part is read
        for part in batch.parts:
            if not isinstance(part, ErrorReply):
                await self._outgoing.count_reply(self._queue_message(part, size // len(batch.parts), answers))
        await self._outgoing.count_reply(answers)

    def _queue_message(self, message: Message, size: int, batch: BatchReplies | None = None) -> BatchReplies | None:
        if isinstance(message, JSONRPCRequest):
            self._note_revision(message)
        return self._queue.put(IncomingMessage(SessionMessage(message), copy_context(), size, batch))

    def _note_revision(self, request: JSONRPCRequest) -> None:
        """The first request but a probe decides the era; a handshake names the revision."""
        if self._revision is None and not _is_probe(request):
            if request.method == "initialize":
                self._revision = str((request.params or {}).get("protocolVersion"))
            elif _has_envelope(request):
                self._revision = ""


class _QueueStream:
    """What there is to serve, as a stream to read from."""

    def __init__(self, flights: RequestQueue) -> None:
        self._queue = flights
        self.last_context: Context | None = None

    async def receive(self) -> SessionMessage:
        arrived = await self._queue.take()
        self.last_context = arrived.context
        return arrived.message

    async def aclose(self) -> None:
        """Nothing is open."""


class _ReplayStream:
    """A stream to read from: first what was kept, then what still comes."""

    def __init__(self, kept: Sequence[_ReadItem], rest: _MessageSource) -> None:
        self._items = list(reversed(kept))
        self._rest = rest
        self.last_context: Context | None = None

    async def receive(self) -> Incoming:
        if self._items:
            item, self.last_context = self._items.pop()
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


class _ReplyStream:
    """A stream to write to that drops the replies which the client has already, and gathers those of a batch."""

    def __init__(self, sink: LineSink, answered_ids: frozenset[RequestId], flights: RequestQueue) -> None:
        self._sink = sink
        self._answered_ids = set(answered_ids)
        self._queue = flights
        self._write_lock = anyio.Lock()
        self._closed = False

    async def send(self, item: SessionMessage) -> None:
        message = item.message
        batch = None
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            batch = self._queue.finish_request(message.id)
            if message.id in self._answered_ids:
                self._answered_ids.discard(message.id)
                return
        if isinstance(message, JSONRPCError):
            message = message.model_copy(update={"error": shorten_error(message.error)})
        written = message.model_dump_json(by_alias=True, exclude_unset=True)
        if batch is None:
            await self.write_line(written)
        else:
            batch.lines.append(written)
            await self.count_reply(batch)

    async def count_reply(self, batch: BatchReplies | None) -> None:
        """One answer less is missing in a batch; the last one sends all of them."""
        if batch is None:
            return
        batch.missing_count -= 1
        if not batch.missing_count and batch.lines:
            await self.write_line(f"[{','.join(line.strip() for line in batch.lines)}]")

    async def write_line(self, line: str) -> None:
        """Write one line.

        Raises:
            anyio.ClosedResourceError: the session has ended.
        """
        async with self._write_lock:
            if self._closed:
                raise anyio.ClosedResourceError
            await self._sink.write(line.rstrip("\n") + "\n")
            await self._sink.flush()

    async def aclose(self) -> None:
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
