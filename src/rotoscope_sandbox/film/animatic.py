"""A film without a model: the given pictures one after the other with straight cuts, the prompt as caption, a tone."""

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from rotoscope_sandbox.film.caption import draw_caption, draw_label
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.film.video_writer import SAMPLE_RATE, StereoSound, VideoWriter
from rotoscope_sandbox.vision.pixels import Frame

__all__ = ["FRAME_RATE", "AnimaticPlan", "StoryboardPanel", "write_animatic"]

FRAME_RATE = 24
"""Frames a second."""

_CRF = 20
"""x264's quality: between 18 (looks like the source) and 23 (ordinary)."""

_TONE_HERTZ = 220
_TONE_LEVEL = 0.05
"""Amplitude of the tone, of 1: audible, but never loud."""

_BAR_SHARE = 0.012
"""Height of the bar that shows the time, as a share of the film's height."""

_HUES = 360


@dataclass(frozen=True, slots=True)
class StoryboardPanel:
    """A picture to be shown, and the name that is written on it."""

    picture: Frame
    name: str


@dataclass(frozen=True, slots=True)
class AnimaticPlan:
    """What is to be made.

    Attributes:
        prompt: the text to show.
        panels: the pictures, each shown for the same time; without any, the text stands alone on a plain ground.
        size: width and height in pixels; both even.
        seconds: length of the film.
        seed: draws the colours of the ground and of the bar, so that another seed gives another film.
        sound: whether there is a sound track.
        reference_sound: a sound that takes the place of the tone, from the start for as long as it lasts.
    """

    prompt: str
    panels: Sequence[StoryboardPanel]
    size: tuple[int, int]
    seconds: int
    seed: int
    sound: bool = True
    reference_sound: StereoSound | None = None

    @property
    def frames(self) -> int:
        """How many frames the film has."""
        return self.seconds * FRAME_RATE


def write_animatic(plan: AnimaticPlan, path: Path, progress: TqdmProgress) -> None:
    """Write the film as MP4; one step of progress a frame. Raises `Stopped` when the task is cancelled."""
    sound = _sound(plan) if plan.sound else None
    samples = SAMPLE_RATE // FRAME_RATE
    with VideoWriter(path, plan.size, Fraction(FRAME_RATE), crf=_CRF, sound=plan.sound) as writer:
        for number, frame in enumerate(_frames(plan)):
            writer.write_frame(frame)
            if sound is not None:
                writer.write_sound(sound[:, number * samples : (number + 1) * samples])
            progress.advance()
    progress.finish()


def _frames(plan: AnimaticPlan) -> Iterator[Frame]:
    """Every frame in order; only one panel is held at the film's size, because a frame of 4k takes 25 MB."""
    width, height = plan.size
    bar, colour = max(2, round(height * _BAR_SHARE)), _seed_colour(plan.seed, 0.9)
    count, shown, still = max(1, len(plan.panels)), -1, np.zeros((height, width, 3), np.uint8)
    for number in range(plan.frames):
        panel = number * count // plan.frames
        if panel != shown:
            shown, still = panel, _draw_panel(plan, panel)
        frame = still.copy()
        frame[-bar:, : width * (number + 1) // plan.frames] = colour
        yield frame


def _draw_panel(plan: AnimaticPlan, number: int) -> Frame:
    """One panel at the film's size, whole and with bars where the shapes differ, with label and caption."""
    if not plan.panels:
        still = np.full((plan.size[1], plan.size[0], 3), _seed_colour(plan.seed, 0.35), np.uint8)
        draw_label(still, "animatic")
        draw_caption(still, plan.prompt, centred=True)
        return still
    panel = plan.panels[number]
    still = np.array(ImageOps.pad(Image.fromarray(panel.picture), plan.size), np.uint8)
    draw_label(still, f"animatic · {panel.name}")
    draw_caption(still, plan.prompt)
    return still


def _seed_colour(seed: int, brightness: float) -> tuple[int, ...]:
    """A colour (RGB, 0 to 255) whose hue comes from the seed; neighbouring seeds are 137 degrees apart."""
    hue = seed * 137 % _HUES / _HUES
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.6, brightness))


def _sound(plan: AnimaticPlan) -> StereoSound:
    """The sound of the whole film: a tone, or the reference sound while it lasts."""
    moments = np.arange(plan.seconds * SAMPLE_RATE) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * _TONE_HERTZ * moments) * _TONE_LEVEL
    sound = np.stack([tone, tone]).astype(np.float32)
    if plan.reference_sound is not None:
        length = min(sound.shape[1], plan.reference_sound.shape[1])
        sound[:, :length] = plan.reference_sound[:, :length]
    return sound
