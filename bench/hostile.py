"""What hostile files cost, whether a server answers meanwhile, and what it weighs.

Files that are small and want much are given to the worker processes as the intake gives them; for each the time until
it is taken or refused is printed, and how far the worker's resident memory rose above that of one whose libraries are
loaded. Then a real server is given many photos at once, and pings; and its own memory after a job is read.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
from figures import arguments, headline, percentile

from rotoscope.errors import RotoscopeError
from rotoscope.media.decoders import FILM, PICTURE, DecoderPool
from rotoscope.media.preparing import PreparedKind, prepare_media

QUICKLY = {"mp4": {"preset": "ultrafast"}, "webm": {"deadline": "realtime", "cpu-used": "8"}}
SAMPLE_SECONDS = 0.002
OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


def flat(folder: Path, name: str, mode: str, pixels: int, **options: Any) -> Path:
    from PIL import Image

    side = int(pixels**0.5)
    Image.MAX_IMAGE_PIXELS = None
    Image.new(mode, (side, side)).save(folder / name, **options)
    return folder / name


def scans(folder: Path, count: int, pixels: int) -> Path:
    """A progressive JPEG whose last scan comes again and again."""
    made = flat(folder, "plain.jpg", "L", pixels, progressive=True).read_bytes()
    last = made[made.rindex(b"\xff\xda") : -2]
    place = folder / f"jpeg of {count} scans.jpg"
    place.write_bytes(made[:-2] + last * count + b"\xff\xd9")
    return place


def chunks(folder: Path, count: int) -> Path:
    """A PNG with many chunks of text."""
    made = flat(folder, "plain.png", "L", 64 * 64).read_bytes()
    text = struct.pack("!I", 0) + b"tEXt" + struct.pack("!I", zlib.crc32(b"tEXt"))
    place = folder / f"png of {count} chunks.png"
    place.write_bytes(made[:33] + text * count + made[33:])
    return place


def comments(folder: Path, count: int) -> Path:
    made = flat(folder, "plain.jpg", "L", 64 * 64).read_bytes()
    place = folder / f"jpeg of {count} comments.jpg"
    place.write_bytes(made[:2] + b"\xff\xfe\x00\x02" * count + made[2:])
    return place


def frames(folder: Path, count: int) -> Path:
    """A GIF of many frames of one pixel."""
    made = flat(folder, "plain.gif", "P", 1).read_bytes()
    frame = made[made.index(b",") : -1]
    place = folder / f"gif of {count} frames.gif"
    place.write_bytes(made[:-1] + frame * count + b";")
    return place


def film(folder: Path, codec: str, width: int, height: int, count: int) -> Path:
    """One black frame, many times."""
    import av

    suffix = "webm" if codec == "libvpx" else "mp4"
    place = folder / f"{suffix} of {count} x {width}x{height}.{suffix}"
    with av.open(str(place), "w") as out:
        stream = out.add_stream(codec, rate=24, options=QUICKLY[suffix])
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame(width, height, "yuv420p")
        for number in range(count):
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return place


def hostile(folder: Path, size: float) -> Iterator[tuple[PreparedKind, Path]]:
    """Files of which each wants more than it shows; `size` scales them."""
    pixels, many = int(64e6 * size), int(1e6 * size) + 10
    yield "image", scans(folder, many // 50, pixels)
    yield "image", comments(folder, many)
    yield "image", chunks(folder, many)
    yield "image", frames(folder, many)
    yield "image", flat(folder, "flat.webp", "RGB", pixels, lossless=True)
    yield "image", flat(folder, "rgba.png", "RGBA", pixels)
    yield "image", flat(folder, "cmyk.jpg", "CMYK", pixels)
    yield "image", flat(folder, "sixteen bits.png", "I;16", pixels)
    side = max(int(8192 * size) // 2 * 2, 64)
    yield "video", film(folder, "libx264", side, side // 2, 10)
    yield "video", film(folder, "libvpx", side, side // 2, int(20 * size) + 5)
    yield "video", film(folder, "libvpx", 320, 240, int(4_000 * size) + 5)


def resident(pid: int, line: str = "VmHWM") -> float:
    """MB; 0 for a process that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) / 1000 for row in status.splitlines() if row.startswith(line)), 0.0)


@contextmanager
def watched(pids: Callable[[], set[int]]) -> Iterator[list[float]]:
    """The highest memory of any worker meanwhile, in MB."""
    most, done = [0.0], threading.Event()

    def look() -> None:
        while not done.wait(SAMPLE_SECONDS):
            most[0] = max([most[0], *map(resident, pids())])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


async def cost(kind: PreparedKind, file: Path, target: Path) -> tuple[float, float, str]:
    """Seconds, MB over the baseline, and what became of it."""
    decoders = DecoderPool(os.environ)
    limits = PICTURE if kind == "image" else FILM
    for _ in range(2):  # after the first piece of work a worker loads what others may need
        await decoders.run(len, (), limits=limits)
    baseline = max(map(resident, decoders.pids), default=0.0)
    begun = time.perf_counter()
    with watched(lambda: decoders.pids) as most:
        try:
            await decoders.run(prepare_media, kind, file, target, limits=limits)
            became = "taken"
        except RotoscopeError as error:
            became = error.code
    seconds = time.perf_counter() - begun
    await decoders.aclose()
    return seconds, max(most[0] - baseline, 0.0), became


async def costs(size: float) -> None:
    worst = [0.0, 0.0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, file in hostile(folder, size):
            seconds, memory, became = await cost(kind, file, folder / "target")
            print(f"  {file.name:34} {file.stat().st_size / 1e6:7.2f} MB {seconds:6.2f} s {memory:6.0f} MB  {became}")
            worst = [max(worst[0], seconds), max(worst[1], memory)]
    print(f"  the worst of them                             {worst[0]:6.2f} s {worst[1]:6.0f} MB  (to hold: 5 and 256)")


class Session:
    """A server of its own, spoken to over its pipes; replies are read by a thread, as they come."""

    def __init__(self, home: str) -> None:
        env = {**os.environ, "ROTOSCOPE_HOME": f"{home}/r", "HOME": home, "ROTOSCOPE_SANDBOX": "always"}
        command = [sys.executable, "-m", "rotoscope", "serve"]
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=none, env=env, cwd=home)
        self.replies: dict[int, tuple[float, Any]] = {}
        self._came = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            with self._came:
                self.replies[message.get("id", -1)] = (time.perf_counter(), message)
                self._came.notify_all()

    def tell(self, message: Mapping[str, object]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, number: int, method: str, params: Mapping[str, object]) -> tuple[float, Any]:
        """The seconds until the reply, and the reply."""
        begun = time.perf_counter()
        self.tell({"id": number, "method": method, "params": params})
        return self.waited(number, begun)

    def waited(self, number: int, begun: float) -> tuple[float, Any]:
        with self._came:
            assert self._came.wait_for(lambda: number in self.replies, 100)
        came, message = self.replies[number]
        return came - begun, message

    def job(self, number: int, given: Mapping[str, object]) -> None:
        """Segment a picture, to the end."""
        reply = self.ask(number, "tools/call", {"name": "segment_image", "arguments": given})[1]
        while (found := reply["result"]["structuredContent"])["status"] in ("queued", "running"):
            number += 1
            wanted = {"job_id": found["job_id"], "wait_seconds": 3}
            reply = self.ask(number, "tools/call", {"name": "get_job", "arguments": wanted})[1]
        assert found["status"] == "succeeded", found

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


def served(photos: int) -> None:
    from PIL import Image

    with tempfile.TemporaryDirectory() as home:
        photo = Image.open(str(files("rotoscope").joinpath("assets", "astronaut.jpg")))
        session = Session(home)
        session.ask(1, "initialize", OPENING)
        session.tell({"method": "notifications/initialized"})
        box = {"left": 20, "top": 5, "right": 420, "bottom": 512}
        photo.save(f"{home}/first.jpg")
        session.job(2, {"image": f"{home}/first.jpg", "box": box})
        weight = resident(session.process.pid, "VmRSS")
        for number in range(photos):
            photo.resize((1000, 1000 + number)).save(f"{home}/{number}.jpg")
        for number in range(photos):
            given = {"image": f"{home}/{number}.jpg", "box": box, "dry_run": True}
            session.tell(
                {"id": 100 + number, "method": "tools/call", "params": {"name": "segment_image", "arguments": given}}
            )
        pings, number = [], 10_000
        while not all(100 + one in session.replies for one in range(photos)):
            number += 1
            pings.append(session.ask(number, "ping", {})[0])
            time.sleep(0.01)
        session.end()
    slowest, usual = max(pings, default=0.0), percentile(pings or [0.0], 0.5)
    times = f"{usual * 1000:.0f} ms median, {slowest * 1000:.0f} ms at most (to hold: 1000)"
    print(f"  a ping while {photos} photos are decoded: {times}")
    print(f"  the server's own memory after a job: {weight:.0f} MB (to hold: 110)")


def main(size: float, photos: int) -> None:
    print(headline("hostile files: time, memory of the worker over its baseline, and what became of them"))
    anyio.run(costs, size)
    served(photos)


if __name__ == "__main__":
    sizes = arguments(
        __doc__,
        size=(1.0, 0.001, "the size of the files, 1 is the largest that is of use"),
        photos=(50, 3, "how many photos are decoded while the server is pinged"),
    )
    main(sizes["size"], int(sizes["photos"]))
