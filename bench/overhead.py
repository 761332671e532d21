"""A tool call's own overhead: everything but the provider and the pixels, on SQLite, through an in-memory MCP client.

The provider is an ASGI app that answers at once with a mask that was made before; the pixel work (decoding, measuring,
painting) is timed apart and taken off, so what is left is protocol, planning, ledger, wire and delivery.
"""

import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from figures import arguments, headline
from mcp import Client

from rotoscope.composition import make_studio_opener, stdio_roots
from rotoscope.media.image.masks import encode_mask_png
from rotoscope.models.catalog import manifest_folder
from rotoscope.providers.http.outgoing import RateLimiter
from rotoscope.providers.polling import MIN_PAUSE
from rotoscope.server.app import build_server
from rotoscope.server.clients.profiles import read_client_profiles
from rotoscope.settings import read_settings
from rotoscope.workers.messages import WorkerAnswer
from rotoscope.workers.process import WorkerProcess

WARM = 3


class InstantProvider:
    """Speaks just enough of fal's wire to answer at once."""

    def __init__(self, picture: bytes) -> None:
        self.picture = picture

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        path, host = scope["path"], "https://sandbox.invalid"
        kind, status, body = b"application/json", 200, b"{}"
        if path.endswith(".png"):
            kind, body = b"image/png", self.picture
        elif path.endswith("/initiate"):
            body = json.dumps({"upload_url": f"{host}/put", "file_url": f"{host}/in.png"}).encode()
        elif path.endswith("/status"):
            body = json.dumps({"status": "COMPLETED", "logs": []}).encode()
        elif "/requests/" in path:
            body = json.dumps({"image": {"url": f"{host}/out.png"}}).encode()
        elif scope["method"] == "POST":
            body = json.dumps({"request_id": str(uuid.uuid4()), "status": "IN_QUEUE"}).encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body})


def timed(spent: list[float], compute: Callable[..., WorkerAnswer]) -> Callable[..., WorkerAnswer]:
    """What workers say of how long their work took; the way to them and back is our own."""

    def run(*arguments: Any) -> WorkerAnswer:
        answer = compute(*arguments)
        spent[-1] += answer.seconds
        return answer

    return run


def timed_turns(spent: list[float], turn: Callable[..., Any]) -> Callable[..., Any]:
    """The limiter's turns, with what was waited for them added up: it is the provider's limit, and no work of ours."""

    async def run(*given: Any) -> None:
        begun = time.perf_counter()
        await turn(*given)
        spent[-1] += time.perf_counter() - begun

    return run


async def main(calls: int) -> None:
    photo = files("rotoscope").joinpath("assets", "astronaut.jpg").read_bytes()
    mask = np.zeros((512, 512), bool)
    mask[100:400, 100:400] = True
    pixels: list[float] = []
    WorkerProcess.compute = timed(pixels, WorkerProcess.compute)  # type: ignore[method-assign]
    turns: list[float] = []
    RateLimiter.wait_turn = timed_turns(turns, RateLimiter.wait_turn)  # type: ignore[method-assign]
    whole: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "photo.jpg"
        file.write_bytes(photo)
        settings = read_settings({"ROTOSCOPE_HOME": f"{home}/r", "ROTOSCOPE_INLINE_SECONDS": "30"})
        roots = stdio_roots(settings, Path(home), Path(home))

        opener = make_studio_opener(settings, roots, InstantProvider(encode_mask_png(mask)))
        server = build_server(opener, read_client_profiles(manifest_folder() / "clients.toml"), 30)
        async with Client(server) as client:
            for number in range(calls + WARM):
                pixels.append(0.0)
                turns.append(0.0)
                begun = time.perf_counter()
                # Another box each time: an equal request would get the last result once more.
                box = {"left": 1, "top": 1, "right": 200 + number, "bottom": 300}
                arguments = {"image": str(file), "box": box}
                answer = await client.call_tool("segment_image", arguments)
                whole.append(time.perf_counter() - begun)
                assert answer.structured_content is not None
                assert answer.structured_content["status"] == "succeeded", answer.content
    # The first question waits for the shortest pause of the schedule, and each for its turn: no work of ours.
    pauses = MIN_PAUSE + statistics.median(turns[WARM:])
    spent = zip(whole[WARM:], pixels[WARM:], turns[WARM:], strict=True)
    own = [call - pixel - turn - MIN_PAUSE for call, pixel, turn in spent]
    print(headline(f"own overhead of a call, {calls} calls"))
    print(f"  whole call       {statistics.median(whole[WARM:]) * 1000:6.1f} ms")
    print(f"  pixel work       {statistics.median(pixels[WARM:]) * 1000:6.1f} ms")
    print(f"  waiting by plan  {pauses * 1000:6.1f} ms")
    print(f"  own overhead     {statistics.median(own) * 1000:6.1f} ms median (to hold: 50)")


if __name__ == "__main__":
    anyio.run(main, int(arguments(__doc__, calls=(60, 2, "how many calls"))["calls"]))
