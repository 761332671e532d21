"""Finishing a result of many masks on one large photo: seconds and memory, in a process as a worker is one.

Each mask is a PNG as a model gives it. It is decoded, read, measured, written again, described in COCO and painted on
the photo. Memory is how much the peak of the process grew over what it had with its libraries loaded.
"""

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import arguments, headline

from rotoscope.jobs.stages.finish_masks import MaskWork, finish_masks
from rotoscope.store.records import Artifact, Output

SHAPE = (4, 3)
RAW = Output("raw", 0, Artifact("0" * 64, "image/png", 1))


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def make(folder: Path, megapixels: float, masks: int) -> None:
    """A photo of noise and waves, and as many areas, each of its own size and place."""
    import numpy as np
    from PIL import Image, ImageDraw

    unit = (megapixels * 1e6 / (SHAPE[0] * SHAPE[1])) ** 0.5
    width, height = round(SHAPE[0] * unit), round(SHAPE[1] * unit)
    chance = np.random.default_rng(1)
    noise = chance.integers(0, 255, (max(height // 8, 1), max(width // 8, 1), 3), np.uint8)
    Image.fromarray(noise).resize((width, height)).save(folder / "photo.jpg", quality=90)
    for number in range(masks):
        area = Image.new("L", (width, height))
        x, y = chance.integers(0, width * 3 // 4), chance.integers(0, height * 3 // 4)
        sides = chance.integers(min(width, height) // 8, min(width, height) // 2, 2)
        ImageDraw.Draw(area).ellipse((x, y, x + sides[0], y + sides[1]), fill=255)
        area.save(folder / f"mask-{number}.png")


def finish(folder: Path) -> None:
    """What a worker does, and what it took."""
    import cv2
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO((folder / "mask-0.png").read_bytes())) as first:  # loads what decodes
        np.asarray(cv2.transpose(np.asarray(first.crop((0, 0, 8, 8)))))
    raw = [(path, RAW) for path in sorted(folder.glob("mask-*.png"))]
    work = MaskWork(
        raw,
        folder / "photo.jpg",
        "photo.jpg",
        text=None,
        label="thing",
        score=None,
        is_description=False,
        with_overlay=True,
    )
    before, begun, worked = peak(), time.perf_counter(), time.process_time()
    done = finish_masks(work, folder / "made")
    seconds = [time.perf_counter() - begun, time.process_time() - worked]
    print(json.dumps([*seconds, peak() - before, len(done.outputs) - 2]))


def main(megapixels: float, masks: int) -> None:
    print(headline(f"{masks} masks of {megapixels:g} megapixels"))
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), megapixels, masks)
        command = [sys.executable, __file__, "--folder", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        seconds, worked, grown, count = json.loads(done)
    print(f"  finished {count} masks: {seconds:.2f} s (to hold: 5), of the processor {worked:.2f} s")
    print(f"  memory: grew by {grown} MB (to hold: 300)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--folder"]:
        finish(Path(sys.argv[2]))
    else:
        sizes = arguments(__doc__, megapixels=(12.0, 0.3, "of the photo"), masks=(50, 3, "how many there are"))
        main(sizes["megapixels"], int(sizes["masks"]))
