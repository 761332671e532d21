"""What a chain costs beyond its jobs: from the end of the step that finds a target to the paid request of the edit.

The provider is an ASGI app that answers at once; both jobs go through the real dispatcher and the real workers. The
work on media (reading the mask film, fitting it to the clip) and the waits for a turn at the provider are timed apart.
What is left is the ledger, the claim of the job that waited, two stages and the requests of an upload.

PostgreSQL is the one that `ROTOSCOPE_TEST_DATABASE_URL` names, or a cluster of this run's own; without either, SQLite
is measured alone.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import anyio
import numpy as np
from engine_media import write_video
from figures import arguments, headline, percentile
from scripted_provider import Answer, ScriptedProvider

from engine import find_postgresql
from rotoscope.composition import open_studio, stdio_roots
from rotoscope.contracts.arguments import EditVideoWithMask, parse_arguments
from rotoscope.providers.http.outgoing import RateLimiter
from rotoscope.settings import read_settings
from rotoscope.store.ledger import Ledger
from rotoscope.studio.studio import Studio
from rotoscope.workers.process import WorkerProcess

WARM, HOLD_MS = 2, 100
WIDTH, HEIGHT, FRAMES, RATE = 96, 64, 17, 16
FILM_URL = "https://sandbox.invalid/out.mp4"
RUNS = " ".join(f"{row * WIDTH + 20} 30" for row in range(10, 50))
FINDER = """
id = "bench/finder"
title = "Finder"
tool = "segment_video"
source = "bench"
rank = 1
[[routes]]
provider = "replicate"
form = "official"
endpoint = "bench/finder"
[inputs.clip]
kind = "video"
required = true
argument = "video"
[inputs.words]
kind = "string"
argument = "instruction"
[outputs]
rle = "$"
[timing]
typical_seconds = 5
deadline_seconds = 60
[example]
clip = "https://example.com/a.mp4"
words = "the ball"
"""


@dataclass
class Stopwatch:
    """Seconds of each chain between the end of its step and the paid request of its edit.

    Attributes:
        ended_at: when the ledger had the end of the latest step; None: there is none, or its edit was sent.
        whole: of each chain.
        media: the work on media within it.
        turns: the waits for a turn at the provider within it.
    """

    ended_at: float | None = None
    whole: list[float] = field(default_factory=list)
    media: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)

    def begin(self) -> None:
        self.ended_at = time.perf_counter()
        self.media.append(0.0)
        self.turns.append(0.0)

    def end(self) -> None:
        assert self.ended_at is not None
        self.whole.append(time.perf_counter() - self.ended_at)
        self.ended_at = None

    def own(self) -> list[float]:
        parts = zip(self.whole[WARM:], self.media[WARM:], self.turns[WARM:], strict=True)
        return [whole - media - turns for whole, media, turns in parts]


class InstantProvider(ScriptedProvider):
    """Finds and edits at once."""

    def __init__(self, watch: Stopwatch, film: bytes) -> None:
        super().__init__()
        self.watch = watch
        self.files["/out.mp4"] = film
        self.edits: set[str] = set()
        self.respond = self.answer_at_once

    async def answer_at_once(self, method: str, path: str, body: bytes) -> Answer:
        if method == "GET" and path.startswith("/v1/predictions/"):
            run = path.split("/")[3]
            output = FILM_URL if run in self.edits else [RUNS] * FRAMES
            return 200, self.full({"status": "succeeded", "output": output}, run)
        is_edit = method == "POST" and b"src_mask" in body
        if is_edit:
            self.watch.end()
        found = await self.answer(method, path, body)
        if is_edit:
            self.edits.add(f"p{self.posts}")
        return found


def watch_work(watch: Stopwatch, compute: Callable[..., Any]) -> Callable[..., Any]:
    """Workers that say how long their work took; the way to them and back is our own."""

    def run(*given: Any) -> Any:
        answer = compute(*given)
        if watch.ended_at is not None:
            watch.media[-1] += answer.seconds
        return answer

    return run


def watch_turns(watch: Stopwatch, turn: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*given: Any) -> None:
        begun = time.perf_counter()
        await turn(*given)
        if watch.ended_at is not None:
            watch.turns[-1] += time.perf_counter() - begun

    return run


def watch_steps(watch: Stopwatch, advance: Callable[..., Any]) -> Callable[..., Any]:
    async def run(ledger: Ledger, job: Any, patch: Any) -> Any:
        advanced = await advance(ledger, job, patch)
        if advanced.tool == "segment_video" and advanced.state == "succeeded":
            watch.begin()
        return advanced

    return run


async def run_chain(studio: Studio, clip: Path, number: int) -> None:
    given = {"prompt": f"room {number}", "model": "prunaai/vace-14b@replicate", "target": f"ball {number}"}
    asked = parse_arguments(EditVideoWithMask, {"video": str(clip), **given})
    opening = await studio.start(await studio.plan("edit_video_with_mask", asked, "local"))
    job = await studio.wait(opening.job, 60)
    assert job.state == "succeeded", job.error


async def measure(database: str | None, chains: int, watch: Stopwatch) -> None:
    chance = np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "r" / "models").mkdir(parents=True)
        (home / "r" / "models" / "finder.toml").write_text(FINDER, encoding="utf-8")
        clip = write_video(
            home / "clip.mp4", [chance.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)] * FRAMES, Fraction(RATE)
        )
        environment = {"ROTOSCOPE_HOME": str(home / "r"), "ROTOSCOPE_MAX_USD_PER_DAY": "none"}
        settings = read_settings(environment | ({"ROTOSCOPE_DATABASE_URL": database} if database else {}))
        roots = stdio_roots(settings, home, home)
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            studio = open_studio(settings, roots, tasks, closing, InstantProvider(watch, clip.read_bytes()))
            studio.start_background(tasks)
            for number in range(chains + WARM):
                await run_chain(studio, clip, number)
            tasks.cancel_scope.cancel()


def report(name: str, watch: Stopwatch) -> None:
    own = watch.own()
    middle = {"step's end to the edit's request": watch.whole, "media work": watch.media, "turns": watch.turns}
    for what, seconds in middle.items():
        print(f"  {name:10} {what:33} {statistics.median(seconds[WARM:]) * 1000:6.1f} ms")
    late = f"{percentile(own, 0.95) * 1000:.1f} ms for 95 %"
    print(
        f"  {name:10} {'own overhead':33} {statistics.median(own) * 1000:6.1f} ms median (to hold: {HOLD_MS}), {late}"
    )


def main(chains: int) -> None:
    print(headline(f"a chain's own time between its jobs, {chains} chains"))
    compute, turn, advance = WorkerProcess.compute, RateLimiter.wait_turn, Ledger.advance
    with find_postgresql() as url:
        for name, database in (("SQLite", None), ("PostgreSQL", url)):
            if name == "PostgreSQL" and database is None:
                continue
            watch = Stopwatch()
            WorkerProcess.compute = watch_work(watch, compute)  # type: ignore[method-assign]
            RateLimiter.wait_turn = watch_turns(watch, turn)  # type: ignore[method-assign]
            Ledger.advance = watch_steps(watch, advance)  # type: ignore[method-assign]
            anyio.run(partial(measure, database, chains, watch))
            report(name, watch)


if __name__ == "__main__":
    main(int(arguments(__doc__, chains=(30, 2, "how many chains"))["chains"]))
