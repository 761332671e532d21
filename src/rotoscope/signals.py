"""The signals that ask a process to end: HUP (its terminal was closed), INT and TERM.

Whoever pays must not be torn apart: Python's own answer to SIGINT raises in the middle of whatever runs, asyncio's does
so at the second one, and TERM and HUP end the process where it stands. Here the first signal cancels the work, which
ends in order: a paying request that is out is finished, because the engine shields it, and leases are given back. All
later ones change nothing. A process that does not even get so far is for KILL.
"""

import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    import anyio

__all__ = [
    "Interrupted",
    "closing_stack",
    "exit_at_signal",
    "handle_signals",
    "ignore_late_signals",
    "restore_handlers",
    "run_until_second_signal",
    "run_until_signal",
    "signal_exit_code",
]

Answer = TypeVar("Answer")
Given = TypeVarTuple("Given")
SignalCallback = Callable[[int], None]
Handler = Callable[[int, FrameType | None], Any] | int | None

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name))
_STILL_ENDING = b"rotoscope: still ending: what may have been paid for is finished first.\n"
_STDERR = 2
_CLOSING_SECONDS = 10.0


class Interrupted(Exception):
    """A signal has ended the work, in order.

    Attributes:
        exit_code: the exit code by which a shell knows it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = signal_exit_code(number)


def signal_exit_code(number: int) -> int:
    """The exit code of a command that a signal has ended: 129 for HUP, 130 for INT, 143 for TERM."""
    return 128 + number


def handle_signals(on_signal: SignalCallback) -> Mapping[int, Handler]:
    """Call a function for each of these signals from now on, in the main thread between two instructions.

    One that the parent process has switched off (`nohup`) stays so. Outside of the main thread nothing is done.

    Returns:
        How they were handled before, for `restore_handlers`.
    """
    former: dict[int, Handler] = {}
    if threading.current_thread() is not threading.main_thread():
        return former
    for number in _SIGNALS:
        if (known := signal.getsignal(number)) is not signal.SIG_IGN:
            former[number] = known
            signal.signal(number, lambda number, _: on_signal(number))
    return former


def restore_handlers(former: Mapping[int, Handler]) -> None:
    """Handle the signals as before; None stands for a handler that was not Python's."""
    for number, handler in former.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def ignore_late_signals() -> None:
    """Ignore them from now on: the process is ending already, and a traceback would only confuse."""
    handle_signals(lambda _: None)


def exit_at_signal(number: int) -> None:
    """End the command where it stands: for `handle_signals` while nothing runs yet that must end in order."""
    raise SystemExit(signal_exit_code(number))


def run_until_signal(work: Callable[[*Given], Awaitable[Answer]], *given: *Given) -> Answer:
    """Run work in an event loop of its own to its end, or until the first of these signals, which cancels it.

    Raises:
        Interrupted: it was cancelled, and has ended in order.
    """
    return _run_with_signals(lambda _: work(*given), cancels_at=1)


def run_until_second_signal(work: Callable[["anyio.Event"], Awaitable[Answer]]) -> Answer:
    """Run work in an event loop of its own to its end. The first signal sets its event; the second cancels it.

    Raises:
        Interrupted: it was cancelled, and has ended in order.
    """
    return _run_with_signals(work, cancels_at=2)


def _run_with_signals(work: Callable[["anyio.Event"], Awaitable[Answer]], cancels_at: int) -> Answer:
    """Run work in an event loop of its own; signals set its event, until the one of this number, which cancels it."""
    import asyncio

    import anyio

    received: list[int] = []

    async def run_until_cancelled() -> Answer:
        loop, scope, asked = asyncio.get_running_loop(), anyio.CancelScope(), anyio.Event()

        def take_signal(number: int) -> None:
            received.append(number)
            if len(received) <= cancels_at:
                loop.call_soon_threadsafe(scope.cancel if len(received) == cancels_at else asked.set)
            else:
                _print_still_ending()

        former = handle_signals(take_signal)
        try:
            with scope:
                return await work(asked)
        finally:
            restore_handlers(former)
        raise Interrupted(received[0])

    return anyio.run(run_until_cancelled)


@contextlib.asynccontextmanager
async def closing_stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    """A stack of what must be closed at the end, also when the work was cancelled: within some seconds."""
    import anyio

    stack = contextlib.AsyncExitStack()
    try:
        yield stack
    finally:
        with anyio.move_on_after(_CLOSING_SECONDS, shield=True):
            await stack.aclose()


def _print_still_ending() -> None:
    """Tell a person why nothing seems to happen. Not through `sys.stderr`: it may be in the middle of a line."""
    with contextlib.suppress(OSError):  # the terminal may be gone: that is what HUP says
        if os.isatty(_STDERR):
            os.write(_STDERR, _STILL_ENDING)
