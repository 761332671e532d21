"""An edit by words alone: what stands out is followed and gets another colour, and all of the frame is drawn again.

No word is understood but the name of a colour. As with the models that are played, the frame outside of the object is
near to the original and not the same: its brightness goes up and down softly from place to place. The same request
gives the same film.
"""

import colorsys
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from rotoscope_sandbox.film.input_media import InputVideo, crop_to_size, read_frames, read_sound, sound_of_video
from rotoscope_sandbox.film.mask_tracking import MaskTracker
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.film.video_writer import SAMPLE_RATE, StereoSound, VideoWriter
from rotoscope_sandbox.models import EngineTask, UnusableInput
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pictures import decode_picture
from rotoscope_sandbox.vision.pixels import Frame, Mask, Plane, shrink_to_side
from rotoscope_sandbox.vision.segmentation import most_salient_region

__all__ = ["WordsEdit", "WrittenEdit", "even_size", "write_words_edit"]

_CRF = 20
_TRACKED_SIDE = 360
"""Longer side in pixels at which the object is followed."""

_MOST_FRAMES = 1_000
_SWING = 20.0
"""Steps of brightness (of 255) by which the frame differs from the original, where it differs most."""

_STRENGTH = 0.85
"""Share of the new colour in the object."""

_TONE = 440.0
"""Hertz of the sound that replaces the clip's."""

_COLOURS = {
    "red": (214, 40, 40),
    "green": (44, 160, 60),
    "blue": (40, 80, 214),
    "yellow": (240, 210, 40),
    "orange": (240, 130, 30),
    "purple": (130, 60, 180),
    "pink": (240, 130, 180),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
    "brown": (120, 80, 45),
}

Sound = Literal["own", "new", "none"]


@dataclass(frozen=True, slots=True)
class WordsEdit:
    """What is to be edited.

    Attributes:
        video: the clip.
        size: width and height of the result in pixels; both even.
        rate: frames a second of the result.
        seconds: how long the result is; None: as long as the clip. A longer one stands still at the end.
        sound: the clip's own, another, or none.
        references: references of pictures; the colour of the first one is taken.
        references_field: the input that they are given by.
    """

    prompt: str
    video: InputVideo
    size: tuple[int, int]
    rate: Fraction
    seconds: float | None = None
    sound: Sound = "none"
    references: Sequence[str] = ()
    references_field: str = ""


@dataclass(frozen=True, slots=True)
class WrittenEdit:
    """An edit that was written: its frames, how long it is in seconds, and how it was made, for people."""

    frames: int
    seconds: float
    note: dict[str, Any]


def even_size(video: InputVideo, short: int) -> tuple[int, int]:
    """The size of a result in the clip's shape whose shorter side has so many pixels; both sides even."""
    scale = short / min(video.width, video.height)
    return max(2, round(video.width * scale / 2) * 2), max(2, round(video.height * scale / 2) * 2)


def write_words_edit(task: EngineTask, edit: WordsEdit, path: Path) -> WrittenEdit:
    """Edit the clip and write the result.

    Raises `UnusableInput` when an input file cannot be used, `Stopped` when the task is cancelled.
    """
    known = edit.video.count_frames(_MOST_FRAMES)
    wanted = round(edit.seconds * edit.rate) if edit.seconds is not None else round(known / edit.video.rate * edit.rate)
    frames = min(max(wanted, 1), _MOST_FRAMES)
    sound = list(_read_sound(edit, frames / float(edit.rate)))
    progress = TqdmProgress(task, frames)
    with VideoWriter(path, edit.size, edit.rate, crf=_CRF, sound=bool(sound)) as writer:
        for frame in islice(_edited_frames(task, edit), frames):
            writer.write_frame(frame)
            progress.advance()
        for piece in sound:
            writer.write_sound(piece)
    progress.finish()
    notice = (
        "No word of the prompt was understood but the name of a colour: what stands out got another colour, and the "
        "whole frame was changed a little, as by a model that draws all of it again."
    )
    note = {"method": "what stands out, followed by optical flow", "confidence": 0.2, "notice": notice}
    return WrittenEdit(writer.frames, writer.frames / float(edit.rate), note)


def _edited_frames(task: EngineTask, edit: WordsEdit) -> Iterator[Frame]:
    """The frames of the result without an end: the last one stays."""
    colour, field = _choose_colour(task, edit), _make_field(edit.size)
    net: ObjectNet | None = task.open_net()
    tracker: MaskTracker | None = None
    for frame in _frames_at_rate(edit):
        small, _ = shrink_to_side(frame, _TRACKED_SIDE)
        mask: Mask
        if tracker is None:
            mask = most_salient_region(small, net).mask
            tracker = MaskTracker(small, mask, net) if mask.any() else None
        else:
            mask = tracker.next_mask(small)
        yield _redraw(frame, mask, colour, field)


def _frames_at_rate(edit: WordsEdit) -> Iterator[Frame]:
    """The clip's frames at the result's size and frame rate; the last one again and again."""
    step = edit.video.rate / edit.rate
    held, at, number = None, -1, 0
    source = read_frames(edit.video, _MOST_FRAMES)
    while True:
        while at < round(number * step) and (following := next(source, None)) is not None:
            held, at = crop_to_size(following, edit.size), at + 1
        if held is None:
            raise UnusableInput(edit.video.field_name, "The video has no frames.", "video_load_error")
        yield held
        number += 1


def _redraw(frame: Frame, mask: Mask, colour: np.ndarray, field: Plane) -> Frame:
    shape = frame.shape[1::-1]
    cover = cv2.resize(mask.astype(np.float32), shape, interpolation=cv2.INTER_LINEAR)[..., None] * _STRENGTH
    light = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None] / 255
    painted = colour * (np.float32(0.4) + np.float32(0.8) * light)
    drawn = frame * (1 - cover) + painted * cover + field[..., None]
    return np.asarray(np.clip(drawn, 0, 255), np.uint8)


def _make_field(size: tuple[int, int]) -> Plane:
    """By how much each pixel gets brighter or darker."""
    across = np.sin(np.linspace(0, 2 * np.pi, size[0], dtype=np.float32))
    down = np.sin(np.linspace(0, 2 * np.pi, size[1], dtype=np.float32))
    return np.asarray(_SWING * down[:, None] * across[None, :], np.float32)


def _choose_colour(task: EngineTask, edit: WordsEdit) -> np.ndarray:
    """Of the first reference picture, else the first colour that the prompt names, else one that follows its text."""
    if edit.references:
        picture = decode_picture(task.read(edit.references_field, edit.references[0]), edit.references_field)
        return np.asarray(picture.reshape(-1, 3).mean(axis=0), np.float32)
    named = [
        _COLOURS[word] for word in edit.prompt.lower().replace(",", " ").replace(".", " ").split() if word in _COLOURS
    ]
    if named:
        return np.asarray(named[0], np.float32)
    hue = int(hashlib.sha256(edit.prompt.encode()).hexdigest()[:4], 16) / 65_536
    return np.asarray(colorsys.hsv_to_rgb(hue, 0.75, 0.85), np.float32) * 255


def _read_sound(edit: WordsEdit, seconds: float) -> Iterator[StereoSound]:
    if edit.sound == "none":
        return
    if edit.sound == "new":
        samples = np.arange(round(seconds * SAMPLE_RATE), dtype=np.float32) * np.float32(
            2 * np.pi * _TONE / SAMPLE_RATE
        )
        yield np.repeat(np.float32(0.1) * np.sin(samples)[None, :], 2, axis=0)
        return
    own = sound_of_video(edit.video)
    if own is not None:
        yield from read_sound(own, seconds)
