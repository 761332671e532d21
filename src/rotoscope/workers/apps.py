"""An ASGI app in a process of its own, spoken to over pipes: what it loads and computes weighs on nobody else.

Its parent says `open` and `cancel`; the app's process says `receive`, which is answered by a `message`, `send`, which
is answered by `sent`, and `done`; each with the number of the connection. So neither side is ever far ahead of the
other.
"""

import asyncio
import itertools
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, cast

import anyio
import anyio.to_thread

from rotoscope.workers.messages import load_plain_pickle, read_frame, write_frame
from rotoscope.workers.process import worker_environment

__all__ = ["AppEnded", "AppProcess"]

_START = "import sys; sys.path[:] = {path!r}; from rotoscope.workers.hosting import host_app; host_app{arguments!r}"
_ENDING_SECONDS = 5.0

_ENDED_FAILURE = ("ended", "its process has ended")

Message = MutableMapping[str, Any]
_InboxItem = tuple[str, object]


class AppEnded(Exception):
    """The app's process has ended, or failed with what is none of its answers; the text is its traceback."""


class AppProcess:
    """An ASGI app that is built in its own process at its first request, and again if that process has ended.

    Args:
        environ: the environment of this process; the app sees next to nothing of it.
        module: where the function is that builds the app.
        function: its name.
        arguments: for it, by name: plain values and paths.
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
        """The number of its process, if it runs."""
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
            AppEnded: it raised something else, or its process ended.
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
        """Carry what the app says to its caller until it is done; what went wrong, None for nothing."""
        while True:
            kind, value = await inbox.get()
            match kind:
                case "receive":
                    fetch()
                case "send":
                    try:
                        await send(cast("Message", value))
                    except Exception as error:  # noqa: BLE001 - the caller's own, which it gets back as it is
                        return error
                    await self._send_to_app("sent", number, None)
                case _:
                    return value

    async def aclose(self) -> None:
        """End the app: what it computes is left for others."""
        if self._process is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_stop_process, self._process, limiter=self._writing)

    def _start_process(self) -> None:
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        code = _START.format(path=sys.path, arguments=(*self._builder[:2], parent))
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, and a text of ours
            [sys.executable, "-P", "-s", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environ,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._process = process
        with suppress(OSError):  # it is gone already, which its silence says
            write_frame(cast("BinaryIO", process.stdin), pickle.dumps(self._builder[2]))
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read_messages, args=(process, loop), name="app", daemon=True).start()

    def _read_messages(self, process: "subprocess.Popen[bytes]", loop: asyncio.AbstractEventLoop) -> None:
        stream = cast("BinaryIO", process.stdout)
        with suppress(RuntimeError, ValueError):  # the loop has ended, and nobody waits; or it speaks nonsense
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
        except Exception as error:  # noqa: BLE001 - the caller's own, which it gets back as it is
            self._put_in_inbox("done", number, error)
            return
        await self._send_to_app("message", number, message)

    async def _send_to_app(self, kind: str, number: int, value: object) -> None:
        assert self._process is not None
        stream, content = cast("BinaryIO", self._process.stdin), pickle.dumps((kind, number, value))
        try:
            await anyio.to_thread.run_sync(write_frame, stream, content, limiter=self._writing)
        except (OSError, ValueError):  # it is gone, or was closed
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
