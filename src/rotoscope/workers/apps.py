"""An ASGI app in a process of its own, connected by pipes: what it loads and computes does not slow this process down.

Each message has the number of its connection. The parent sends `open` and `cancel`; the app's process sends `receive`,
which the parent answers with a `message`, `send`, which the parent answers with `sent`, and `done`. So neither side is
ever more than one message ahead of the other.
"""

import asyncio
import itertools
import pickle
import subprocess
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, cast

import anyio
import anyio.to_thread

from rotoscope.workers.messages import load_plain_pickle, read_frame, write_frame
from rotoscope.workers.process import start_python, worker_environment

__all__ = ["AppEnded", "AppProcess"]

_ENDING_SECONDS = 5.0  # for the app to end by itself once its stdin is closed

_ENDED_FAILURE = ("ended", "its process has ended")

Message = MutableMapping[str, Any]
_InboxItem = tuple[str, object]


class AppEnded(Exception):
    """The app's process has ended, or the app raised an exception; the text is the traceback."""


class AppProcess:
    """An ASGI app that is built in its own process at its first request, and again if that process has ended.

    Args:
        environ: the environment of this process; the app gets a few harmless variables of it.
        module: where the function is that builds the app.
        function: the name of the function.
        arguments: its arguments by name: plain values and paths.
    """

    def __init__(self, environ: Mapping[str, str], module: str, function: str, arguments: Mapping[str, object]) -> None:
        self._environ = worker_environment(environ)
        self._builder = (module, function, dict(arguments))
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._inboxes: dict[int, asyncio.Queue[_InboxItem]] = {}
        self._writing = anyio.CapacityLimiter(1)

    @property
    def pid(self) -> int | None:
        """The id of its process; None while none runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request.

        Raises:
            OSError: the app raised one.
            AppEnded: the app raised something else, or its process ended.
        """
        if self.pid is None:
            self._start_process()
        number, inbox = next(self._numbers), asyncio.Queue[_InboxItem]()
        self._inboxes[number] = inbox
        try:
            async with anyio.create_task_group() as tasks:
                await self._send_to_app("open", number, dict(scope))
                fetch = partial(tasks.start_soon, self._forward_to_app, number, receive)
                failure = await self._relay_until_done(number, inbox, fetch, send)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._send_to_app("cancel", number, None)
            del self._inboxes[number]
        _raise_failure(failure)

    async def _relay_until_done(
        self,
        number: int,
        inbox: "asyncio.Queue[_InboxItem]",
        fetch: Callable[[], object],
        send: Callable[[Message], Awaitable[None]],
    ) -> object:
        """Relay the app's messages to its caller until it is done. Returns what went wrong, or None."""
        while True:
            kind, value = await inbox.get()
            match kind:
                case "receive":
                    fetch()
                case "send":
                    try:
                        await send(cast("Message", value))
                    except Exception as error:  # noqa: BLE001 - the caller's own exception, which is raised to it again
                        return error
                    await self._send_to_app("sent", number, None)
                case _:
                    return value

    async def aclose(self) -> None:
        """End the app's process; requests that are open fail."""
        if self._process is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_stop_process, self._process, limiter=self._writing)

    def _start_process(self) -> None:
        process = start_python("rotoscope.workers.hosting", "host_app", self._builder[:2], self._environ)
        self._process = process
        with suppress(OSError):  # it has ended already, which reading will show
            write_frame(cast("BinaryIO", process.stdin), pickle.dumps(self._builder[2]))
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read_messages, args=(process, loop), name="app", daemon=True).start()

    def _read_messages(self, process: "subprocess.Popen[bytes]", loop: asyncio.AbstractEventLoop) -> None:
        stream = cast("BinaryIO", process.stdout)
        with suppress(RuntimeError, ValueError):  # the event loop has ended, or a message cannot be read
            while (content := read_frame(stream)) is not None:
                kind, number, value = cast("tuple[str, int, Any]", load_plain_pickle(content))
                loop.call_soon_threadsafe(self._put_in_inbox, kind, number, value)
        process.kill()
        process.wait()
        for pipe in (stream, cast("BinaryIO", process.stdin)):
            with suppress(OSError):
                pipe.close()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._end_connections)

    def _put_in_inbox(self, kind: str, number: int, value: object) -> None:
        if number in self._inboxes:
            self._inboxes[number].put_nowait((kind, value))

    def _end_connections(self) -> None:
        for inbox in self._inboxes.values():
            inbox.put_nowait(("done", _ENDED_FAILURE))

    async def _forward_to_app(self, number: int, receive: Callable[[], Awaitable[Message]]) -> None:
        try:
            message = dict(await receive())
        except Exception as error:  # noqa: BLE001 - the caller's own exception, which is raised to it again
            self._put_in_inbox("done", number, error)
            return
        await self._send_to_app("message", number, message)

    async def _send_to_app(self, kind: str, number: int, value: object) -> None:
        assert self._process is not None
        stream, content = cast("BinaryIO", self._process.stdin), pickle.dumps((kind, number, value))
        try:
            await anyio.to_thread.run_sync(write_frame, stream, content, limiter=self._writing)
        except (OSError, ValueError):  # the process has ended, or its pipe was closed
            self._put_in_inbox("done", number, _ENDED_FAILURE)


def _raise_failure(failure: object) -> None:
    match failure:
        case None:
            return
        case Exception():
            raise failure
        case "OSError", str(text):
            raise OSError(text)
        case _:
            raise AppEnded(str(failure))


def _stop_process(process: "subprocess.Popen[bytes]") -> None:
    with suppress(OSError):
        cast("BinaryIO", process.stdin).close()
    try:
        process.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
