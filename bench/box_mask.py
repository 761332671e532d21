"""The sandbox's box mask on an 854x480 photo, and its agreement with a hand-made mask where one is at hand."""

import statistics
import time
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from figures import arguments, headline
from numpy.typing import NDArray

from rotoscope_sandbox.vision.pixels import PixelBox
from rotoscope_sandbox.vision.segmentation import segment_box

MEDIA = Path(__file__).parents[2] / "shared" / "media"


def frame_of(content: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None, "not a picture"
    small = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
    return np.asarray(small, np.uint8)


def main(rounds: int) -> None:
    print(headline(f"box mask at 854x480, {rounds} rounds"))
    photos = {"astronaut": (files("rotoscope").joinpath("assets", "astronaut.jpg").read_bytes(), (33, 5, 700, 480))}
    if MEDIA.is_dir():
        photos["truck"] = ((MEDIA / "truck.jpg").read_bytes(), (36, 110, 818, 340))
        photos["boxing cat"] = ((MEDIA / "boxingcat.jpg").read_bytes(), (250, 40, 600, 470))
    for name, (content, box) in photos.items():
        frame = frame_of(content, (854, 480))
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            segment_box(frame, PixelBox(*box))
            times.append(time.perf_counter() - begun)
        median, most = statistics.median(times) * 1000, max(times) * 1000
        print(f"  {name:12} {median:6.0f} ms median, {most:6.0f} ms at most (to hold: 500)")
    if MEDIA.is_dir():
        print(f"  agreement with the hand-made mask of the boxing cat: IoU {agreement():.3f} (to hold: 0.60)")


def agreement() -> float:
    """The box is that of the hand-made mask itself."""
    grey = cv2.imdecode(np.frombuffer((MEDIA / "boxingcat_mask.png").read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert grey is not None, "not a picture"
    truth = np.asarray(grey) > 0
    height, width = truth.shape
    frame = frame_of((MEDIA / "boxingcat.jpg").read_bytes(), (width, height))
    found = np.asarray(segment_box(frame, PixelBox.around(truth)).mask, np.bool_)
    return float((found & truth).sum() / (found | truth).sum())


if __name__ == "__main__":
    main(int(arguments(__doc__, rounds=(9, 1, "how often each photo is cut out"))["rounds"]))
