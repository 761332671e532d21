"""The sandbox's box masks by the object net and by colours, side by side: time, memory, and agreement with hand-made
ones.

Pictures are brought to 854x480 (or 480x854). Pairs of a picture and a mask made by people (`NAME.jpg`, `NAME.png`,
white on black) may lie in a folder, which `--pairs` names; the box is then the mask's own.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from figures import arguments, headline
from numpy.typing import NDArray

from rotoscope.settings import read_settings
from rotoscope_sandbox.vision.net_masks import overlap
from rotoscope_sandbox.vision.object_net import load_object_net
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox
from rotoscope_sandbox.vision.segmentation import Segmentation, segment_box

MEDIA = Path(__file__).parents[2] / "shared" / "media"
LONG, SHORT = 854, 480


class Photo(NamedTuple):
    """A picture with a box, and the mask that people made of what is in it, if they did."""

    name: str
    frame: Frame
    box: PixelBox
    truth: Mask | None = None


def decode(content: bytes, flags: int) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    assert pixels is not None, "not a picture"
    return np.asarray(pixels, np.uint8)


def photo_of(name: str, content: bytes, box: tuple[int, int, int, int]) -> Photo:
    frame = cv2.resize(decode(content, cv2.IMREAD_COLOR_RGB), (LONG, SHORT), interpolation=cv2.INTER_AREA)
    return Photo(name, np.asarray(frame, np.uint8), PixelBox(*box))


def pair_of(picture: Path, mask: Path) -> Photo:
    frame = decode(picture.read_bytes(), cv2.IMREAD_COLOR_RGB)
    size = (LONG, SHORT) if frame.shape[1] >= frame.shape[0] else (SHORT, LONG)
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    truth = cv2.resize(decode(mask.read_bytes(), cv2.IMREAD_GRAYSCALE), size, interpolation=cv2.INTER_NEAREST) > 0
    return Photo(picture.stem, np.asarray(small, np.uint8), PixelBox.around(truth), np.asarray(truth, np.bool_))


def photos(pairs: Path | None) -> Iterator[Photo]:
    yield photo_of("astronaut", files("rotoscope").joinpath("assets", "astronaut.jpg").read_bytes(), (33, 5, 700, 480))
    if MEDIA.is_dir():
        yield photo_of("truck", (MEDIA / "truck.jpg").read_bytes(), (36, 110, 818, 340))
        yield pair_of(MEDIA / "boxingcat.jpg", MEDIA / "boxingcat_mask.png")
    for mask in sorted(pairs.glob("*.png") if pairs else ()):
        yield from (pair_of(picture, mask) for picture in [mask.with_suffix(".jpg")] if picture.is_file())


def resident_bytes() -> int:
    """What of this process is in memory; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


def measure(
    segment: Callable[[Frame, PixelBox], Segmentation], photo: Photo, rounds: int
) -> tuple[str, float, float | None]:
    """What is printed of one photo, the longest time in seconds, and the agreement, if there is a mask."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        found = segment(photo.frame, photo.box)
        times.append(time.perf_counter() - begun)
    agreement = overlap(found.mask, photo.truth) if photo.truth is not None else None
    said = "         " if agreement is None else f"IoU {agreement:.3f}"
    return f"{statistics.median(times) * 1000:5.0f} ms, {said} ({found.method})", max(times), agreement


def main(rounds: int, pairs: Path | None) -> None:
    print(headline(f"box masks at {LONG}x{SHORT}, {rounds} rounds"))
    shown = list(photos(pairs))
    engines: dict[str, Callable[[Frame, PixelBox], Segmentation]] = {"colours": segment_box}
    segment_box(shown[0].frame, shown[0].box)
    weights = read_settings({}).sandbox_weights
    if weights.is_file():
        gc.collect()
        before = resident_bytes()
        engines["net"] = partial(segment_box, net=load_object_net(weights))
        engines["net"](shown[0].frame, shown[0].box)
        print(f"  the net takes {(resident_bytes() - before) / 1e6:.0f} MB more memory (to hold: 150)")
    else:
        print(f"  no weights in {weights}: colours alone")
    results = {name: [measure(engine, photo, rounds) for photo in shown] for name, engine in engines.items()}
    for n, photo in enumerate(shown):
        said = "   ".join(f"{name}: {found[n][0]:46}" for name, found in results.items())
        print(f"  {photo.name:14}{said.rstrip()}")
    for name, found in results.items():
        known = [agreement for _, __, agreement in found if agreement is not None]
        mean = f"; mean IoU {statistics.mean(known):.3f} of {len(known)}" if known else ""
        limits = {"net": "1.0 s; 0.80", "colours": "0.5 s"}[name]
        print(f"  {name}: {max(longest for _, longest, __ in found):.2f} s at most{mean} (to hold: {limits})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--pairs", type=Path)
    named, rest = parser.parse_known_args()
    main(int(arguments(__doc__, rest, rounds=(5, 1, "how often each photo is cut out"))["rounds"]), named.pairs)
