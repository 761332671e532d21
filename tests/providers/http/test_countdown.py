"""Deadlines: they count the time in which this process ran, and a reply that came during a pause is still read."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from rotoscope.errors import ReplyLost
from rotoscope.providers.http.client import ProviderAccess, ReplyTimeouts, Wire
from rotoscope.providers.http.messages import HttpCall
from rotoscope.providers.http.outgoing import Countdown, CountdownTiming

pytestmark = pytest.mark.anyio
ACCESS = {"replicate": ProviderAccess("Authorization", "Bearer ", "r8_3f9a0c")}
ACCEPTED = b'HTTP/1.1 201 Created\r\ncontent-length: 12\r\n\r\n{"id": "p1"}'


class Clock:
    """A clock that jumps in each sleep as far as a test sets."""

    def __init__(self, *jumps: float, always: float = 0.0) -> None:
        self.now, self.slept, self.jumps, self.always = 1000.0, 0.0, list(jumps), always

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.slept += seconds
        self.now += seconds + (self.jumps.pop(0) if self.jumps else self.always)

    @property
    def pace(self) -> CountdownTiming:
        return CountdownTiming(lambda: self.now, self.sleep)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 5.0, 7.5])
async def test_work_that_never_ends_is_cut_off_when_its_time_is_over(seconds: float) -> None:
    clock = Clock()
    with pytest.raises(TimeoutError):
        await Countdown(seconds, clock.pace).run(anyio.sleep_forever)
    assert clock.slept == pytest.approx(seconds)


@pytest.mark.parametrize("before", range(5))
async def test_a_pause_of_the_process_counts_as_one_step_and_a_reply_is_read_after_it(before: int) -> None:
    clock = Clock(*[0.0] * before, 45.0)
    with pytest.raises(TimeoutError):
        await Countdown(5.0, clock.pace).run(anyio.sleep_forever)
    assert clock.slept == pytest.approx(5.0 if before < 4 else 6.0)


async def test_a_countdown_ends_on_a_machine_that_is_paused_in_every_step() -> None:
    clock = Clock(always=45.0)
    with pytest.raises(TimeoutError):
        await Countdown(3.0, clock.pace).run(anyio.sleep_forever)
    assert clock.slept < 10


async def test_progress_restarts_the_countdown() -> None:
    clock = Clock()
    countdown = Countdown(2.0, clock.pace)

    async def work() -> str:
        while clock.slept < 20.0:
            countdown.restart(2.0)
            await anyio.lowlevel.checkpoint()
        return "done"

    assert await countdown.run(work) == "done"


@pytest.mark.parametrize("error", [ValueError("a"), KeyboardInterrupt(), ExceptionGroup("two", [ValueError("b")])])
async def test_an_error_of_the_work_comes_out_as_it_is(error: BaseException) -> None:
    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    with pytest.raises(type(error)) as caught:
        await Countdown(5.0, CountdownTiming()).run(work)
    assert caught.value is error


async def test_a_cancellation_from_outside_passes_through_a_countdown() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await Countdown(5.0, CountdownTiming()).run(anyio.sleep_forever)
    assert scope.cancelled_caught


async def test_a_reply_that_does_not_come_in_time_is_lost_and_reported_as_late() -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        host = f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        wire = Wire(ACCESS, frozenset({host}), timeouts=ReplyTimeouts(0.1, 0.1))
        with anyio.fail_after(180), pytest.raises(ReplyLost, match="in time"):
            await wire.send("replicate", HttpCall("POST", f"http://{host}/v1/p", json={}), pays=True)
        await wire.aclose()
        tasks.cancel_scope.cancel()


CHILD = """
import signal, sys, anyio
from rotoscope.providers.http.client import ProviderAccess, ReplyTimeouts, Wire
from rotoscope.providers.http.messages import HttpCall
from rotoscope.providers.http.outgoing import CountdownTiming

passed = 0.0  # seconds: while this process was stopped, by its clock

def resume(*_):
    global passed
    passed = 1000.0

async def sleep(seconds):  # the first step lasts until the pause, so that the deadline passes while the reply waits
    if passed:
        await anyio.sleep(seconds)
    while not passed:
        await anyio.sleep(0.001)

async def main(host, method):
    access = {"r": ProviderAccess("Authorization", "Bearer ", "r8_3f9a0c")}
    timing = CountdownTiming(lambda: anyio.current_time() + passed, sleep, step=30.0)
    wire = Wire(access, frozenset({host}), timeouts=ReplyTimeouts(0.5, 0.5), timing=timing)
    reply = await wire.send("r", HttpCall(method, f"http://{host}/v1/p"), pays=method == "POST")
    print(reply.status)
    await wire.aclose()

signal.signal(signal.SIGCONT, resume)
anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process can be stopped here")
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_process_that_was_stopped_reads_the_reply_that_waits_for_it(tmp_path: Path, method: str) -> None:
    (tmp_path / "child.py").write_text(CHILD, encoding="utf-8")
    stop: list[Callable[[signal.Signals], None]] = []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            stop[0](signal.SIGSTOP)
            await stream.send(ACCEPTED)
            stop[0](signal.SIGCONT)
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        host = f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        asked = [sys.executable, str(tmp_path / "child.py"), host, method]
        with anyio.fail_after(180):
            async with await anyio.open_process(asked, env={**os.environ}, stderr=None) as child:
                stop.append(child.send_signal)
                assert child.stdout is not None
                printed = b"".join([part async for part in child.stdout])
        assert printed.strip() == b"201"
        tasks.cancel_scope.cancel()
