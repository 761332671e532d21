"""Objects followed through a clip from one of its frames, to its end and back to its start.

Back to the start the frames are needed in reverse. They are decoded in pieces of some frames, the last piece first, so
that at most `_PIECE_BYTES` of frames are held; each piece is reached by decoding the clip from its start once more. Of
the masks only their packed bits are held, compressed: some kilobytes for each frame.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rotoscope_sandbox.film.input_media import InputVideo, read_frames
from rotoscope_sandbox.film.mask_tracking import MaskTracker
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.models import EngineTask, UnusableInput
from rotoscope_sandbox.vision.inputs import read_box, read_point, segment_clicks
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pictures import decode_picture
from rotoscope_sandbox.vision.pixels import Frame, Mask, Point
from rotoscope_sandbox.vision.segmentation import Segmentation, most_salient_region, segment_boxes

__all__ = ["MOST_FRAMES", "ObjectPrompt", "ObjectTracks", "find_object", "frame_at", "read_prompt", "track_objects"]

MOST_FRAMES = 1_000
"""Frames of a clip that the sandbox follows an object through."""

_PIECE_BYTES = 96_000_000
"""Bytes of frames that are held at once on the way back."""

_SELECTED = 128


@dataclass(frozen=True, slots=True)
class ObjectPrompt:
    """What says which object is meant: inputs of the model, by their names there, and the frame that they are on.

    Attributes:
        points, boxes: as fal takes them.
        mask: the reference of a mask picture.
        fields: the model's names of points, boxes and mask, for errors.
    """

    words: str
    points: Sequence[Mapping[str, Any]]
    boxes: Sequence[Mapping[str, Any]]
    mask: str
    frame: int
    fields: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class ObjectTracks:
    """Masks of objects in every frame of a clip.

    Attributes:
        width, height: of the clip in pixels.
        packed: for each object its masks by frame, compressed.
    """

    width: int
    height: int
    packed: Sequence[Sequence[bytes]]

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return len(self.packed[0]) if self.packed else 0

    def mask(self, track: int, frame: int) -> Mask:
        """The mask of an object in a frame."""
        bits = np.frombuffer(zlib.decompress(self.packed[track][frame]), np.uint8)
        return np.unpackbits(bits, count=self.width * self.height).astype(bool).reshape(self.height, self.width)

    def union(self, frame: int) -> Mask:
        """Where any of the objects is in a frame."""
        return np.asarray(np.logical_or.reduce([self.mask(track, frame) for track in range(len(self.packed))]))


def read_prompt(given: Mapping[str, Any], fields: tuple[str, str, str], *, words: str = "prompt") -> ObjectPrompt:
    """The prompt in an input of fal's: points and boxes name their frame, `frame_index` is that of the mask."""
    points, boxes = (given.get(name) or [] for name in fields[:2])
    mask = given.get(fields[2]) or ""
    placed = [one.get("frame_index", 0) for one in (*points, *boxes) if isinstance(one, dict)]
    frame = placed[0] if placed else given.get("frame_index", 0) if mask else 0
    text = given.get(words)
    return ObjectPrompt(text if isinstance(text, str) else "", points, boxes, mask, frame, fields)


def frame_at(video: InputVideo, number: int, field_name: str) -> Frame:
    """A frame of a clip. Raises `UnusableInput` where it has none of that number."""
    if isinstance(number, int) and 0 <= number < MOST_FRAMES:
        for at, frame in enumerate(read_frames(video, number + 1)):
            if at == number:
                return frame
    raise UnusableInput(field_name, f"The video has no frame {number}.", "value_error")


def find_object(task: EngineTask, prompt: ObjectPrompt, frame: Frame) -> Segmentation:
    """The object that is meant, in the frame that the prompt is on. Raises `UnusableInput` without any prompt."""
    net: ObjectNet | None = task.open_net()
    points_field, boxes_field, mask_field = prompt.fields
    if prompt.mask:
        return Segmentation(_read_mask(task, mask_field, prompt.mask, frame), "the given mask", 1.0)
    clicks: dict[bool, list[Point]] = {True: [], False: []}
    for number, point in enumerate(prompt.points):
        place = read_point(point.get("x"), point.get("y"), frame, f"{points_field}.{number}")
        clicks[point.get("label", 1) != 0].append(place)
    boxes = [read_box(box, frame, f"{boxes_field}.{number}") for number, box in enumerate(prompt.boxes)]
    if boxes:
        return segment_boxes(frame, boxes, clicks[True], clicks[False], net)
    if prompt.points:
        return segment_clicks(frame, clicks, net, points_field)
    if not prompt.words.strip():
        raise UnusableInput("prompt", "Give a prompt, points, boxes or a mask.", "value_error")
    return most_salient_region(frame, net)


def _read_mask(task: EngineTask, field_name: str, reference: str, frame: Frame) -> Mask:
    picture = decode_picture(task.read(field_name, reference), field_name)
    if picture.shape[:2] != frame.shape[:2]:
        raise UnusableInput(field_name, "The mask is of another size than the video.", "value_error")
    return np.asarray(picture.max(axis=2) >= _SELECTED)


def track_objects(task: EngineTask, video: InputVideo, number: int, masks: Sequence[Mask]) -> ObjectTracks:
    """Follow objects from a frame to the end of a clip, and back to its start.

    Args:
        task: raises `Stopped` when it is cancelled.
        video: the clip.
        number: of the frame.
        masks: of the objects in it.
    """
    total = video.count_frames(MOST_FRAMES + 1)
    if total > MOST_FRAMES:
        raise UnusableInput(video.field_name, f"The video has more than {MOST_FRAMES} frames.", "video_too_large")
    net = task.open_net()
    progress = TqdmProgress(task, total)
    after = _follow(_frames_from(video, number), masks, net, progress)
    before = _follow(_frames_back_from(video, number), masks, net, progress) if number else [[] for _ in masks]
    progress.finish()
    # The frame itself begins both ways.
    packed = [[*reversed(back[1:]), *forth] for back, forth in zip(before, after, strict=True)]
    return ObjectTracks(video.width, video.height, packed)


def _follow(
    frames: Iterator[Frame], masks: Sequence[Mask], net: ObjectNet | None, progress: TqdmProgress
) -> list[list[bytes]]:
    """The packed masks of every object along some frames, of which the first has the masks given."""
    first = next(frames)
    trackers = [MaskTracker(first, mask, net) if mask.any() else None for mask in masks]
    packed = [[_pack(mask)] for mask in masks]
    progress.advance()
    empty = _pack(np.zeros(first.shape[:2], np.bool_))
    for frame in frames:
        for tracker, known in zip(trackers, packed, strict=True):
            known.append(empty if tracker is None else _pack(tracker.next_mask(frame)))
        progress.advance()
    return packed


def _pack(mask: Mask) -> bytes:
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def _frames_from(video: InputVideo, number: int) -> Iterator[Frame]:
    return (frame for at, frame in enumerate(read_frames(video)) if at >= number)


def _frames_back_from(video: InputVideo, number: int) -> Iterator[Frame]:
    """The frames from one back to the first, decoded in pieces."""
    size = max(_PIECE_BYTES // max(video.width * video.height * 3, 1), 1)
    end = number + 1
    while end > 0:
        start = max(end - size, 0)
        piece = [frame for at, frame in enumerate(read_frames(video, end)) if at >= start]
        yield from reversed(piece)
        end = start
