"""Small media, the ways to pay, and a sandbox whose faults a test chooses; the ledger's database is a parameter."""

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from fault_scene import Caller, FaultScene
from PIL import Image, ImageDraw
from postgresql import PostgresqlServer

from rotoscope.models.catalog import manifest_folder
from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

__all__ = ["callers", "media", "scene"]


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
        "replicate": Caller(
            "replicate",
            "segment_image",
            {"image": picture, "instruction": "the ball", "model": "bytedance/sa2va-4b-image"},
        ),
        "official": Caller("replicate", "generate_video", film | {"model": "bytedance/seedance-2.0@replicate"}),
        "fal": Caller("fal", "segment_image", {"image": picture, "box": box, "model": "fal-ai/sam2/image"}),
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
def scene(request: pytest.FixtureRequest, tmp_path: Path, media: Path) -> Iterator[FaultScene]:
    """Its parameter is the database that keeps the ledger: `sqlite`, which is the default, or `postgresql`."""
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
        found = FaultScene(app, url, tmp_path, {"ROTOSCOPE_ROOTS": f"{media}"})
        if getattr(request, "param", "sqlite") == "sqlite":
            yield found
            return
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        with server.new_ledger() as database:
            found.more["ROTOSCOPE_DATABASE_URL"] = database
            yield found
