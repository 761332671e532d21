"""A studio with keys that speaks to a sandbox over real sockets, which goes wrong as it is told to."""

import io
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import av
import numpy as np
import pytest
from decoding import InThread
from PIL import Image, ImageDraw

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.contracts.arguments import parse_arguments
from rotoscope.contracts.results import JobResult
from rotoscope.contracts.tools import TOOLS
from rotoscope.models.catalog import manifest_folder
from rotoscope.providers.http.client import ReplyTimeouts
from rotoscope.settings import Settings, read_settings
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

KEYS = {
    "REPLICATE_API_TOKEN": "r8_canary_replicate",
    "FAL_KEY": "canary-fal:0123456789",
    "SEGMIND_API_KEY": "SG_canary_segmind",
    "GATEWAY_API_KEY": "gw_canary_gateway",
}
TEMPO = Intervals(
    lease=3.0,
    heartbeat=0.5,
    poll=0.1,
    change_poll=0.05,
    list_pauses=(0.0, 0.05, 0.1),
    key_refusal_pause=0.05,
    default_result_life=600.0,
)
TIMES = ReplyTimeouts(submit=1.0, ask=0.5, maximum=3.0)
DEADLINE_SECONDS = 20
"""A run that never ends is given up after this; it is also the most that a case may take to the promised state."""


@dataclass(frozen=True)
class Caller:
    """One way to pay: a dialect in one of its forms, with a tool call that is cheap to compute."""

    wire: str
    tool: str
    arguments: dict[str, Any]
    lists: bool = True
    """Whether a lost reply can be looked up."""
    one_shot: bool = False
    """Whether the reply to the paying request is the result itself."""
    cancels: bool = True


@dataclass
class Scene:
    """A sandbox, its address, and where the studio's files are."""

    app: Sandbox
    url: str
    folder: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        bases = {"REPLICATE_BASE_URL": self.url, "FAL_BASE_URL": self.url, "SEGMIND_BASE_URL": self.url}
        bases |= {"GATEWAY_BASE_URL": f"{self.url}/replicate", "ROTOSCOPE_SANDBOX": "never"}
        return {"ROTOSCOPE_HOME": str(self.folder / "rotoscope"), **KEYS, **bases, **self.more}

    @property
    def settings(self) -> Settings:
        return read_settings(self.environment)

    @property
    def posts(self) -> int:
        """How many paying requests have arrived."""
        return sum(self.app.state.counters.posts.values())

    @property
    def accepted(self) -> int:
        """How many predictions were made for them."""
        return len(self.app.state.accepted)

    @property
    def cancels(self) -> int:
        """How often it was told to stop a run."""
        return int(self.app.state.counters.cancels)

    def shorten_deadlines(self) -> None:
        """Every model is given up after a second."""
        own = self.settings.home / "models"
        shipped = {file.name: file for file in (manifest_folder() / "models").glob("*.toml")}
        for file in [*shipped.values(), *own.glob("*.toml")]:
            text = re.sub(r"deadline_seconds = \d+", "deadline_seconds = 1", file.read_text(encoding="utf-8"))
            (own / file.name).write_text(text, encoding="utf-8")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.settings.home / "ledger.sqlite3")) as ledger:
            return ledger.execute(query).fetchall()

    def written(self) -> bytes:
        """Everything that the studio has put on the disk."""
        return b"".join(path.read_bytes() for path in self.settings.home.rglob("*") if path.is_file())

    @asynccontextmanager
    async def studio(self) -> AsyncIterator[Studio]:
        async with AsyncExitStack() as ending, anyio.create_task_group() as tasks:
            roots = stdio_roots(self.settings, self.folder, self.folder)
            studio = open_studio(
                self.settings, roots, tasks, ending, sleep=briefly, intervals=TEMPO, times=TIMES, decoders=InThread()
            )
            studio.start_background(tasks)
            yield studio
            tasks.cancel_scope.cancel()

    async def call(self, studio: Studio, caller: Caller, wait: float = DEADLINE_SECONDS) -> JobResult:
        arguments = parse_arguments(TOOLS[caller.tool].arguments, caller.arguments)
        result = await studio.perform(caller.tool, arguments, "local", wait)
        assert isinstance(result, JobResult)
        return result


async def briefly(seconds: float) -> None:
    await anyio.sleep(min(seconds, 0.02))


@pytest.fixture
def keys() -> tuple[str, ...]:
    return tuple(KEYS.values())


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small picture, a short clip and a mask for it."""
    folder = tmp_path_factory.mktemp("media")
    picture = Image.new("RGB", (96, 64), (60, 120, 70))
    ImageDraw.Draw(picture).ellipse((30, 15, 70, 50), fill=(200, 60, 50))
    picture.save(folder / "picture.png")
    mask = Image.new("L", (96, 64), 0)
    ImageDraw.Draw(mask).rectangle((28, 12, 72, 52), fill=255)
    mask.save(folder / "mask.png")
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        out.mux(stream.encode())
    (folder / "clip.mp4").write_bytes(content.getvalue())
    return folder


@pytest.fixture(scope="session")
def callers(media: Path) -> dict[str, Caller]:
    picture = str(media / "picture.png")
    box = {"left": 28, "top": 12, "right": 72, "bottom": 52}
    clicked = {"image": picture, "points": [{"x": 50, "y": 30}], "model": "sam-v2-image"}
    edit = {"prompt": "a red ball", "video": str(media / "clip.mp4"), "mask": str(media / "mask.png"), "frame_num": 5}
    film = {"prompt": "a red ball rolls", "duration": 4, "resolution": "480p", "generate_audio": False}
    return {
        "replicate": Caller("replicate", "segment_image", {"image": picture, "instruction": "the ball"}),
        "official": Caller("replicate", "generate_video", film),
        "fal": Caller("fal", "segment_image", {"image": picture, "box": box}),
        "segmind v1": Caller("segmind", "segment_image", clicked, one_shot=True, cancels=False),
        "segmind v2": Caller("segmind", "segment_image", clicked | {"model": "sam-v2-later"}, cancels=False),
        "gateway": Caller(
            "gateway",
            "segment_image",
            {"image": picture, "instruction": "the ball", "model": "sa2va@gateway"},
            lists=False,
            cancels=False,
        ),
        "gateway film": Caller(
            "gateway", "edit_video_with_mask", edit | {"model": "prunaai/vace-14b@gateway"}, lists=False, cancels=False
        ),
    }


@pytest.fixture
def scene(tmp_path: Path, media: Path) -> Iterator[Scene]:
    app = build_sandbox(tmp_path / "sandbox", pace=0.0)
    own = tmp_path / "rotoscope" / "models"
    own.mkdir(parents=True)
    shipped = (manifest_folder() / "models" / "sam-v2-image.toml").read_text(encoding="utf-8")
    later = shipped.replace('id = "sam-v2-image"', 'id = "sam-v2-later"').replace('form = "v1"', 'form = "v2"')
    later = later.replace('masks = "$"', 'masks = "image"')
    (own / "later.toml").write_text(later, encoding="utf-8")
    shipped = (manifest_folder() / "models" / "sa2va-4b-image.toml").read_text(encoding="utf-8")
    passed_on = shipped.replace('id = "bytedance/sa2va-4b-image"', 'id = "sa2va"').replace('"replicate"', '"gateway"')
    (own / "gateway.toml").write_text(passed_on.replace('form = "version"', 'form = "official"'), encoding="utf-8")
    with serve_in_thread(app) as url:
        yield Scene(app, url, tmp_path, {"ROTOSCOPE_ROOTS": f"{media}"})
