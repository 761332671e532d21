"""One stdio session: a thread reads and answers the first requests while the main thread loads the server.

One lock guards the state of the session, which is either "opening" (this thread answers) or "handed over" (the server
does). The thread goes on reading for the server after the handover, so no byte is lost, not even of a line that has
only half arrived. It stops reading while a client has sent very much before the handover, and while very much that was
written to the client is not read.

Another thread writes: a client that does not read delays neither the handover nor the end.
"""

import fcntl
import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from rotoscope.protocol.fast_start.cached_replies import CachedReplies
from rotoscope.protocol.fast_start.handshake import Handshake
from rotoscope.protocol.fast_start.writer import Writer
from rotoscope.protocol.lines import LONGEST_LINE, LongLine, RequestId, error_line, read_lines, read_outline
from rotoscope.signals import handle_signals, signal_exit_code

__all__ = ["LoadServer", "ServeSession", "Session", "claim_stdio", "exit_code", "serve_process"]

_EXIT_OK, _EXIT_FAILED, _EXIT_BAD_INPUT = 0, 1, 2
_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603
_DRAIN_SECONDS = 3.0  # in which a client may still take what was written before the end
_CHECK_SECONDS = 0.5  # between two looks whether a client that is not read has gone
_HANGUP_EVENTS = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
_CHUNK_BYTES = 65_536
_SWITCH_SECONDS = 0.0005
_LOWEST_DESCRIPTOR = 3


class Session:
    """The state of a session, its reading thread and its writer.

    Attributes:
        writer: writes the lines that are put into it, in order.
        arrival_times: when each line that waits for the server came in, in seconds of the monotonic clock.
    """

    def __init__(self, handshake: Handshake, source: int, sink: int) -> None:
        self._handshake = handshake
        self._source = source
        self.writer = Writer(sink)
        self.arrival_times: list[float] = []
        self._lock = threading.Lock()
        self._deliver: Callable[[bytes | None], None] | None = None
        self._build_refusal: Callable[[RequestId], bytes] | None = None
        self._takeover = threading.Event()  # somebody else than the opening takes the lines
        self._reader = threading.Thread(target=self._read_input, name="stdin", daemon=True)

    def start(self) -> None:
        """Start to read and to answer."""
        self.writer.set_listener(self._check_writer)
        self._reader.start()

    def hand_over(self, deliver: Callable[[bytes | None], None]) -> tuple[list[bytes], set[int | str]]:
        """End the opening: from now on the server answers.

        Args:
            deliver: is given every later line in the reading thread, and None at the end of input.

        Returns:
            The lines that were kept, in order, and the ids of requests among them that were answered already.
        """
        with self._lock:
            self._deliver = deliver
            self._takeover.set()
            return self._handshake.pending_lines, self._handshake.answered_ids

    def refuse(self, refusal: Callable[[RequestId], bytes], code: int) -> int:
        """Answer what waits, and every later request until the input ends, with an error; returns the code."""
        with self._lock:
            self._build_refusal = refusal
            self._takeover.set()
            for line in self._handshake.pending_lines:
                self._refuse_line(line)
        self._reader.join()
        return self.end(code)

    def end(self, code: int) -> int:
        """Give the client some seconds to take what was written; returns the code."""
        self.writer.drain(_DRAIN_SECONDS)
        return code

    def check_connected(self) -> None:
        """Make sure that the client still has its end, also while there is something left to read.

        Raises:
            OSError: it has not.
        """
        poll = select.poll()
        poll.register(self._source, _HANGUP_EVENTS)
        if any(events & _HANGUP_EVENTS for _, events in poll.poll(0)):
            raise BrokenPipeError

    def _check_writer(self) -> None:
        """Whoever takes no reply in the opening has gone."""
        if self.writer.is_broken:
            with self._lock:
                opening = self._deliver is None and self._build_refusal is None
            if opening:
                _exit_now(_EXIT_OK)

    def _read_input(self) -> None:
        try:
            for line in read_lines(partial(os.read, self._source, _CHUNK_BYTES)):
                self._wait_for_client()
                if isinstance(line, LongLine):
                    self._refuse_long_line(line)
                else:
                    self._handle_line(line)
        except OSError:
            pass  # the client is gone: the input has ended
        with self._lock:
            deliver, opening = self._deliver, self._deliver is None and self._build_refusal is None
        if deliver is not None:
            deliver(None)
        elif opening:
            _exit_now(self.end(_EXIT_OK))

    def _refuse_long_line(self, line: LongLine) -> None:
        """Whoever answers now would say the same: nobody has the line."""
        if line.outline.is_answer_expected:
            words = f"The line is longer than {LONGEST_LINE >> 20} MiB. Give large media by path or https URL."
            self.writer.put(error_line(line.outline.request_id, _INVALID_REQUEST, words))

    def _handle_line(self, line: bytes) -> None:
        with self._lock:
            deliver = self._deliver
            if deliver is None and self._build_refusal is not None:
                self._refuse_line(line)
            elif deliver is None:
                reply = self._handshake.answer_line(line)
                self.arrival_times += [time.monotonic()] * (
                    len(self._handshake.pending_lines) - len(self.arrival_times)
                )
                if reply is not None:
                    self.writer.put(reply)
        if deliver is not None:
            # Outside the lock: it may wait until the server has read what it was given.
            deliver(line)

    def _refuse_line(self, line: bytes) -> None:
        outline = read_outline(line)
        if self._build_refusal is not None and outline is not None and outline.is_answer_expected:
            request_id = outline.request_id
            if request_id not in self._handshake.answered_ids:
                self.writer.put(self._build_refusal(request_id))

    def _wait_for_client(self) -> None:
        """Read no further while very much is kept or unwritten, unless the client goes away.

        Raises:
            OSError: it has gone: it takes no reply, and nothing that it sends after this is of use.
        """
        while self._handshake.is_full and not self._takeover.wait(_CHECK_SECONDS):
            self.check_connected()
        while not self.writer.wait_for_space(_CHECK_SECONDS):
            self.check_connected()


ServeSession = Callable[[Session], int]
"""Takes a session over and serves it to its end; returns the exit code."""
LoadServer = Callable[[], ServeSession]
"""Loads the server."""


def serve_process(replies: CachedReplies | None, load: LoadServer) -> int:
    """Serve one session over stdin and stdout; returns the exit code.

    Args:
        replies: the stored replies; None leaves every request to the server.
        load: imports and builds the server. When it fails, every request is answered with the error, and stderr gets
            it once.
    """
    handle_signals(lambda number: _exit_now(exit_code(number)))
    try:
        session = Session(Handshake(replies), *claim_stdio())
        return _load_or_refuse(session, load)(session)
    except OSError as error:
        sys.stderr.write(f"rotoscope: {error.strerror or error}.\n")
        return _EXIT_FAILED


def exit_code(number: int) -> int:
    """The exit code of a session that a signal has ended. TERM is how a supervisor ends what it serves: no failure."""
    return _EXIT_OK if number == signal.SIGTERM else signal_exit_code(number)


def _load_or_refuse(session: Session, load: LoadServer) -> ServeSession:
    """The server, or what refuses in its place."""
    gc.disable()  # nearly all that is loaded stays: to look through it again and again costs a tenth of the time
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)  # an import must not make the client wait for the interpreter
    session.start()
    try:
        return load()
    except Exception as error:  # noqa: BLE001 - the outermost edge: whatever failed, the client must get an error
        words, code = _report_failure(error)
        return lambda session: session.refuse(lambda request_id: error_line(request_id, _INTERNAL_ERROR, words), code)
    finally:
        sys.setswitchinterval(usual)


def claim_stdio() -> tuple[int, int]:
    """Take stdin and stdout for the protocol alone: a stray print goes to stderr, a child reads an empty input."""
    source, sink = (fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, _LOWEST_DESCRIPTOR) for stream in (0, 1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    _divert_stdout()
    return source, sink


def _divert_stdout() -> None:
    try:
        os.dup2(2, 1)
    except OSError:  # stderr is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _report_failure(error: Exception) -> tuple[str, int]:
    """Tell stderr what failed; returns the words for the client, and the exit code."""
    import traceback

    from rotoscope.errors import RotoscopeError, UserMistake

    if isinstance(error, RotoscopeError):
        words, code = (
            f"{error.message} {error.hint}".rstrip(),
            _EXIT_BAD_INPUT if isinstance(error, UserMistake) else _EXIT_FAILED,
        )
    else:
        traceback.print_exception(error)
        words, code = f"The server cannot be loaded ({type(error).__name__}). Its log says more.", _EXIT_FAILED
    sys.stderr.write(f"rotoscope: {words}\n")
    return f"rotoscope cannot start. {words}", code


def _exit_now(code: int) -> None:
    """End the process at once and quietly: nothing is open yet but what the system closes."""
    os._exit(code)
