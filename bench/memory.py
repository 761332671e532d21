"""Memory that a large video (500 MB) costs on its way in and out: checked and rewritten, uploaded, downloaded.

Each way runs in a process of its own; what is printed is how much its peak grew over what it had before.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.abc
from figures import arguments, headline

from rotoscope.media.video.videos import clean_video, poster
from rotoscope.providers.http.client import ProviderAccess, Wire
from rotoscope.providers.http.messages import HttpCall

ACCESS = {"p": ProviderAccess("Authorization", "Bearer ", "none-of-yours")}


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def make(path: Path, size: int) -> None:
    """The same few frames of noise again and again: a large video without long encoding."""
    import av
    import numpy as np

    chance = np.random.default_rng(1)
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=24, options={"preset": "ultrafast", "qp": "0", "g": "1"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        packets = []
        for _ in range(3):
            noise = chance.integers(0, 255, (720, 1280, 3), np.uint8)
            packets += stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24"))
        packets += stream.encode()
        contents, (first, second) = [bytes(packet) for packet in packets], (packets[0].dts, packets[1].dts)
        assert first is not None
        assert second is not None
        step = second - first
        for number in range(size // max(map(len, contents))):
            packet = av.Packet(contents[number % len(contents)])
            packet.stream, packet.dts, packet.pts = stream, number * step, number * step
            packet.time_base, packet.is_keyframe = packets[0].time_base, True
            out.mux(packet)


def check(path: Path) -> None:
    clean_video(path, path.with_suffix(".clean.mp4"))
    poster(path)


async def serve(
    handle: Callable[[anyio.abc.SocketStream], Awaitable[None]], use: Callable[[str], Awaitable[None]]
) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        await use(f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}")
        tasks.cancel_scope.cancel()


async def upload(path: Path) -> None:
    async def swallow(stream: anyio.abc.SocketStream) -> None:
        left = path.stat().st_size
        async with stream:
            while left > 0:
                left -= len(await stream.receive(1 << 20))
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async def use(host: str) -> None:
        wire = Wire(ACCESS, frozenset({host}))
        call = HttpCall("PUT", f"http://{host}/put", source=path, patience_seconds=60)
        assert (await wire.send("p", call)).is_success
        await wire.aclose()

    await serve(swallow, use)


async def download(path: Path) -> None:
    async def pour(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % path.stat().st_size)
            async with await anyio.open_file(path, "rb") as file:
                while chunk := await file.read(1 << 20):
                    await stream.send(chunk)

    async def use(host: str) -> None:
        wire = Wire(ACCESS, frozenset({host}))
        got = await wire.download("p", f"http://{host}/v.mp4", path.with_suffix(".down"), 2 * path.stat().st_size)
        assert got.size == path.stat().st_size
        await wire.aclose()

    await serve(pour, use)


def one(way: str, path: Path) -> None:
    import av  # noqa: F401 - its own size is not the video's
    import httpx  # noqa: F401, TID251 - its own size is not the video's

    before = peak()
    if way == "check":
        check(path)
    else:
        anyio.run({"upload": upload, "download": download}[way], path)
    print(peak() - before)


def main(megabytes: int) -> None:
    print(headline(f"memory for a video of {megabytes} MB"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.mp4"
        make(path, megabytes * 1_000_000)
        for way in ("check", "upload", "download"):
            command = [sys.executable, __file__, "--way", way, str(path)]
            grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            print(f"  {way:9} {path.stat().st_size / 1e6:.0f} MB: grew by {grown} MB (to hold: 64)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        one(sys.argv[2], Path(sys.argv[3]))
    else:
        main(int(arguments(__doc__, megabytes=(500, 10, "how large the video is"))["megabytes"]))
