"""Lag: from the moment a provider has finished to our result, and how many requests that took, at real speed.

A provider in Replicate's shape finishes predictions after a set time. Long ones (about 177 s, as in the Seedance
document) run side by side, short ones (about 1 s) one after the other. A result is ours when its job is `succeeded`,
so collecting and measuring are part of the lag.
"""

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
import numpy as np

from rotoscope.compose import open_roots, open_studio
from rotoscope.contracts.arguments import SegmentImage
from rotoscope.jobs.job import Job, NewJob
from rotoscope.media.masks import mask_png
from rotoscope.models.catalog import manifest_folder
from rotoscope.settings import read_settings
from rotoscope.studio import Studio

LONG, SHORT = 177.0, 1.0
OUT = "https://sandbox.invalid/out.png"


class TimedProvider:
    """Finishes each prediction after a set number of seconds; keeps when, and how often it was asked."""

    def __init__(self) -> None:
        self.lengths: list[float] = []
        self.finished_at: dict[str, float] = {}
        self.asked: dict[str, int] = {}
        mask = np.zeros((512, 512), bool)
        mask[100:400, 100:400] = True
        self.mask = mask_png(mask)

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
    job = await studio.start("segment_image", arguments, "bench")
    assert isinstance(job, Job)
    job = await studio.wait(job, 1000)
    ended = time.time()
    assert job.state == "succeeded", job.error
    known = job.data["ticket"]
    assert isinstance(known, dict)
    lags[str(known["id"])] = ended - provider.finished_at[str(known["id"])]


def tell(name: str, lags: Sequence[float], asked: Sequence[int], hold: str) -> None:
    p95 = sorted(lags)[int(0.95 * (len(lags) - 1))]
    print(
        f"  {name:6} {len(lags):3} runs: lag median {statistics.median(lags):.2f} s, p95 {p95:.2f} s; "
        f"requests median {statistics.median(asked):.0f}, at most {max(asked)} (to hold: {hold})"
    )


async def main(long_runs: int, short_runs: int) -> None:
    chance = random.Random(1)
    provider = TimedProvider()
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print(f"lag behind the provider, {datetime.now(UTC):%Y-%m-%d}, {machine}")
    with tempfile.TemporaryDirectory() as home:
        models = Path(home) / "r" / "models"
        models.mkdir(parents=True)
        for name, seconds in (("long", LONG), ("short", SHORT)):
            (models / f"{name}.toml").write_text(manifest(name, seconds), encoding="utf-8")
        (Path(home) / "photo.jpg").write_bytes(files("rotoscope").joinpath("assets", "astronaut.jpg").read_bytes())
        settings = read_settings({"ROTOSCOPE_HOME": f"{home}/r", "ROTOSCOPE_SANDBOX": "always"})
        roots = open_roots(settings, Path(home), Path(home))
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            studio = open_studio(settings, roots, tasks, closing, provider)
            for name, runs, seconds, hold in (
                ("short", short_runs, SHORT, "p95 0.15 s"),
                ("long", long_runs, LONG, "p95 1 s, 100 requests"),
            ):
                lags: dict[str, float] = {}
                given = SegmentImage(image=f"{home}/photo.jpg", instruction="x", overlay=False, model=f"bench/{name}")
                await learned(studio, f"bench/{name}", seconds)
                if name == "short":
                    for _ in range(runs):
                        provider.lengths.append(seconds * chance.uniform(0.9, 1.1))
                        await lag_of(studio, provider, given, lags)
                else:
                    provider.lengths += [seconds * chance.uniform(0.9, 1.1) for _ in range(runs)]
                    async with anyio.create_task_group() as several:
                        for _ in range(runs):
                            several.start_soon(lag_of, studio, provider, given, lags)
                            await anyio.sleep(0.2)
                tell(name, list(lags.values()), [provider.asked[one] for one in lags], hold)
            tasks.cancel_scope.cancel()


async def learned(studio: Studio, model: str, seconds: float) -> None:
    """Expectations come from past runs: here, from one."""
    new = NewJob("segment_image", model, "replicate", "bench", True, {}, {})
    job = await studio.rooms.ledger.open(new)
    await studio.rooms.ledger.note_seconds(job, "", seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", type=int, default=20, help="long runs, side by side")
    parser.add_argument("--short", type=int, default=30, help="short runs, one after the other")
    asked = parser.parse_args()
    anyio.run(main, asked.long, asked.short)
