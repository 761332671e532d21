"""A provider in Replicate's shape whose model computes its output from the very files that were uploaded for it."""

import io
import json
from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from scripted_provider import Answer, ScriptedProvider

__all__ = ["StandInModel", "read_frames", "write_frames"]

_RUNS = "/v1/predictions/p"


class StandInModel(ScriptedProvider):
    """A model; a test says in `compute` what it makes of an input.

    Attributes:
        uploads: the content of every uploaded file, by its address.
        compute: the final state of a run, from its number (from 1 on) and its input.
    """

    def __init__(self, compute: Callable[[int, dict[str, Any]], dict[str, Any]]) -> None:
        super().__init__()
        self.uploads: dict[str, bytes] = {}
        self.compute = compute
        self.ends: dict[int, dict[str, Any]] = {}
        self.respond = self.answer_run

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Any
    ) -> None:
        if scope["path"] != "/v1/files":
            await super().__call__(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        boundary = body.partition(b"\r\n")[0]
        content = next(part for part in body.split(boundary) if b'name="content"' in part).partition(b"\r\n\r\n")[2]
        url = f"https://sandbox.invalid/v1/files/f{len(self.uploads)}"
        self.uploads[url] = content.removesuffix(b"\r\n")
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps({"id": "f", "urls": {"get": url}}).encode()})

    async def answer_run(self, method: str, path: str, body: bytes) -> Answer:
        """The answer to one request: a run has ended when it is asked about for the first time."""
        if method == "GET" and path.startswith(_RUNS):
            number = int(path.removeprefix(_RUNS))
            return 200, self.full(self.ends[number], f"p{number}")
        answer = await self.answer(method, path, body)
        if method == "POST" and not path.endswith("/cancel"):
            self.ends[self.posts] = self.compute(self.posts, self.inputs[-1])
        return answer


def read_frames(content: bytes) -> list[np.ndarray]:
    """The frames of a film, height x width x 3 in RGB."""
    with av.open(io.BytesIO(content), "r") as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def write_frames(frames: Sequence[np.ndarray], rate: int) -> bytes:
    """An MP4 of RGB frames, without loss but for the colours' half size."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as file:
        track = file.add_stream("libx264", rate=Fraction(rate), options={"qp": "0", "preset": "ultrafast"})
        assert isinstance(track, av.VideoStream)
        track.height, track.width = frames[0].shape[:2]
        track.pix_fmt = "yuv420p"
        for pixels in frames:
            file.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(track.encode(None))
    return target.getvalue()
