"""The worker processes: work that passes a limit is refused, and the next piece of work is done."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import workloads

from rotoscope.errors import InvalidInput, RotoscopeError, TooLarge, WorkerLost
from rotoscope.media.decoders import FILM, PICTURE, RESULT_MASKS, DecoderPool
from rotoscope.workers.process import WorkerBug

pytestmark = pytest.mark.anyio
SECONDS = 180
QUICK = replace(PICTURE, cpu_seconds=1, max_cpu_seconds=1)
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit address space, or have no /proc")


@pytest.fixture
async def decoders() -> AsyncIterator[DecoderPool]:
    made = DecoderPool({**os.environ, "REPLICATE_API_TOKEN": "r8_secret", "ROTOSCOPE_HOME": "/nowhere"})
    with anyio.fail_after(SECONDS):
        yield made
    await made.aclose()


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return not Path("/proc/self/stat").exists()


async def gone(pids: set[int]) -> None:
    with anyio.fail_after(SECONDS):
        while any(map(is_there, pids)):
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    place = tmp_path / "gate"
    os.mkfifo(place)
    return place


async def test_a_function_is_called_in_another_process_which_is_kept_for_the_next(decoders: DecoderPool) -> None:
    assert await decoders.run(workloads.add, 1, 2) == 3
    first = decoders.pids
    assert await decoders.run(workloads.add, 3, 4) == 7
    assert decoders.pids == first
    assert len(first) == 1


async def test_a_worker_is_started_before_it_is_needed_and_only_once(decoders: DecoderPool) -> None:
    decoders.warm()
    first = decoders.pids
    decoders.warm()
    assert await decoders.run(workloads.add, 1, 2) == 3
    assert decoders.pids == first


async def test_an_error_of_the_error_tree_arrives_unchanged(decoders: DecoderPool) -> None:
    with pytest.raises(InvalidInput) as caught:
        await decoders.run(workloads.refuse)
    assert (caught.value.message, caught.value.hint, caught.value.code) == (
        "It is a drawing.",
        "Give a photo.",
        "unsupported",
    )


async def test_a_bug_arrives_with_its_traceback_and_the_worker_is_used_again(decoders: DecoderPool) -> None:
    with pytest.raises(WorkerBug, match="a bug"):
        await decoders.run(workloads.stumble)
    first = decoders.pids
    assert await decoders.run(workloads.add, 1, 2) == 3
    assert decoders.pids == first


@linux
@pytest.mark.parametrize("limits", [PICTURE, FILM, RESULT_MASKS], ids=["picture", "film", "masks"])
async def test_what_takes_too_much_memory_is_refused_and_what_takes_less_is_done(
    decoders: DecoderPool, limits: object
) -> None:
    assert isinstance(limits, type(PICTURE))
    with pytest.raises(TooLarge, match="memory") as caught:
        await decoders.run(workloads.allocate, limits.memory_bytes + 10_000_000, limits=limits)
    assert caught.value.hint
    less = limits.memory_bytes - 10_000_000
    assert await decoders.run(workloads.allocate, less, limits=limits) == less


@linux
async def test_what_takes_too_much_processor_time_is_refused_and_the_next_call_is_answered(
    decoders: DecoderPool,
) -> None:
    with pytest.raises(TooLarge, match="processor time"):
        await decoders.run(workloads.spin, limits=QUICK)
    assert await decoders.run(workloads.add, 1, 2) == 3


@linux
async def test_work_may_ask_for_more_processor_time_but_not_for_more_than_its_kind_may_have(
    decoders: DecoderPool,
) -> None:
    limits = replace(QUICK, max_cpu_seconds=2)
    with pytest.raises(TooLarge, match="processor time"):
        await decoders.run(workloads.spin_after_asking, 1e9, limits=limits)


async def test_what_waits_without_computing_is_ended_by_the_clock(decoders: DecoderPool, gate: Path) -> None:
    decoders.warm()
    pids = decoders.pids
    with pytest.raises(TooLarge, match="not done after"):
        await decoders.run(workloads.wait_at, gate, limits=replace(PICTURE, wall_seconds=0.1))
    await gone(pids)
    assert not decoders.pids


async def test_a_decoder_that_crashes_is_a_clear_error_and_the_next_call_is_answered(decoders: DecoderPool) -> None:
    with pytest.raises(InvalidInput, match="crash") as caught:
        await decoders.run(workloads.end_itself, signal.SIGSEGV)
    assert caught.value.code == "corrupt"
    assert await decoders.run(workloads.add, 1, 2) == 3


async def test_a_worker_that_is_killed_from_outside_is_a_clear_error_and_the_next_call_is_answered(
    decoders: DecoderPool, gate: Path
) -> None:
    raised: list[RotoscopeError] = []

    async def held() -> None:
        try:
            await decoders.run(workloads.wait_at, gate)
        except RotoscopeError as error:
            raised.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(held)
        opened = await reached(gate)
        for pid in decoders.pids:
            os.kill(pid, signal.SIGKILL)
    os.close(opened)
    assert isinstance(raised[0], WorkerLost)
    assert raised[0].code == "too_large"
    assert await decoders.run(workloads.add, 1, 2) == 3


async def test_a_worker_that_was_killed_while_idle_is_replaced(decoders: DecoderPool) -> None:
    await decoders.run(workloads.add, 1, 2)
    pids = decoders.pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert await decoders.run(workloads.add, 1, 2) == 3
    assert not pids & decoders.pids


async def test_a_worker_ends_when_it_is_idle_and_the_next_call_is_answered() -> None:
    decoders = DecoderPool(os.environ, idle_seconds=0.05)
    await decoders.run(workloads.add, 1, 2)
    pids = decoders.pids
    with anyio.fail_after(SECONDS):
        while decoders.pids:
            await anyio.lowlevel.checkpoint()
    await gone(pids)
    assert await decoders.run(workloads.add, 1, 2) == 3
    await decoders.aclose()


async def test_the_cancel_of_a_call_ends_its_worker(decoders: DecoderPool, gate: Path) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(decoders.run, workloads.wait_at, gate)
        opened = await reached(gate)
        pids = decoders.pids
        tasks.cancel_scope.cancel()
    await gone(pids)
    os.close(opened)
    assert not decoders.pids


async def test_closing_ends_every_worker(decoders: DecoderPool) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(decoders.run, workloads.add, number, number)
    pids = decoders.pids
    await decoders.aclose()
    await gone(pids)


async def test_two_calls_run_at_once_and_others_wait_in_order(decoders: DecoderPool, tmp_path: Path) -> None:
    gates = [tmp_path / str(number) for number in range(4)]
    done: list[int] = []

    async def held(number: int) -> None:
        await decoders.run(workloads.wait_at, gates[number])
        done.append(number)

    for place in gates:
        os.mkfifo(place)
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(held, number)
            await anyio.lowlevel.checkpoint()
        for number in (1, 0, 2, 3):
            assert len(decoders.pids) <= 2
            os.close(await reached(gates[number]))
            while len(done) < 1 + (1, 0, 2, 3).index(number):
                await anyio.lowlevel.checkpoint()
    assert done == [1, 0, 2, 3]


async def test_an_answer_that_would_execute_something_is_not_read(decoders: DecoderPool, tmp_path: Path) -> None:
    with pytest.raises(WorkerLost):
        await decoders.run(workloads.take_over, str(tmp_path / "taken"))
    assert not (tmp_path / "taken").exists()
    assert await decoders.run(workloads.add, 1, 2) == 3


async def test_a_worker_sees_no_key_and_no_setting_and_leaves_its_end_to_its_parent(decoders: DecoderPool) -> None:
    names, waits = await decoders.run(workloads.know_environment)
    assert not [name for name in names if "REPLICATE" in name or "ROTOSCOPE" in name or "TOKEN" in name]
    assert waits


@linux
async def test_a_worker_has_no_file_and_no_socket_of_its_parent_open(decoders: DecoderPool, tmp_path: Path) -> None:
    ledger = os.open(tmp_path / "ledger", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(ledger, True)  # as a careless library would
    try:
        found = await decoders.run(workloads.list_descriptors)
    finally:
        os.close(ledger)
    own = ("pipe:", "/dev/null", "/proc/")
    # A shared library of the system's may keep its own file open (libffi does).
    assert not [name for name in found if not name.startswith(own) and ".so" not in Path(name).name]


PARENT = """
import os, sys, anyio, workloads
from pathlib import Path
from rotoscope.media.decoders import DecoderPool

async def main(gate):
    decoders = DecoderPool(os.environ)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(decoders.run, workloads.{work}, *{arguments})
        while not decoders.pids:
            await anyio.lowlevel.checkpoint()
        print(*decoders.pids, flush=True)

anyio.run(main, sys.argv[1])
"""


@linux
@pytest.mark.parametrize(("work", "arguments"), [("wait_at", "[Path(gate)]"), ("spin", "[]")])
async def test_a_worker_ends_with_a_parent_that_is_killed(gate: Path, work: str, arguments: str) -> None:
    code = PARENT.format(work=work, arguments=arguments)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(gate)], stdout=subprocess.PIPE, text=True, env=env
    ) as parent:
        assert parent.stdout is not None
        pids = set(map(int, (await anyio.to_thread.run_sync(parent.stdout.readline)).split()))
        assert pids, "the parent has failed"
        opened = [await reached(gate)] if work == "wait_at" else []
        parent.kill()
    await gone(pids)
    for descriptor in opened:
        os.close(descriptor)


async def reached(gate: Path) -> int:
    """Wait until a worker waits at the gate; closing the descriptor lets it pass."""
    return await anyio.to_thread.run_sync(lambda: os.open(gate, os.O_WRONLY))
