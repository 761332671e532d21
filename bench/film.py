"""The sandbox's film engine: 5 s of 864x496 at 24 frames a second, and a masked edit at 854x480, a frame."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import anyio
from figures import arguments, headline
from PIL import Image, ImageDraw

from rotoscope.cli.demo_clip import BALL_BOX, FRAMES, draw_clip
from rotoscope.cli.output import perform_to_end
from rotoscope.contracts.arguments import EditVideoWithMask, GenerateVideo
from rotoscope.contracts.results import JobList, VideoResult
from rotoscope.settings import read_settings


async def timed(environ: Mapping[str, str], tool: str, arguments: GenerateVideo | EditVideoWithMask) -> VideoResult:
    result = await perform_to_end(read_settings(environ), tool, arguments)
    assert not isinstance(result, JobList)
    assert isinstance(result, VideoResult)
    assert result.status == "succeeded", result.error
    return result


async def main(rounds: int) -> None:
    print(headline(f"film engine, {rounds} rounds"))
    with tempfile.TemporaryDirectory() as home:
        environ = {"ROTOSCOPE_HOME": f"{home}/r", "ROTOSCOPE_SANDBOX": "always"}
        for _ in range(rounds):
            begun = time.perf_counter()
            asked = GenerateVideo(prompt="a storm over the sea", duration=5, resolution="480p", seed=1)
            await timed(environ, "generate_video", asked)
            print(f"  5 s of 864x496, whole call: {time.perf_counter() - begun:.2f} s (to hold: 6)")
        clip, mask = Path(home) / "clip.mp4", Path(home) / "mask.png"
        draw_clip(clip)
        image = Image.new("L", (832, 480), 0)
        ImageDraw.Draw(image).ellipse(
            (BALL_BOX["left"], BALL_BOX["top"], BALL_BOX["right"], BALL_BOX["bottom"]), fill=255
        )
        image.save(mask)
        for _ in range(rounds):
            begun = time.perf_counter()
            edit = EditVideoWithMask(prompt="an empty room", video=str(clip), mask=str(mask), seed=1)
            await timed(environ, "edit_video_with_mask", edit)
            took = time.perf_counter() - begun
            print(
                f"  masked edit at 832x480, {FRAMES} frames, whole call: {took / FRAMES:.3f} s a frame (to hold: 0.2)"
            )


if __name__ == "__main__":
    anyio.run(main, int(arguments(__doc__, rounds=(3, 1, "how many films of each kind"))["rounds"]))
