"""How an edit's mask follows its object through the shared clips, with the object net and without, side by side.

Nobody has drawn the masks of those clips, so each is followed forward and back again: the mask that returns should be
the first one. That is the overlap (intersection over union) that is printed; what is lost on the way stays lost.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from figures import arguments, headline

from rotoscope.settings import read_settings
from rotoscope_sandbox.film.mask_tracking import MaskTracker
from rotoscope_sandbox.vision.net_masks import overlap
from rotoscope_sandbox.vision.object_net import ObjectNet, load_object_net
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox
from rotoscope_sandbox.vision.segmentation import segment_box

MEDIA = Path(__file__).parents[2] / "shared" / "media"
SIZE = 854, 480
OBJECTS = (
    ("left cat", "boxingcat.mp4", PixelBox(50, 40, 370, 480)),
    ("right cat", "boxingcat.mp4", PixelBox(405, 50, 780, 480)),
    ("kettle", "coffee.mp4", PixelBox(264, 196, 564, 424)),
    ("mug", "coffee.mp4", PixelBox(534, 276, 724, 414)),
)
"""What is followed: its clip, and its box on the first frame at 854x480."""


def first_frames(clip: Path, count: int) -> list[Frame]:
    frames: list[Frame] = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24")
            frames.append(np.asarray(cv2.resize(pixels, SIZE, interpolation=cv2.INTER_AREA), np.uint8))
            if len(frames) == count:
                break
    return frames


def follow(frames: Sequence[Frame], first: Mask, net: ObjectNet | None) -> tuple[float, float]:
    """Overlap of the mask that returns with the first one, and seconds a frame."""
    begun = time.perf_counter()
    tracker, way, mask = MaskTracker(frames[0], first, net), [*frames[1:], *frames[-2::-1]], first
    for frame in way:
        mask = tracker.next_mask(frame)
    return overlap(mask, first), (time.perf_counter() - begun) / len(way)


def main(frames: int) -> None:
    print(headline(f"masks through {frames} frames and back"))
    weights = read_settings({}).sandbox_weights
    if not MEDIA.is_dir() or not weights.is_file():
        print(f"  needs the clips in {MEDIA} and the weights in {weights}")
        return
    net = load_object_net(weights)
    found: list[tuple[float, float]] = []
    for name, clip, box in OBJECTS:
        shown = first_frames(MEDIA / clip, frames)
        first = segment_box(shown[0], box, net=net).mask
        with_net, without = follow(shown, first, net), follow(shown, first, None)
        found.append((with_net[0], without[0]))
        print(
            f"  {name:10} with the net {with_net[0]:.2f} ({with_net[1]:.2f} s a frame), "
            f"without {without[0]:.2f} ({without[1]:.2f} s a frame)"
        )
    means = [statistics.mean(ones) for ones in zip(*found, strict=True)]
    print(f"  mean overlap with the net {means[0]:.2f}, without {means[1]:.2f} (to hold: no less)")


if __name__ == "__main__":
    main(int(arguments(__doc__, frames=(13, 3, "how many frames of each clip"))["frames"]))
