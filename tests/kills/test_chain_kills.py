"""Processes that are killed while they drive a chain: each of its jobs is paid for once at most, and none is lost."""

import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from engine_media import make_scenery
from ledger_rows import parse_json
from shared_ledger import SharedLedger
from soak import IS_SOAK

pytestmark = pytest.mark.anyio
POINTS = 100
# `make test` takes a part of the points, `make soak` all of them.
POINTS_ON = {"sqlite": POINTS if IS_SOAK else 8, "postgresql": POINTS if IS_SOAK else 4}
SEED = int(os.environ.get("ROTOSCOPE_SOAK_SEED", "13"))
AT_ONCE = 8  # chains: many processes that start together take longer than a provider's reply may


@dataclass(frozen=True)
class Point:
    """When the processes of a chain are killed: the first at a step of its own; the second too, where that is named.

    `again`: the second one has the same call, as from a client that got no answer.
    """

    first: int
    second: int | None
    again: bool


def choose_points(steps: int, number: int) -> list[Point]:
    """Steps from all over a chain, no step twice; at every fourth the process that goes on is killed too."""
    chance = random.Random(SEED)
    firsts = [chance.sample(range(1, steps + 1), min(POINTS, steps)), chance.choices(range(1, steps + 1), k=POINTS)]
    return [
        Point(at, chance.randint(1, steps // 2) if n % 4 == 3 else None, chance.random() < 0.5)
        for n, at in enumerate([*firsts[0], *firsts[1]][:number])
    ]


@dataclass
class Chain:
    """One call of an edit by `target`, on a ledger of its own; its words are in no other call."""

    shared: SharedLedger
    name: str
    film: Path

    @property
    def call(self) -> tuple[str, dict[str, Any]]:
        words = {"target": f"the disc of {self.name}", "prompt": f"an empty room without {self.name}"}
        return "edit_video_with_mask", {"video": str(self.film), **words}

    @property
    def log(self) -> Path:
        return self.shared.folder / f"{self.name}.log"

    async def run(self, *, opens: bool, at: int = 0) -> None:
        """Start a process, and wait until it is dead or there is nothing to do for anybody."""
        self.shared.folder.mkdir(exist_ok=True)
        pid = self.shared.start_process([self.call] if opens else [], at=at, log=str(self.log))
        with anyio.fail_after(120):
            while lives(pid) and not self.is_over():  # noqa: ASYNC110 - it happens in another process
                await anyio.sleep(0.1)
        self.shared.kill(pid)

    def states(self) -> dict[str, str]:
        return dict(self.shared.rows("SELECT tool, state FROM jobs"))

    def is_over(self) -> bool:
        states = self.states()
        is_unclear = "needs_review" in states.values()  # what waits for it waits for a person
        return bool(states) and (is_unclear or not {"queued", "running"}.intersection(states.values()))

    def has_unsent_intent(self) -> bool:
        """Whether an intent stands of which the provider has accepted nothing; its list would show the run else."""
        intents = self.shared.rows("SELECT count(*), count(prediction_id) FROM submissions")
        return bool(intents) and intents[0][0] > intents[0][1] and sum(self.paid()) < intents[0][0]

    def paid(self) -> tuple[int, int]:
        """How often the step and the edit were accepted by the provider."""
        bought = self.shared.bought()
        return bought[self.call[1]["target"]], bought[self.call[1]["prompt"]]


async def survive(chain: Chain, point: Point) -> list[str]:
    """Kill the processes of a chain at a point and let another one finish; what is wrong then, in words."""
    await chain.run(opens=True, at=point.first)
    was_unknown = chain.has_unsent_intent()
    if point.second is not None:
        await chain.run(opens=point.again or not chain.states(), at=point.second)
        was_unknown |= chain.has_unsent_intent()
    await chain.run(opens=point.again or not chain.states())
    return list(find_faults(chain, was_unknown))


def find_faults(chain: Chain, was_unknown: bool) -> list[str]:
    """What is not as it must be after a chain has been finished by a process that was not killed.

    A review is needed where a process died between an intent and the acceptance, and nowhere else; then nothing was
    paid for that job or for what waits for it.
    """
    states, ledger, faults = chain.states(), chain.shared, list[str]()
    step, edit = states.get("segment_video"), states.get("edit_video_with_mask")
    ends = {(False, "succeeded", "succeeded")} if not was_unknown else {
        (True, "needs_review", "queued"), (True, "succeeded", "needs_review")
    }  # fmt: skip
    if (was_unknown, step, edit) not in ends or len(ledger.rows("SELECT id FROM jobs")) != 2:
        faults.append(f"{step=}, {edit=}, {was_unknown=}")
    codes = {
        parse_json(error)["code"] for (error,) in ledger.rows("SELECT error FROM jobs WHERE state = 'needs_review'")
    }
    if codes != ({"submit_unknown"} if was_unknown else set()):
        faults.append(f"the reviews are about {codes}")
    paid = chain.paid()
    if paid != (int(step == "succeeded"), int(edit == "succeeded")):
        faults.append(f"paid {paid}")
    if is_file_lost(ledger):
        faults.append("a file is lost")
    open_amounts = ledger.rows(
        "SELECT 1 FROM reservations JOIN jobs ON jobs.id = job_id "
        "WHERE (state = 'succeeded') <> (settled_at IS NOT NULL)"
    )
    waits = ledger.rows(
        "SELECT 1 FROM job_waits JOIN jobs one ON one.id = job_id JOIN jobs other ON other.id = on_job_id "
        "WHERE one.tool = 'edit_video_with_mask' AND other.tool = 'segment_video'"
    )
    if open_amounts or len(waits) != 1 or not ledger.whole():
        faults.append("the ledger is not whole")
    return faults


def is_file_lost(ledger: SharedLedger) -> bool:
    """Whether a job has succeeded of which a file is not there, or is not what was written down."""
    kept = ledger.rows("SELECT tool, sha256 FROM outputs JOIN jobs ON jobs.id = job_id WHERE state = 'succeeded'")
    done = ledger.rows("SELECT tool FROM jobs WHERE state = 'succeeded'")
    vault = ledger.home / "vault"
    files = [list(vault.glob(f"{sha256[:2]}/{sha256}*")) for _, sha256 in kept]
    wholes = [
        len(found) == 1 and hashlib.sha256(found[0].read_bytes()).hexdigest() == sha256
        for found, (_, sha256) in zip(files, kept, strict=True)
    ]
    return not all(wholes) or {tool for tool, _ in kept} != {tool for (tool,) in done}


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("shared", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
async def test_a_chain_survives_kills_at_any_step_of_its_jobs_and_each_job_is_paid_once(shared: SharedLedger) -> None:
    """A process dies before or after one of its transactions, requests and downloads; another one goes on."""
    film = make_scenery(shared.folder / "clip.mp4").path
    whole = Chain(shared.elsewhere("whole"), "whole", film)
    await whole.run(opens=True)
    assert find_faults(whole, was_unknown=False) == []
    steps = len(whole.log.read_text().splitlines())
    turns, wrong = anyio.CapacityLimiter(AT_ONCE), dict[str, list[str]]()

    async def try_point(name: str, point: Point) -> None:
        async with turns:
            chain = Chain(shared.elsewhere(name), name, film)
            if faults := await survive(chain, point):
                wrong[f"{name}: {point}"] = faults

    async with anyio.create_task_group() as tasks:
        for number, point in enumerate(choose_points(steps, POINTS_ON[shared.kind])):
            tasks.start_soon(try_point, f"chain {number:03}", point)
    assert wrong == {}
