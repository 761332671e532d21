"""The proof of an edit: what it costs for a clip at 480p, and how near the original is that was laid back.

With --clips, real clips are encoded again and laid back, too: the first frames of each MP4 in a folder.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import av
import numpy as np
from figures import arguments, headline

from rotoscope.media.decoders import EDIT_FILM, DecoderPool
from rotoscope.media.edits.films import GivenMask
from rotoscope.media.edits.proving import EditProof, EditWork, prove_edit, remake_film

CLIPS = Path("/work/shared/media")
MODEL_SIZE = 832, 480
Pixels = np.ndarray


def moving_pattern(size: tuple[int, int], frames: int) -> Iterator[Pixels]:
    """A clip with noise, which no encoder keeps."""
    draw = np.random.default_rng(1)
    across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    for number in range(frames):
        wave = 128 + 60 * np.sin((across + 3 * number) / 23) + 40 * np.cos(down / 17)
        grain = draw.normal(0, 4, (size[1], size[0], 3))
        yield np.clip(np.stack((wave, 255 - wave, wave / 2), axis=2) + grain, 0, 255).astype(np.uint8)


def real_frames(path: Path, frames: int) -> Iterator[Pixels]:
    with av.open(str(path)) as clip:
        for number, frame in enumerate(clip.decode(video=0)):
            if number >= frames:
                return
            yield frame.to_ndarray(format="rgb24")


def write_edit(frames: Iterator[Pixels], folder: Path, crf: int, size: tuple[int, int] | None) -> EditWork:
    """The clip, the mask of a box that moves, and what a model might give: the box inverted, all encoded again."""
    writers: dict[str, tuple[Any, Any]] = {}
    for number, pixels in enumerate(frames):
        height, width = pixels.shape[:2]
        box = slice(height // 4, height // 2), slice(width // 5 + 2 * number, width // 5 + 2 * number + width // 4)
        mask, edited = np.zeros_like(pixels), pixels.copy()
        mask[box], edited[box] = 255, 255 - pixels[box]
        for name, shown, options in (
            ("clip", pixels, {"crf": "14", "preset": "veryfast"}),
            ("mask", mask, {"crf": "10", "preset": "ultrafast"}),
            ("edit", edited, {"crf": str(crf), "preset": "veryfast"}),
        ):
            if name not in writers:
                file = av.open(str(folder / f"{name}.mp4"), "w")
                track = file.add_stream("libx264", rate=Fraction(16), options=options)
                track.width, track.height = size if size is not None and name == "edit" else (width, height)
                track.pix_fmt = "yuv420p"
                writers[name] = file, track
            file, track = writers[name]
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(track.width, track.height, "yuv420p")
            file.mux(track.encode(frame))
    for file, track in writers.values():
        file.mux(track.encode(None))
        file.close()
    return EditWork(folder / "edit.mp4", folder / "clip.mp4", GivenMask(folder / "mask.mp4", True), None, True)


def address_space(pids: set[int]) -> float:
    """The most address space of a process until now, in MB, which is what its limit counts."""
    most = 0.0
    for pid in pids:
        with suppress(OSError, StopIteration):
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            most = max(most, int(next(line for line in status.splitlines() if line.startswith("VmPeak")).split()[1]))
    return most / 1e3


async def measured(step: Callable[..., EditProof], *given: object) -> tuple[EditProof, float, float]:
    """What a step gives in a new worker, its seconds, and its megabytes over those of the loaded libraries."""
    pool = DecoderPool({})
    await pool.run(str, limits=EDIT_FILM)  # the libraries are loaded: the baseline
    before = most = address_space(pool.pids)

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, address_space(pool.pids))
            await anyio.sleep(0.02)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        begun = time.perf_counter()
        proof = await pool.run(step, *given, limits=EDIT_FILM)
        seconds = time.perf_counter() - begun
        tasks.cancel_scope.cancel()
    await pool.aclose()
    return proof, seconds, most - before


async def run(name: str, frames: Iterator[Pixels], crf: int, size: tuple[int, int] | None) -> None:
    with tempfile.TemporaryDirectory() as made:
        work = write_edit(frames, Path(made), crf, size)
        proof, seconds, megabytes = await measured(prove_edit, work)
        print(f"  {name}: measured in {seconds:.1f} s, {megabytes:.0f} MB; {numbers(proof)}", flush=True)
        remade, seconds, megabytes = await measured(remake_film, work, proof, Path(made) / "film")
        what = f"laid back in {seconds:.1f} s, {megabytes:.0f} MB; {numbers(remade)}"
        print(f"  {name}: {what} (to hold: 40 dB)", flush=True)


def numbers(proof: EditProof) -> str:
    assert proof.changes is not None, proof.warnings
    inside, outside, psnr = (proof.changes[name] for name in ("changed_inside", "changed_outside", "psnr_outside_db"))
    return f"inside {inside:.2%}, outside {outside:.3%}, {psnr} dB"


async def main(frames: int, clips: bool) -> None:
    print(headline(f"proof of an edit, {frames} frames"))
    await run("832x480", moving_pattern(MODEL_SIZE, frames), 20, None)
    if not clips:
        return
    for path in sorted(CLIPS.glob("*.mp4")):
        for crf in (18, 23, 28, 34):
            await run(f"{path.name}, crf {crf}", real_frames(path, frames), crf, None)
        await run(f"{path.name} as 832x480", real_frames(path, frames), 23, MODEL_SIZE)
    await run("3840x2160", moving_pattern((3840, 2160), min(frames, 24)), 23, (1280, 720))


if __name__ == "__main__":
    asked = arguments(__doc__, frames=(81, 9, "frames"), clips=(1, 0, "1: also real clips and 4K"))
    anyio.run(main, int(asked["frames"]), bool(asked["clips"]))
