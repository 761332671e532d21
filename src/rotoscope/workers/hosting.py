"""The app's side: builds the app and serves the connections that its parent opens, until the parent ends."""

import asyncio
import os
import pickle
import threading
import traceback
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO

from rotoscope.workers.limits import limit_process
from rotoscope.workers.messages import read_frame, write_frame
from rotoscope.workers.serving import detach_stream, end_with_parent, ignore_signals

__all__ = ["host_app"]

_EXIT_SECONDS = 3.0  # for connections to end after the parent has closed the pipe
Message = MutableMapping[str, Any]


def host_app(module: str, function: str, parent: int) -> None:
    """Serve an app over stdin and stdout.

    Args:
        module: where the function is that builds the app; the first message has its arguments.
        function: the name of the function.
        parent: as for `serving.serve_work`.
    """
    ignore_signals()
    requests, answers = detach_stream(0, os.O_RDONLY, "rb"), detach_stream(1, os.O_WRONLY, "wb")
    limit_process()
    given = pickle.loads(read_frame(requests) or pickle.dumps({}))  # noqa: S301 - from the parent, which is trusted
    asyncio.run(
        _serve_connections(_App(lambda: getattr(import_module(module), function)(**given), answers), requests, parent)
    )


async def _serve_connections(app: "_App", requests: BinaryIO, parent: int) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read_messages() -> None:
        end_with_parent(parent)
        while (content := read_frame(requests)) is not None:
            loop.call_soon_threadsafe(app.handle_message, *pickle.loads(content))  # noqa: S301 - from the parent, which is trusted
        loop.call_soon_threadsafe(ended.set)
        last = threading.Timer(_EXIT_SECONDS, os._exit, [0])  # even if something still computes
        last.daemon = True
        last.start()

    threading.Thread(target=read_messages, name="requests", daemon=True).start()
    await ended.wait()
    app.cancel_connections()


class _Connection:
    """The two callables that an ASGI app is given for one connection: `receive` and `send`."""

    def __init__(self, notify_parent: Callable[[str, object], None]) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.confirmations: asyncio.Queue[None] = asyncio.Queue()
        self._notify_parent = notify_parent
        self._has_requested = False
        self._reading, self._writing = asyncio.Lock(), asyncio.Lock()

    async def receive(self) -> Message:
        """The next message; if this call is cancelled, the next call returns it."""
        async with self._reading:
            if not self._has_requested:
                self._has_requested = True
                self._notify_parent("receive", None)
            message = await self.messages.get()
            self._has_requested = False
            return message

    async def send(self, message: Message) -> None:
        """Send a message, and wait until the client has received it."""
        async with self._writing:
            self._notify_parent("send", dict(message))
            await self.confirmations.get()


class _App:
    """An app, built at its first connection, and the connections that are open."""

    def __init__(self, build: Callable[[], Any], answers: BinaryIO) -> None:
        self._build = build
        self._answers = answers
        self._app: Any = None
        self._open: dict[int, tuple[_Connection, asyncio.Task[None]]] = {}

    def handle_message(self, kind: str, number: int, value: Any) -> None:
        """Handle a message of the parent; called in the event loop."""
        if kind == "open":
            connection = _Connection(lambda name, content: self._send_to_parent(name, number, content))
            self._open[number] = connection, asyncio.create_task(self._run_connection(number, value, connection))
        elif number in self._open:
            connection, task = self._open[number]
            match kind:
                case "message":
                    connection.messages.put_nowait(value)
                case "sent":
                    connection.confirmations.put_nowait(None)
                case _:
                    task.cancel()

    def cancel_connections(self) -> None:
        """Cancel every connection."""
        for _, task in self._open.values():
            task.cancel()

    async def _run_connection(self, number: int, scope: Message, connection: _Connection) -> None:
        failure: tuple[str, str] | None = None
        try:
            if self._app is None:
                self._app = self._build()
            await self._app(scope, connection.receive, connection.send)
        except OSError as error:
            failure = "OSError", str(error)
        except Exception as error:  # noqa: BLE001 - the edge of the process: the parent gets the traceback
            failure = "broken", "".join(traceback.format_exception(error))
        finally:
            del self._open[number]
        self._send_to_parent("done", number, failure)

    def _send_to_parent(self, kind: str, number: int, value: object) -> None:
        with suppress(OSError):  # the parent has ended, and this process will, too
            write_frame(self._answers, pickle.dumps((kind, number, value)))
