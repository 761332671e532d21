"""Kill -9 at every step of a job, from its claim to its end, for each form in which requests are sent.

A first process is killed at its k-th touch of the world: before and after each commit, before a request leaves, once
the provider has acted, once the reply is read, around each change of the vault. A fresh process then takes over. It
must find the paid run, or say that nobody can know; nothing is ever paid twice.
"""

import atexit
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from decoding import InThread
from engine_media import make_scenery
from films import bars, film
from numpy.typing import NDArray
from PIL import Image
from simulated import Killed, Process, Seams, Time, no_threads

from rotoscope.cli.demo_clip import draw_clip
from rotoscope.composition import load_user_catalog, open_studio, stdio_roots
from rotoscope.contracts.arguments import (
    Arguments,
    DescribeWithMasks,
    EditVideoWithMask,
    GenerateVideo,
    SegmentImage,
    SegmentVideo,
)
from rotoscope.models.access import SANDBOX_URL, resolve_access
from rotoscope.providers.dialects import DIALECTS
from rotoscope.providers.http.client import Download, ProviderAccess, Wire
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.settings import read_settings
from rotoscope.store.records import FINAL_STATES, OpenResult
from rotoscope.store.timing import Intervals
from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.predictions import Outcome
from rotoscope_sandbox.workers import WorkerPool

PHOTO = Path(__file__).parents[2] / "src" / "rotoscope" / "assets" / "astronaut.jpg"
TEMPO = Intervals(poll=5.0, change_poll=5.0)  # what is done for other processes is not what dies here
FORMS = ("replicate-official", "replicate-version", "fal-queue", "fal-film", "segmind-v1", "gateway", "chain", "parts")
RUNS = {"chain": 2, "parts": 2}  # how many are paid for; else one
STRIDES = {"parts": 4}  # it has twice as many steps, and each decodes films: every fourth of them


def request(form: str, home: Path) -> tuple[str, Arguments]:
    picture, clip, mask = home / "small.png", home / "clip.mp4", home / "mask.png"
    if form == "replicate-version":
        return "segment_image", SegmentImage(
            image=str(picture), instruction="the helmet", model="bytedance/sa2va-4b-image", overlay=False
        )
    if form == "segmind-v1":
        points = [{"x": 30, "y": 30}]
        return "segment_image", SegmentImage.model_validate({"image": str(picture), "points": points})
    if form == "fal-queue":
        return "describe_with_masks", DescribeWithMasks(image=str(picture))
    if form in ("fal-film", "chain", "parts"):
        return film_request(form, home)
    if form == "replicate-official":
        return "generate_video", GenerateVideo(prompt="a calm sea", duration=4, resolution="480p")
    draw_clip(clip)
    still = Image.new("L", (832, 480), 0)
    still.paste(255, (100, 100, 300, 300))
    still.save(mask)
    return "edit_video_with_mask", EditVideoWithMask(prompt="an empty room", video=str(clip), mask=str(mask))


def film_request(form: str, home: Path) -> tuple[str, Arguments]:
    if form == "parts":
        films = [
            film(home / f"{name}.mp4", size=(64, 48), frames=90, rate=16, draw=draw)
            for name, draw in (("long", bars), ("long-mask", half))
        ]
        return "edit_video_with_mask", EditVideoWithMask(
            prompt="an empty room", video=str(films[0]), mask=str(films[1]), model="prunaai/vace-14b@replicate"
        )
    clip = str(make_scenery(home / "clip.mp4").path)
    if form == "chain":
        return "edit_video_with_mask", EditVideoWithMask(prompt="an empty room", video=clip, target="the disc")
    return "segment_video", SegmentVideo(video=clip, instruction="the disc")


def half(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A mask of the left half."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = 255
    return pixels


class SeamedWire(Wire):
    """The wire into a sandbox in this process; it dies before a request, once that was acted on, and after it."""

    def __init__(self, seams: Seams, world: "World", accesses: dict[str, ProviderAccess]) -> None:
        host = SANDBOX_URL.rpartition("/")[2]
        super().__init__(accesses, frozenset({host}), self._app)
        self._seams, self._world = seams, world

    async def send(
        self,
        provider: str,
        call: HttpCall,
        before_send: Callable[[], None] | None = None,
        *,
        pays: bool = False,
        key: str | None = None,
    ) -> Reply:
        self._seams.cross(f"before {call.method}")
        answer = await super().send(provider, call, before_send, pays=pays, key=key)
        self._seams.cross(f"after the reply to {call.method}")
        return answer

    async def download(self, provider: str, url: str, into: Path, limit: int) -> Download:
        self._seams.cross("before the download")
        found = await super().download(provider, url, into, limit)
        self._seams.cross("after the download")
        return found

    async def _app(self, scope: dict[str, Any], receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        if self._seams.dead:
            raise Killed
        said: list[Any] = []

        async def keep(message: Any) -> None:
            said.append(message)

        await self._world.app(scope, receive, keep)
        self._seams.cross(f"the provider has acted on {scope['method']}")
        for message in said:
            await send(message)


@dataclass
class World:
    """One sandbox and the processes that use it, on one simulated clock."""

    folder: Path
    time: Time
    app: Any

    def process(self, name: str) -> Process:
        settings = read_settings({"ROTOSCOPE_HOME": str(self.folder), "ROTOSCOPE_SANDBOX": "always"})
        catalog = shipped()
        access = resolve_access(settings, catalog.providers)
        accesses = {
            name: ProviderAccess(one.auth.header, one.auth.prefix, access.keys[name])
            for name, one in catalog.providers.items()
        }
        dialects = {name: DIALECTS[one.dialect](access.base_urls[name]) for name, one in catalog.providers.items()}
        return Process(
            self.time, name, self.folder, catalog, dialects,
            lambda seams: SeamedWire(seams, self, accesses), frozenset({"sandbox"}), TEMPO,
        )  # fmt: skip

    def read(self, query: str) -> Any:
        with closing(sqlite3.connect(_ledger(self.folder))) as ledger:
            return ledger.execute(query).fetchone()

    def job(self) -> tuple[str, str]:
        """What has become of the request: of a chain, of its last job, or of the one that a person must look at."""
        state, error = self.read(
            "SELECT state, error FROM jobs ORDER BY state = 'needs_review' DESC, "
            "id IN (SELECT on_job_id FROM job_waits) LIMIT 1"
        )
        return state, json.loads(error)["code"] if error and json.loads(error) else ""

    def over(self) -> bool:
        return self.job()[0] in FINAL_STATES


@cache
def shipped() -> Any:
    return load_user_catalog(read_settings({"ROTOSCOPE_HOME": "/nowhere"}))


@cache
def scratch() -> Path:
    """In memory, where there is such a place: no disk is tested."""
    place = Path(tempfile.mkdtemp(prefix="crash-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    atexit.register(shutil.rmtree, place)
    return place


@cache
def opened(form: str) -> Path:
    """A home in which one job was opened and nobody has driven it."""
    home = scratch() / form
    home.mkdir()
    with Image.open(PHOTO) as photo:
        photo.resize((64, 64)).save(home / "small.png")
    settings = read_settings({"ROTOSCOPE_HOME": str(home), "ROTOSCOPE_SANDBOX": "always"})

    async def ask() -> None:
        async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
            studio = open_studio(settings, stdio_roots(settings, home, home), tasks, stack, decoders=InThread())
            tool, arguments = request(form, home)
            opening = await studio.start(await studio.plan(tool, arguments, "local"))
            assert isinstance(opening, OpenResult)
            tasks.cancel_scope.cancel()

    anyio.run(ask)
    return home


class Remembered:
    """What each model made once: computing it again for every crash would test nothing."""

    def __init__(self, take: Callable[[WorkerPool, Any], None]) -> None:
        self._take = take
        self._made: dict[str, tuple[dict[str, bytes], str, Outcome]] = {}

    def take(self, crew: WorkerPool, order: Any) -> None:
        if order.model not in self._made:
            self._take(crew, order)
            crew.wait(order.id, 60)
            found = crew._store.get(order.id)
            assert found is not None
            assert found.outcome is not None
            assert found.outcome.failure is None, found.outcome.failure
            place = crew._store._predictions / order.id
            files = {one.name: one.read_bytes() for one in place.iterdir() if one.is_file() and one.suffix != ".json"}
            self._made[order.model] = (files, order.id, found.outcome)
            return
        files, name, outcome = self._made[order.model]
        for file, content in files.items():
            crew._store.save_output(order.id, file, content)
        crew._store.progress(order.id, crew._clock(), [])
        output = json.loads(json.dumps(outcome.output).replace(name, order.id))
        crew._store.finish(order.id, replace(outcome, output=output, ended=crew._clock()))


@pytest.fixture(scope="module", autouse=True)
def remembered() -> Iterator[None]:
    made = Remembered(WorkerPool.take)
    with no_threads(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkerPool, "take", lambda crew, order: made.take(crew, order))  # noqa: PLW0108 - it binds the crew
        yield


def fresh(form: str) -> World:
    """The job as it was opened, with a provider that knows nothing. The file stays: its connections are used again."""
    first, folder, time = opened(form), scratch() / f"{form}-run", Time()
    for part in ("vault", "sandbox"):
        shutil.rmtree(folder / part, ignore_errors=True)
    shutil.copytree(first / "vault", folder / "vault") if (first / "vault").is_dir() else folder.mkdir(exist_ok=True)
    with (
        closing(sqlite3.connect(first / "ledger.sqlite3")) as kept,
        closing(sqlite3.connect(_ledger(folder))) as ledger,
    ):
        kept.backup(ledger)
        ledger.execute("UPDATE jobs SET created_at = ?", (time.wall(),))
        ledger.commit()
    return World(folder, time, build_sandbox(folder / "sandbox", pace=0.0, clock=time.wall, public_url=SANDBOX_URL))


def _ledger(folder: Path) -> Path:
    return folder / "ledger.sqlite3"


@cache
def steps(form: str) -> tuple[str, ...]:
    """What a process touches from its start to the end of the job."""
    world = fresh(form)
    process = world.process("whole")
    world.time.run(600, world.over)
    crossed = tuple(process.seams.crossed)
    world.time.close()
    assert world.job() == ("succeeded", "")
    return crossed


def dies_and_is_followed(form: str, number: int) -> tuple[str, str, int]:
    """How a job ends whose first process dies at a step; and how it should, and what was paid."""
    world = fresh(form)
    first = world.process("first")
    first.seams.kill_at = number
    world.time.run(600, lambda: first.seams.dead)
    assert first.seams.dead
    intents, unnamed = world.read("SELECT count(*), count(*) - count(prediction_id) FROM submissions")
    paid = len(world.app.state.accepted)
    listed = shipped().providers[world.read("SELECT provider FROM jobs")[0]].can_list
    unknown = bool(unnamed) and not (paid == intents and listed)  # of a chain only the latest run can be unnamed
    world.process("second")
    world.time.run(600, world.over)
    world.time.close()
    state, code = world.job()
    assert code == ("submit_unknown" if state == "needs_review" else "")
    paid = len(world.app.state.accepted)
    assert state == "needs_review" or paid == RUNS.get(form, 1)
    assert world.read("SELECT min(settled_at IS NOT NULL) FROM reservations")[0] == (state == "succeeded")
    return state, "needs_review" if unknown else "succeeded", paid


@pytest.mark.parametrize("form", FORMS)
def test_a_job_survives_a_kill_at_every_step_and_is_paid_once(form: str) -> None:
    """Only where an intent stands without an id, and the provider's list cannot show the run, a person must look."""
    wrong = []
    for number, step in list(enumerate(steps(form), start=1))[:: STRIDES.get(form, 1)]:
        state, should, paid = dies_and_is_followed(form, number)
        if (state != should) or paid > RUNS.get(form, 1):
            wrong.append(f"{number} {step}: {state}, not {should}; paid {paid}")
    assert not wrong
