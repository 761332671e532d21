"""Lag: from the moment a provider has finished to our result, and how many requests that took, at real speed.

A provider in Replicate's shape finishes predictions after a set time, ten percent more or less than usual. Runs of
about a second go one after the other; those of 3, 12, 30 and 177 s (as in the Seedance document) side by side, each
length apart. A result is ours when its job is `succeeded`, so collecting and measuring are part of the lag.
"""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from figures import arguments, headline, percentile

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.contracts.arguments import SegmentImage
from rotoscope.media.image.masks import encode_mask_png
from rotoscope.models.catalog import manifest_folder
from rotoscope.settings import read_settings
from rotoscope.store.durations import record_duration, run_kind
from rotoscope.store.job_data import JobPlan
from rotoscope.store.records import NewJob, OpenResult
from rotoscope.studio.studio import Studio

LENGTHS = (1.0, 3.0, 12.0, 30.0, 177.0)
HOLDS = {1.0: "p95 0.15 s", 30.0: "p95 0.5 s, 60 requests", 177.0: "p95 1 s, 83 requests"}
FIRST = 30.0
FIRST_HOLDS = {30.0: "1 s, 60 requests"}
OUT = "https://sandbox.invalid/out.png"


class TimedProvider:
    """Finishes each prediction after a set number of seconds; keeps when, and how often it was asked."""

    def __init__(self) -> None:
        self.lengths: list[float] = []
        self.finished_at: dict[str, float] = {}
        self.asked: dict[str, int] = {}
        mask = np.zeros((512, 512), bool)
        mask[100:400, 100:400] = True
        self.mask = encode_mask_png(mask)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        path, body = scope["path"], self.mask
        if path == "/v1/files":
            body = json.dumps({"id": "f", "urls": {"get": OUT}}).encode()
        elif scope["method"] == "POST":
            name = f"p{len(self.finished_at)}"
            self.finished_at[name] = time.time() + self.lengths.pop(0)
            self.asked[name] = 0
            body = self.state(name, "starting")
        elif path.startswith("/v1/predictions/"):
            name = path.rpartition("/")[2]
            self.asked[name] += 1
            body = self.state(name, "succeeded" if time.time() >= self.finished_at[name] else "processing")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def state(self, name: str, status: str) -> bytes:
        output = {"img": OUT, "response": "Sure, [SEG]."} if status == "succeeded" else None
        return json.dumps({"id": name, "status": status, "output": output, "logs": "", "error": None}).encode()


def manifest(name: str, seconds: float) -> str:
    shipped = (manifest_folder() / "models" / "sa2va-4b-image.toml").read_text(encoding="utf-8")
    renamed = shipped.replace('id = "bytedance/sa2va-4b-image"', f'id = "bench/{name}"')
    return renamed.replace("typical_seconds = 1.1", f"typical_seconds = {seconds}")


async def lag_of(studio: Studio, provider: TimedProvider, arguments: SegmentImage, lags: dict[str, float]) -> None:
    opening = await studio.start(await studio.plan("segment_image", arguments, "bench"))
    assert isinstance(opening, OpenResult)
    job = await studio.wait(opening.job, 1000)
    ended = time.time()
    assert job.state == "succeeded", job.error
    assert job.accepted is not None
    lags[job.accepted.ticket.id] = ended - provider.finished_at[job.accepted.ticket.id]


def tell(
    seconds: float, lags: dict[str, float], provider: TimedProvider, which: str, holds: Mapping[float, str]
) -> None:
    late, asked = list(lags.values()), [provider.asked[one] for one in lags]
    hold = f" (to hold: {holds[seconds]})" if seconds in holds else ""
    print(
        f"  {which} {seconds:3g} s, {len(late):2} runs: lag median {statistics.median(late):.2f} s, "
        f"p95 {percentile(late, 0.95):.2f} s; "
        f"requests median {statistics.median(asked):.0f}, at most {max(asked)}{hold}"
    )


async def measure_first(studio: Studio, provider: TimedProvider, home: str, seconds: float) -> None:
    """A first run, of whose length nothing but a guess is known, and the guess is wrong."""
    lags, model = dict[str, float](), "bench/unknown"
    provider.lengths.append(seconds)
    given = SegmentImage(image=f"{home}/photo.jpg", instruction="a first one", overlay=False, model=model)
    await lag_of(studio, provider, given, lags)
    tell(seconds, lags, provider, "a first run of", FIRST_HOLDS)


async def measure(studio: Studio, provider: TimedProvider, home: str, seconds: float, runs: int) -> None:
    chance, lags = random.Random(1), dict[str, float]()
    model = f"bench/{seconds:g}"
    await learned(studio, model, seconds)
    async with anyio.create_task_group() as several:
        for number in range(runs):
            # Equal requests would be one job.
            words = f"number {number}"
            given = SegmentImage(image=f"{home}/photo.jpg", instruction=words, overlay=False, model=model)
            provider.lengths.append(seconds * chance.uniform(0.9, 1.1))
            if seconds == LENGTHS[0]:
                await lag_of(studio, provider, given, lags)
            else:
                several.start_soon(lag_of, studio, provider, given, lags)
                await anyio.sleep(0.2)
    tell(seconds, lags, provider, "about", HOLDS)


async def main(runs: int, short: int, longest: float) -> None:
    provider = TimedProvider()
    print(headline("lag behind the provider"))
    with tempfile.TemporaryDirectory() as home:
        models = Path(home) / "r" / "models"
        models.mkdir(parents=True)
        for seconds in LENGTHS:
            (models / f"{seconds:g}.toml").write_text(manifest(f"{seconds:g}", seconds), encoding="utf-8")
        (models / "unknown.toml").write_text(manifest("unknown", 7.0), encoding="utf-8")
        (Path(home) / "photo.jpg").write_bytes(files("rotoscope").joinpath("assets", "astronaut.jpg").read_bytes())
        settings = read_settings({"ROTOSCOPE_HOME": f"{home}/r", "ROTOSCOPE_SANDBOX": "always"})
        roots = stdio_roots(settings, Path(home), Path(home))
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            studio = open_studio(settings, roots, tasks, closing, provider)
            await measure_first(studio, provider, home, min(longest, FIRST))
            for seconds in LENGTHS:
                if seconds <= longest:
                    await measure(studio, provider, home, seconds, short if seconds == LENGTHS[0] else runs)
            tasks.cancel_scope.cancel()


async def learned(studio: Studio, model: str, seconds: float) -> None:
    """Expectations come from past runs: here, from three."""
    opening = await studio.context.ledger.open(
        NewJob("segment_image", model, "replicate", "bench", True, {}, JobPlan())
    )
    kind, database = run_kind(opening.job), studio.context.ledger._database  # noqa: SLF001 - no run has to end for that
    for number in range(3):
        await database.transact(
            partial(record_duration, job_id=f"{opening.job.id}-{number}", kind=kind, seconds=seconds, now=time.time())
        )


if __name__ == "__main__":
    asked = arguments(
        __doc__,
        runs=(20, 1, "how many runs of each length, side by side"),
        short=(30, 2, "how many runs of a second, one after the other"),
        longest=(LENGTHS[-1], LENGTHS[1], "the longest runs to measure, in seconds"),
    )
    anyio.run(main, int(asked["runs"]), int(asked["short"]), asked["longest"])
