"""How well the sandbox's masks follow objects whose masks people drew, from the box of the first frame alone.

The clips lie in a folder as those of DAVIS do (https://davischallenge.org): `JPEGImages/480p/CLIP/*.jpg` and
`Annotations/480p/CLIP/*.png`, with or without `480p`; what is not black in a first annotation is the object. For each
clip J is printed, the mean intersection over union of all its frames, the first one's among them.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from figures import arguments, headline

from rotoscope.settings import read_settings
from rotoscope_sandbox.film.mask_tracking import MaskTracker
from rotoscope_sandbox.vision.net_masks import overlap
from rotoscope_sandbox.vision.object_net import ObjectNet, load_object_net
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox
from rotoscope_sandbox.vision.segmentation import segment_box

FOLDER = Path(__file__).parents[2] / "shared" / "DAVIS"
LEAST_FRAMES = 2


class Clip(NamedTuple):
    """The files of a clip: its frames, and their masks."""

    name: str
    frames: list[Path]
    masks: list[Path]

    def pairs(self) -> Iterator[tuple[Frame, Mask]]:
        for frame, mask in zip(self.frames, self.masks, strict=True):
            pixels, truth = cv2.imread(str(frame), cv2.IMREAD_COLOR_RGB), cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
            assert pixels is not None, f"{frame} is no picture"
            assert truth is not None, f"{mask} is no picture"
            yield np.asarray(pixels, np.uint8), np.asarray(truth, np.uint8) > 0


class Followed(NamedTuple):
    """What came of a clip: its J, and how long a frame took after the first one, in seconds."""

    mean_overlap: float
    seconds: float


def find_clips(folder: Path, frames: int) -> list[Clip]:
    """The clips of a folder that have masks, by name; as many frames of each as have one."""
    pictures, annotations = (folder / name for name in ("JPEGImages", "Annotations"))
    if (pictures / "480p").is_dir():
        pictures, annotations = pictures / "480p", annotations / "480p"
    clips = []
    for clip in sorted(pictures.glob("*/")):
        both = sorted(clip.glob("*.jpg"))[:frames], sorted((annotations / clip.name).glob("*.png"))[:frames]
        count = min(map(len, both))
        if count >= LEAST_FRAMES:
            clips.append(Clip(clip.name, both[0][:count], both[1][:count]))
    return clips


def follow(clip: Clip, net: ObjectNet | None) -> Followed:
    pairs = clip.pairs()
    frame, truth = next(pairs)
    first = segment_box(frame, PixelBox.around(truth), net=net).mask
    overlaps, spent = [overlap(first, truth)], 0.0
    begun = time.perf_counter()
    tracker = MaskTracker(frame, first, net)
    spent += time.perf_counter() - begun
    for frame, truth in pairs:
        begun = time.perf_counter()
        mask = tracker.next_mask(frame)
        spent += time.perf_counter() - begun
        # Where there is nothing, nothing is right.
        overlaps.append(overlap(mask, truth) if mask.any() or truth.any() else 1.0)
    return Followed(statistics.mean(overlaps), spent / len(overlaps))


def main(frames: int, folder: Path, most_clips: int, with_net: bool) -> None:
    print(headline(f"objects followed through {frames} frames {'with' if with_net else 'without'} the net"))
    weights = read_settings({}).sandbox_weights
    clips = find_clips(folder, frames)[:most_clips]
    if not clips or (with_net and not weights.is_file()):
        print(f"  needs clips and their masks in {folder} (--folder), and the weights in {weights}")
        return
    net = load_object_net(weights) if with_net else None
    results = []
    for clip in clips:
        results.append(follow(clip, net))
        print(f"  {clip.name:20} J {results[-1].mean_overlap:.3f}, {results[-1].seconds:.2f} s a frame", flush=True)
    mean = statistics.mean(one.mean_overlap for one in results)
    halves = [
        statistics.mean(one.mean_overlap for one in half) if (half := results[start::2]) else mean for start in (0, 1)
    ]
    limits = " (to hold: 0.65)" if with_net else ""
    print(
        f"  mean J of {len(results)} clips {mean:.3f}{limits}; of every other one {halves[0]:.3f} and {halves[1]:.3f}"
    )
    print(
        f"  {statistics.mean(one.seconds for one in results):.2f} s a frame (to hold: 0.35), "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at the peak, with Python and OpenCV"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the clips are")
    parser.add_argument("--without-net", action="store_true", help="follow by flow and colours alone")
    named, rest = parser.parse_known_args()
    sizes = arguments(
        __doc__,
        rest,
        frames=(48, 3, "how many frames of each clip"),
        clips=(1000, 1, "how many clips at most"),
    )
    main(int(sizes["frames"]), named.folder, int(sizes["clips"]), not named.without_net)
