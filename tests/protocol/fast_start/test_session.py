"""Whole stdio sessions in processes of their own, in which the test decides when the server is loaded."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

PROGRAM = """
import os, sys
from rotoscope.cli.stored_replies import read_stored_replies
from rotoscope.protocol.fast_start.session import serve_process
def load():
    {before}
    os.read({gate}, 1)
    {after}
    from rotoscope.cli import fast_start as handover
    return handover.load_server()
raise SystemExit(serve_process(read_stored_replies(os.environ)[0], load))
"""
SECONDS = 180
VERSION = "2025-11-25"
CLIENT = {"name": "mcp", "version": "1"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": CLIENT,
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")


def request(number: int | str, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method} | ({} if params is None else {"params": params})


def initialize(number: int = 0, version: str = VERSION) -> dict[str, Any]:
    return request(number, "initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT})


def modern(number: int, method: str, **params: Any) -> dict[str, Any]:
    return request(number, method, {**params, "_meta": ENVELOPE})


def call(number: int, **more: Any) -> dict[str, Any]:
    """The cheapest tool call."""
    return request(number, "tools/call", {"name": "list_jobs", "arguments": {}, **more})


def cancelled(number: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}


def line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


class Wire:
    """The client's end of a session."""

    def __init__(self, process: "subprocess.Popen[bytes]", gate: int | None = None) -> None:
        self.process = process
        self.replies: dict[int | str, dict[str, Any]] = {}
        self._gate = gate

    def let_it_load(self) -> None:
        assert self._gate is not None
        os.write(self._gate, b".")

    def say(self, *messages: dict[str, Any]) -> None:
        self.write(b"".join(map(line, messages)))

    def write(self, words: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(words)
        self.process.stdin.flush()

    def reply(self, number: int | str) -> dict[str, Any]:
        """The reply to a request; every line of stdout must be a reply that was not given before."""
        assert self.process.stdout is not None
        while number not in self.replies:
            said = self.process.stdout.readline()
            assert said, f"the server has ended without a reply to {number}"
            message = json.loads(said)
            assert message["id"] not in self.replies, f"answered twice: {message}"
            self.replies[message["id"]] = message
        return self.replies[number]

    def result(self, number: int | str) -> dict[str, Any]:
        return self.reply(number)["result"]  # type: ignore[no-any-return] # JSON

    def close(self) -> tuple[int, bytes, bytes]:
        """End the input; the exit code, and what else came on stdout and on stderr."""
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err


@pytest.fixture
def env(tmp_path: Path, home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    # A call that is not answered within its client's patience is asked to come again: on a busy machine the server is
    # loaded for longer than an unknown client waits. This client waits as long as the tests do.
    patience = {"ROTOSCOPE_INLINE_SECONDS": str(SECONDS)}
    return {
        **kept, **patience,
        "HOME": str(home), "ROTOSCOPE_HOME": str(tmp_path / "rotoscope"), "PYTHONWARNINGS": "error",
    }  # fmt: skip


Start = Callable[..., Wire]


@pytest.fixture
def start(env: dict[str, str], home: Path) -> Iterator[Start]:
    """Starts a session whose server is loaded when the test lets it; `before` and `after` run as parts of loading."""
    started: list[subprocess.Popen[bytes]] = []
    gates: list[int] = []

    def begin(before: str = "pass", after: str = "pass", **more: str) -> Wire:
        gate, opener = os.pipe()
        gates.extend((gate, opener))
        os.set_inheritable(gate, True)
        started.append(
            _process(["-c", PROGRAM.format(gate=gate, before=before, after=after)], {**env, **more}, home, gate)
        )
        return Wire(started[-1], opener)

    yield begin
    for process in started:
        process.kill()
        process.communicate()
    for gate in gates:
        os.close(gate)


def _process(arguments: list[str], env: dict[str, str], home: Path, *gates: int) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, env=env, cwd=home, pass_fds=gates
    )


@pytest.fixture
def command(env: dict[str, str], home: Path) -> Iterator[Callable[..., Wire]]:
    """Starts `rotoscope serve` as a host does."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(**more: str) -> Wire:
        started.append(_process(["-m", "rotoscope", "serve"], {**env, **more}, home))
        return Wire(started[-1])

    yield begin
    for process in started:
        process.kill()
        process.communicate()


# Before the server is there.


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_a_handshake_and_every_list_are_answered_before_the_server_is_loaded(start: Start, version: str) -> None:
    wire = start()
    wire.say(request(9, "ping"), initialize(0, version))
    assert wire.result(0)["protocolVersion"] == version
    wire.say(INITIALIZED, *(request(number, method, {}) for number, method in enumerate(LISTS, 1)))
    assert [tool["name"] for tool in wire.result(1)["tools"]][:1] == ["segment_image"]
    schemes = {one["uri"].partition(":")[0] for one in wire.result(2)["resources"]}
    assert schemes == {"skill", "ui"}  # what belongs to nobody; jobs and files are not listed
    assert {prompt["name"] for prompt in wire.result(4)["prompts"]} >= {"photo_to_coco"}
    assert len(wire.result(3)["resourceTemplates"]) == 4
    assert wire.result(9) == {}


def test_a_probe_and_every_list_of_the_modern_era_are_answered_before_the_server_is_loaded(start: Start) -> None:
    wire = start()
    wire.say(modern(0, "server/discover"), *(modern(number, method) for number, method in enumerate(LISTS, 1)))
    assert wire.result(0)["supportedVersions"] == ["2026-07-28"]
    for number in range(5):
        assert wire.result(number)["resultType"] == "complete"
        assert wire.result(number)["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "rotoscope"


def test_an_unknown_version_is_answered_with_the_latest_of_its_era(start: Start) -> None:
    wire = start()
    wire.say(initialize(0, "1999-01-01"))
    assert wire.result(0)["protocolVersion"] == VERSION


def test_nothing_of_the_sdk_is_imported_for_the_first_reply(start: Start) -> None:
    heavy = {
        "mcp",
        "mcp_types",
        "pydantic",
        "anyio",
        "asyncio",
        "numpy",
        "argparse",
        "dataclasses",
        "rotoscope.cli.commands",
    }
    wire = start(before=f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)")
    wire.say(initialize())
    assert wire.result(0)
    # It is said by the thread that loads: a session may be over before that thread has come to it.
    assert wire.process.stderr is not None
    assert select.select([wire.process.stderr], [], [], SECONDS)[0]
    assert wire.close() == (0, b"", b"[]\n")


def test_an_input_that_ends_early_ends_the_process_quietly(start: Start) -> None:
    assert start().close() == (0, b"", b"")


def test_a_client_that_leaves_takes_its_waiting_call_with_it(start: Start) -> None:
    wire = start()
    wire.say(initialize(), INITIALIZED, call(1))
    assert wire.result(0)
    assert wire.close() == (0, b"", b"")


def test_sigterm_ends_an_opening_quietly(start: Start) -> None:
    wire = start()
    wire.say(initialize())
    assert wire.result(0)
    wire.process.send_signal(signal.SIGTERM)
    assert wire.process.wait(SECONDS) == 0
    assert wire.close() == (0, b"", b"")


def test_an_interrupt_ends_an_opening_without_a_traceback(start: Start) -> None:
    wire = start()
    wire.say(initialize())
    assert wire.result(0)
    wire.process.send_signal(signal.SIGINT)
    assert wire.process.wait(SECONDS) == 130
    assert wire.close() == (130, b"", b"")


# The handover.


def test_a_call_that_came_early_is_answered_by_the_server_in_the_settled_version(start: Start) -> None:
    wire = start()
    wire.say(initialize(0, "2025-03-26"), INITIALIZED, request(1, "tools/list"), call(2))
    assert wire.result(1)["tools"]
    wire.let_it_load()
    assert wire.result(2)["structuredContent"] == {"jobs": [], "left_out": 0}
    wire.say(request(3, "tools/list"))
    assert wire.result(3) == wire.result(1)
    code, out, err = wire.close()
    assert (code, out, err) == (0, b"", b"")


def test_a_modern_session_goes_on_where_the_front_has_left_it(start: Start) -> None:
    wire = start()
    wire.say(modern(0, "server/discover"), modern(1, "tools/list"), modern(2, "tools/list", cursor="x"))
    assert wire.result(1)["tools"]
    wire.let_it_load()
    wire.say(modern(3, "tools/call", name="list_jobs", arguments={}), initialize(4), modern(5, "tools/list"))
    assert wire.result(3)["structuredContent"] == {"jobs": [], "left_out": 0}
    assert wire.reply(4)["error"]["code"] == -32022  # the era was decided before the server was there
    assert wire.result(5) == wire.result(1)
    assert wire.reply(2)
    assert wire.close() == (0, b"", b"")


def test_a_probe_does_not_keep_a_client_from_the_handshake(start: Start) -> None:
    """Some clients stop waiting for the probe and initialize on the same pipe."""
    wire = start()
    wire.say(modern(0, "server/discover"), cancelled(0), initialize(1), INITIALIZED, call(2))
    wire.let_it_load()
    assert wire.result(1)["protocolVersion"] == VERSION
    assert wire.result(2)["structuredContent"] == {"jobs": [], "left_out": 0}
    assert wire.result(0)["supportedVersions"]


def test_a_probe_decides_nothing_either_when_only_the_server_may_answer(start: Start, tmp_path: Path) -> None:
    own_manifest(tmp_path / "rotoscope")
    wire = start()
    wire.let_it_load()
    wire.say(modern(0, "server/discover"), cancelled(0), modern(1, "server/discover"))
    assert wire.result(1) == wire.result(0)
    wire.say(initialize(2), INITIALIZED, request(3, "tools/list"))
    assert wire.result(2)["protocolVersion"] == VERSION
    assert wire.result(3)["tools"]
    assert wire.close() == (0, b"", b"")


def own_manifest(folder: Path) -> None:
    (folder / "models").mkdir(parents=True)
    shipped = Path(__file__).parents[3] / "manifests" / "models" / "sam2-image.toml"
    (folder / "models" / "mine.toml").write_bytes(shipped.read_bytes())


def test_a_burst_is_answered_completely_and_once(start: Start) -> None:
    wire = start()
    lists = [request(number, LISTS[number % 4], {}) for number in range(1, 21)]
    wire.say(
        initialize(), INITIALIZED, *lists, *(call(number) for number in range(21, 31)), *map(request_ping, (31, 32))
    )
    wire.let_it_load()
    for number in range(33):
        assert "result" in wire.reply(number)
    assert wire.close() == (0, b"", b"")


def request_ping(number: int) -> dict[str, Any]:
    return request(number, "ping")


def test_a_line_may_come_in_pieces_before_and_across_the_handover(start: Start) -> None:
    wire = start()
    whole = line(initialize())
    wire.write(whole[:20])
    wire.write(whole[20:])
    assert wire.result(0)
    half = line(request(2, "tools/list"))
    wire.say(INITIALIZED, call(1))
    wire.write(half[:15])
    wire.let_it_load()
    assert wire.result(1)
    wire.write(half[15:])
    assert wire.result(2)["tools"]


def test_a_last_line_without_an_end_is_still_read(start: Start) -> None:
    wire = start()
    wire.write(line(initialize()) + line(request(1, "ping")).rstrip())
    assert wire.result(0)
    code, out, err = wire.close()
    assert (code, json.loads(out)["id"], err) == (0, 1, b"")


def test_what_is_not_stored_is_left_to_the_server(start: Start) -> None:
    wire = start()
    wire.say(initialize(), INITIALIZED, request(1, "no/such"), request(2, "resources/read", {"uri": "job://0"}))
    wire.write(b"no json\n\n")
    wire.say(request(3, "tools/list"))
    wire.let_it_load()
    assert wire.reply(1)["error"]["code"] == -32601
    assert wire.reply(2)["error"]["code"] == -32602
    assert wire.result(3)["tools"]


def test_a_kept_request_can_be_cancelled(start: Start) -> None:
    wire = start()
    wire.say(initialize(), INITIALIZED, call(1), cancelled(1), call(2))
    wire.let_it_load()
    assert wire.result(2)["structuredContent"] == {"jobs": [], "left_out": 0}
    assert wire.close()[0] == 0
    assert "result" not in wire.replies.get(1, {})


def test_a_large_message_passes_through_the_handover(start: Start) -> None:
    wire = start()
    wire.say(initialize(), INITIALIZED, call(1, _meta={"note": "x" * 300_000}))
    wire.let_it_load()
    wire.say(call(2, _meta={"note": "x" * 300_000}))
    assert wire.result(1)["structuredContent"] == wire.result(2)["structuredContent"] == {"jobs": [], "left_out": 0}


def test_sigterm_ends_a_session_as_the_end_of_input_does(start: Start) -> None:
    wire = start()
    wire.say(initialize(), INITIALIZED, call(1))
    wire.let_it_load()
    assert wire.result(1)
    wire.process.send_signal(signal.SIGTERM)
    assert wire.process.wait(SECONDS) == 0
    assert wire.close() == (0, b"", b"")


def test_an_interrupt_ends_a_session_without_a_traceback(start: Start) -> None:
    wire = start()
    wire.say(initialize(), INITIALIZED, call(1))
    wire.let_it_load()
    assert wire.result(1)
    wire.process.send_signal(signal.SIGINT)
    assert wire.process.wait(SECONDS) == 130
    assert wire.close() == (130, b"", b"")


# When something is wrong.


def test_what_is_printed_while_loading_goes_to_stderr(start: Start) -> None:
    wire = start(before="print('stray', flush=True); os.system('echo child; cat')")
    wire.say(initialize(), INITIALIZED, call(1))
    wire.let_it_load()
    assert wire.result(1)
    assert wire.close() == (0, b"", b"stray\nchild\n")


def test_a_server_that_cannot_be_loaded_is_reported_in_reply_to_every_request(start: Start) -> None:
    wire = start(after="raise ImportError('no such wheel')")
    wire.say(initialize(), INITIALIZED, call(1))
    assert wire.result(0)
    wire.let_it_load()
    error = wire.reply(1)["error"]
    assert (error["code"], "ImportError" in error["message"]) == (-32603, True)
    wire.say(request(2, "tools/list"))
    assert wire.reply(2)["error"] == error
    code, out, err = wire.close()
    assert (code, out) == (1, b"")
    assert b"no such wheel" in err


def test_a_setting_that_cannot_be_used_is_reported_to_the_client_by_its_name(command: Callable[..., Wire]) -> None:
    wire = command(ROTOSCOPE_SANDBOX="perhaps")
    wire.say(initialize())
    assert "ROTOSCOPE_SANDBOX" in wire.reply(0)["error"]["message"]
    code, out, err = wire.close()
    assert (code, out) == (2, b"")
    assert err.startswith(b"rotoscope: ROTOSCOPE_SANDBOX")
    assert b"Traceback" not in err


def test_a_client_that_no_longer_reads_ends_the_opening(start: Start) -> None:
    wire = start()
    assert wire.process.stdout is not None
    wire.process.stdout.close()
    wire.say(initialize())
    assert wire.process.wait(SECONDS) == 0


# Real clients.


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_real_client_sees_the_same_tools_before_and_after_its_first_call(
    env: dict[str, str], home: Path, mode: str
) -> None:
    served = StdioServerParameters(command=sys.executable, args=["-m", "rotoscope", "serve"], env=env, cwd=home)
    with anyio.fail_after(SECONDS):
        async with Client(served, mode=mode) as client:
            before = await client.list_tools()
            answer = await client.call_tool("list_jobs", {})
            after = await client.list_tools()
    assert answer.structured_content == {"jobs": [], "left_out": 0}
    assert before == after
