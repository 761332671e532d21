"""One stdio session: a thread reads and answers its opening while the main thread loads the server, which takes over.

One lock decides who may write: whoever holds it finds the session either still opening or handed over. The thread goes
on reading for the server, so no byte changes hands, not even of a line that is half there. Only a client that says very
much before the server is there is read no further until then, nor one that lets very much of what it asked for wait.

Writing is another thread's: a client that does not read holds up neither the handover nor the end.
"""

import fcntl
import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from rotoscope.protocol.fast_start.cached_replies import read_replies
from rotoscope.protocol.fast_start.handshake import Opening
from rotoscope.protocol.fast_start.writer import Writer
from rotoscope.protocol.lines import LONGEST_LINE, RequestId, TooLong, error_line, outline_of, read_lines
from rotoscope.signals import code_of, handle

__all__ = ["Converse", "Load", "Session", "claim", "exit_code", "serve"]

_ENDED, _FAILED, _BAD_INPUT = 0, 1, 2
_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603
_LAST_WORDS_SECONDS = 3.0  # that a client may take for what it was told before the end
_LOOK_SECONDS = 0.5  # between two looks whether a client that is not read has gone
_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
_CHUNK = 65_536
_SWITCH_SECONDS = 0.0005
_LOWEST_PRIVATE = 3


class Session:
    """What was said so far, who answers now, and the two ends of the wire.

    Attributes:
        writer: says what is put into it: by whoever answers now, and to what nobody can, as it came in.
        kept_at: when each line that is kept came in, in seconds of the monotonic clock.
    """

    def __init__(self, opening: Opening, source: int, sink: int) -> None:
        self._opening = opening
        self._source = source
        self.writer = Writer(sink)
        self.kept_at: list[float] = []
        self._lock = threading.Lock()
        self._deliver: Callable[[bytes | None], None] | None = None
        self._refusal: Callable[[RequestId], bytes] | None = None
        self._settled = threading.Event()  # somebody else than the opening takes the lines
        self._reader = threading.Thread(target=self._read, name="stdin", daemon=True)

    def begin(self) -> None:
        """Start to read and to answer."""
        self.writer.tell(self._look)
        self._reader.start()

    def hand_over(self, deliver: Callable[[bytes | None], None]) -> tuple[list[bytes], set[int | str]]:
        """End the opening: nothing is answered from the store any more.

        Args:
            deliver: is given every later line in the reading thread, and None at the end of input.

        Returns:
            The lines that were kept, in order, and the ids of requests among them that were answered already.
        """
        with self._lock:
            self._deliver = deliver
            self._settled.set()
            return self._opening.kept, self._opening.answered

    def refuse(self, refusal: Callable[[RequestId], bytes], code: int) -> int:
        """Answer what waits, and every later request until the input ends, with an error; returns the code."""
        with self._lock:
            self._refusal = refusal
            self._settled.set()
            for line in self._opening.kept:
                self._refused(line)
        self._reader.join()
        return self.end(code)

    def end(self, code: int) -> int:
        """Give the client some seconds to take what it was told; returns the code."""
        self.writer.drain(_LAST_WORDS_SECONDS)
        return code

    def check_there(self) -> None:
        """Make sure that the client still has its end, also while there is something left to read.

        Raises:
            OSError: it has not.
        """
        poll = select.poll()
        poll.register(self._source, _GONE)
        if any(events & _GONE for _, events in poll.poll(0)):
            raise BrokenPipeError

    def _look(self) -> None:
        """Whoever takes no reply in the opening has gone."""
        if self.writer.broken:
            with self._lock:
                opening = self._deliver is None and self._refusal is None
            if opening:
                _leave(_ENDED)

    def _read(self) -> None:
        try:
            for line in read_lines(partial(os.read, self._source, _CHUNK)):
                self._wait_for_the_client()
                if isinstance(line, TooLong):
                    self._say_too_long(line)
                else:
                    self._take(line)
        except OSError:
            pass  # the client is gone: the input has ended
        with self._lock:
            deliver, opening = self._deliver, self._deliver is None and self._refusal is None
        if deliver is not None:
            deliver(None)
        elif opening:
            _leave(self.end(_ENDED))

    def _say_too_long(self, line: TooLong) -> None:
        """Whoever answers now would say the same: nobody has the line."""
        if line.outline.wants_answer:
            words = f"The line is longer than {LONGEST_LINE >> 20} MiB. Give large media by path or https URL."
            self.writer.put(error_line(line.outline.request_id, _INVALID_REQUEST, words))

    def _take(self, line: bytes) -> None:
        with self._lock:
            deliver = self._deliver
            if deliver is None and self._refusal is not None:
                self._refused(line)
            elif deliver is None:
                reply = self._opening.take(line)
                self.kept_at += [time.monotonic()] * (len(self._opening.kept) - len(self.kept_at))
                if reply is not None:
                    self.writer.put(reply)
        if deliver is not None:
            # Outside the lock: it may wait until the server has read what it was given.
            deliver(line)

    def _refused(self, line: bytes) -> None:
        outline = outline_of(line)
        if self._refusal is not None and outline is not None and outline.wants_answer:
            request_id = outline.request_id
            if request_id not in self._opening.answered:
                self.writer.put(self._refusal(request_id))

    def _wait_for_the_client(self) -> None:
        """Read no further while very much is kept or unwritten, unless the client goes away.

        Raises:
            OSError: it has gone: it hears no reply, and nothing that it said after this is of use.
        """
        while self._opening.full and not self._settled.wait(_LOOK_SECONDS):
            self.check_there()
        while not self.writer.wait_for_room(_LOOK_SECONDS):
            self.check_there()


Converse = Callable[[Session], int]
"""Takes a session over and serves it to its end; returns the exit code."""
Load = Callable[[], Converse]
"""Loads the server."""


def serve(environ: Mapping[str, str], load: Load) -> int:
    """Serve one session over stdin and stdout; returns the exit code.

    Args:
        environ: the environment, for what must hold for the stored replies.
        load: brings the server. When it fails, the client is told in reply to every request, and stderr once.
    """
    handle(lambda number: _leave(exit_code(number)))
    try:
        session = Session(Opening(read_replies(environ)), *claim())
        return _loaded(session, load)(session)
    except OSError as error:
        sys.stderr.write(f"rotoscope: {error.strerror or error}.\n")
        return _FAILED


def exit_code(number: int) -> int:
    """The exit code of a session that a signal has ended. TERM is how a supervisor ends what it serves: no failure."""
    return _ENDED if number == signal.SIGTERM else code_of(number)


def _loaded(session: Session, load: Load) -> Converse:
    """The server, or what refuses in its place."""
    gc.disable()  # nearly all that is loaded stays: to look through it again and again costs a tenth of the time
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)  # an import must not make the client wait for the interpreter
    session.begin()
    try:
        return load()
    except Exception as error:  # noqa: BLE001 - the outermost edge: whatever failed, the client must be told
        words, code = _told(error)
        return lambda session: session.refuse(lambda request_id: error_line(request_id, _INTERNAL_ERROR, words), code)
    finally:
        sys.setswitchinterval(usual)


def claim() -> tuple[int, int]:
    """Take stdin and stdout for the protocol alone: a stray print goes to stderr, a child reads an empty input."""
    source, sink = (fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, _LOWEST_PRIVATE) for stream in (0, 1))
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


def _told(error: Exception) -> tuple[str, int]:
    """Tell stderr what failed; returns the words for the client, and the exit code."""
    import traceback

    from rotoscope.errors import RotoscopeError, UserMistake

    if isinstance(error, RotoscopeError):
        words, code = (
            f"{error.message} {error.hint}".rstrip(),
            _BAD_INPUT if isinstance(error, UserMistake) else _FAILED,
        )
    else:
        traceback.print_exception(error)
        words, code = f"The server cannot be loaded ({type(error).__name__}). Its log says more.", _FAILED
    sys.stderr.write(f"rotoscope: {words}\n")
    return f"rotoscope cannot start. {words}", code


def _leave(code: int) -> None:
    """End the process at once and quietly: nothing is open yet but what the system closes."""
    os._exit(code)
