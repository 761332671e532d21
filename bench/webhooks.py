"""Webhooks: the lag from the end at the provider to our result, and the requests that a job took, with and without.

The sandbox plays Replicate at real speed; each length of run goes three times, side by side: polled alone, with its
webhooks, and with webhooks that were named and never come. Lengths differ from the expected one by ten percent at most.
The lag is shown until a question has met the end (seen), and until the result is ours, with collecting and measuring.
Requests are the questions about a run.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from figures import arguments, headline, percentile
from lag import learned, manifest
from starlette.applications import Starlette

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.composition.webhooks import make_webhook_routes
from rotoscope.contracts.arguments import SegmentImage
from rotoscope.media.image.masks import encode_mask_png
from rotoscope.settings import read_settings
from rotoscope.store.records import OpenResult
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.core import FORCED_OUTCOME
from rotoscope_sandbox.predictions import ForcedOutcome

LENGTHS = (3.0, 12.0, 30.0, 177.0)
WAYS = ("polled", "webhooks", "never come")
PUBLIC_URL = "http://localhost:8080"
_BETWEEN_STARTS = 1.5  # seconds


@dataclass
class Provider:
    """The sandbox, with the length of each run and what becomes of its webhook; it counts the questions about runs.

    Attributes:
        lengths: of the next runs, in seconds.
        webhook: what becomes of webhooks: as usual, or `never`.
        app: where our route is.
        asked: how often each run was asked about.
        seen_at: when a question first met the end of each run, in Unix seconds.
    """

    loop: asyncio.AbstractEventLoop
    folder: Path
    webhook: str = ""
    app: Starlette | None = None
    lengths: list[float] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    seen_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sandbox: Sandbox = build_sandbox(
            self.folder, pace=0.0, public_url="https://sandbox.invalid", post_webhook=self.post
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if scope["method"] == "POST" and path == "/v1/predictions":
            scope[FORCED_OUTCOME] = ForcedOutcome(run_seconds=self.lengths.pop(0), webhook=self.webhook)
        await self.sandbox(scope, receive, send)
        if scope["method"] == "GET" and path.startswith("/v1/predictions/"):
            name = path.rpartition("/")[2]
            self.asked[name] = self.asked.get(name, 0) + 1
            if self.ended_at(name) is not None:
                self.seen_at.setdefault(name, time.time())

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int | None:
        """Bring a webhook to our route; the sandbox calls this in a thread."""
        assert self.app is not None
        return asyncio.run_coroutine_threadsafe(
            call_route(self.app, url.removeprefix(PUBLIC_URL), body, headers), self.loop
        ).result(30)

    def ended_at(self, name: str) -> float | None:
        known = self.sandbox.state.core.store.get(name)
        ended = known.end_time(time.time())
        return None if ended is None else float(ended)


async def call_route(app: Starlette, path: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Post to an app in this process; the status of its answer."""
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": raw}
    await app(scope, receive, send)
    return status


@dataclass(frozen=True)
class Run:
    """One run: the seconds from its end until a question met it and until its result was ours; its questions."""

    seen: float
    ours: float
    asked: int


@dataclass
class Side:
    """One way to learn of ends, with a ledger and a provider of its own."""

    way: str
    provider: Provider
    studio: Studio
    picture: Path

    async def measure(self, seconds: float, runs: int) -> Sequence[Run]:
        """Some runs of about that length, begun one after the other."""
        chance, found = random.Random(1), list[Run]()
        model = f"bench/{seconds:g}"
        await learned(self.studio, model, seconds)

        async def run_once(number: int) -> None:
            words = f"number {number}"
            given = SegmentImage(image=str(self.picture), instruction=words, overlay=False, model=model)
            opening = await self.studio.start(await self.studio.plan("segment_image", given, "bench"))
            assert isinstance(opening, OpenResult)
            job = await self.studio.wait(opening.job, 1000)
            ours = time.time()
            assert job.state == "succeeded", job.error
            assert job.accepted is not None
            name = job.accepted.ticket.id
            ended = self.provider.ended_at(name)
            assert ended is not None
            found.append(Run(self.provider.seen_at[name] - ended, ours - ended, self.provider.asked[name]))

        async with anyio.create_task_group() as several:
            for number in range(runs):
                self.provider.lengths.append(seconds * chance.uniform(0.9, 1.1))
                several.start_soon(run_once, number)
                await anyio.sleep(_BETWEEN_STARTS)
        return found


async def open_side(way: str, top: Path, tasks: Any, closing: AsyncExitStack) -> Side:
    home = top / way.replace(" ", "-")
    models = home / "r" / "models"
    models.mkdir(parents=True)
    for seconds in LENGTHS:
        (models / f"{seconds:g}.toml").write_text(manifest(f"{seconds:g}", seconds), encoding="utf-8")
    picture = home / "picture.png"
    picture.write_bytes(encode_mask_png(np.eye(64, dtype=bool)))  # small: what the sandbox computes is not measured
    named = {"ROTOSCOPE_HOME": f"{home}/r", "ROTOSCOPE_SANDBOX": "always", "ROTOSCOPE_PUBLIC_URL": PUBLIC_URL}
    settings = read_settings(named)
    webhook = "never" if way == "never come" else ""
    provider = Provider(asyncio.get_running_loop(), home / "sandbox", webhook)
    studio = open_studio(
        settings, stdio_roots(settings, home, home), tasks, closing, provider, takes_webhooks=way != "polled"
    )

    async def find_studio() -> Studio:
        return studio

    provider.app = Starlette(routes=make_webhook_routes(find_studio))
    studio.start_background(tasks)
    return Side(way, provider, studio, picture)


async def main(runs: int, longest: float) -> None:
    print(headline("ends by webhook"))
    with tempfile.TemporaryDirectory() as top:
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            sides = [await open_side(way, Path(top), tasks, closing) for way in WAYS]
            for seconds in LENGTHS:
                if seconds <= longest:
                    await compare(sides, seconds, runs)
            tasks.cancel_scope.cancel()


async def compare(sides: Sequence[Side], seconds: float, runs: int) -> None:
    """Measure all sides at the same time, and print a line for each."""
    found: dict[str, Sequence[Run]] = {}

    async def measure(side: Side) -> None:
        found[side.way] = await side.measure(seconds, runs)

    async with anyio.create_task_group() as together:
        for side in sides:
            together.start_soon(measure, side)
            await anyio.sleep(_BETWEEN_STARTS / len(sides))
    for way in WAYS:
        seen, ours, asked = ([getattr(run, name) for run in found[way]] for name in ("seen", "ours", "asked"))
        print(
            f"  about {seconds:3g} s, {runs:2} runs, {way:10}: "
            f"seen median {statistics.median(seen):.2f} s, p95 {percentile(seen, 0.95):.2f} s; "
            f"result median {statistics.median(ours):.2f} s, p95 {percentile(ours, 0.95):.2f} s; "
            f"requests median {statistics.median(asked):.0f}, at most {max(asked)}",
            flush=True,
        )


if __name__ == "__main__":
    given = arguments(
        __doc__,
        runs=(10, 1, "how many runs of each length, side by side"),
        longest=(LENGTHS[-1], LENGTHS[0], "the longest runs to measure, in seconds"),
    )
    anyio.run(main, int(given["runs"]), given["longest"])
