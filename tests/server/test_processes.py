"""A real server and its workers: it answers while all of them are held, stays small, and leaves none behind."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from calls import BOX
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
SECONDS = 180
OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "claude-code", "version": "1"}}


class Session:
    """A server that is spoken to over its pipes; a thread reads its replies."""

    def __init__(self, home: Path) -> None:
        env = {**os.environ, "HOME": str(home), "ROTOSCOPE_HOME": str(home / "r"), "ROTOSCOPE_INLINE_SECONDS": "60"}
        command = [sys.executable, "-m", "rotoscope", "serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=home)
        self.replies: dict[int, Any] = {}
        self._came = threading.Condition()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        self.ask(1, "initialize", OPENING)
        self.tell(method="notifications/initialized")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            with self._came:
                self.replies[message.get("id", -1)] = message
                self._came.notify_all()

    def tell(self, **message: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, number: int, method: str, params: Mapping[str, object]) -> Any:
        self.tell(id=number, method=method, params=params)
        return self.reply(number)

    def segment(self, number: int, picture: Path, **more: object) -> None:
        given = {"name": "segment_image", "arguments": {"image": str(picture), "box": BOX, **more}}
        self.tell(id=number, method="tools/call", params=given)

    def reply(self, number: int) -> Any:
        with self._came:
            assert self._came.wait_for(lambda: number in self.replies, SECONDS)
        return self.replies[number]["result"]

    def children(self) -> dict[int, str]:
        """Its processes, and with which program text each was started.

        A thread or process that ends while they are read is gone from the files, and the children of such a thread
        are another's: they are read again.
        """
        for _ in range(50):
            with suppress(FileNotFoundError, ProcessLookupError):
                tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
                found = [int(pid) for task in tasks for pid in task.read_text(encoding="ascii").split()]
                return {pid: Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace") for pid in found}
        raise AssertionError("its threads never stood still")

    def workers(self) -> set[int]:
        return {pid for pid, text in self.children().items() if "workers.serving" in text}

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(SECONDS)
        self._reading.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    made = Session(home)
    try:
        yield made
    finally:
        made.process.kill()
        made.end()


def pictures(folder: Path, count: int) -> list[Path]:
    made = []
    for number in range(count):
        made.append(folder / f"{number}.png")
        Image.new("RGB", (512, 512), (number, 40, 90)).save(made[-1])
    return made


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_ping_is_answered_while_fifty_pictures_wait_for_decoders_that_are_all_held(
    session: Session, home: Path
) -> None:
    given = pictures(home, 50)
    for number, picture in enumerate(given):
        session.segment(100 + number, picture, dry_run=True)
    held: set[int] = set()
    for _ in range(100_000):
        for pid in session.workers() - held:
            os.kill(pid, signal.SIGSTOP)
            held.add(pid)
        if len(held) == 2:
            break
    assert len(held) == 2
    assert session.ask(2, "ping", {}) == {}
    assert session.ask(3, "tools/list", {})["tools"]
    assert not all(100 + number in session.replies for number in range(50))
    for pid in held:
        os.kill(pid, signal.SIGCONT)
    answers = [session.reply(100 + number) for number in range(50)]
    assert not [answer for answer in answers if answer.get("isError")]


def test_an_ordinary_call_loads_nothing_into_the_server_that_decodes_or_computes_pictures(
    session: Session, photo: Path
) -> None:
    session.segment(100, photo)
    assert session.reply(100)["structuredContent"]["status"] == "succeeded"
    mapped = Path(f"/proc/{session.process.pid}/maps").read_text(encoding="utf-8")
    assert not [name for name in ("numpy", "/PIL/", "cv2", "libavcodec") if name in mapped]


@pytest.mark.parametrize("by", ["end of input", "SIGTERM", "SIGINT", "SIGKILL"])
def test_no_process_stays_behind_a_server_that_ends(session: Session, photo: Path, by: str) -> None:
    session.segment(100, photo)
    assert session.reply(100)["structuredContent"]["status"] == "succeeded"
    children = set(session.children())
    assert len(children) >= 2  # a worker and the sandbox
    held = session.workers().pop() if by != "SIGKILL" else None
    if held is not None:
        os.kill(held, signal.SIGSTOP)  # as a decoder that never ends
    if by == "end of input":
        session.end()
    else:
        session.process.send_signal(getattr(signal, by))
        session.process.wait(SECONDS)
    for pid in children:
        for _ in range(1_000_000):
            if not is_there(pid):
                break
        assert not is_there(pid)
