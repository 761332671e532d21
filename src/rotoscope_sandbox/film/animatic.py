"""A film without a model: panels, camera moves, the prompt as caption, and quiet tones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from rotoscope_sandbox.film.caption import Overlay, caption, label, pages_of, title
from rotoscope_sandbox.film.panels import StoryboardPanel
from rotoscope_sandbox.film.stage import Drift, Show, Slides
from rotoscope_sandbox.film.tones import tones
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.film.video_writer import SAMPLE_RATE, StereoSound, VideoWriter
from rotoscope_sandbox.vision.pixels import Frame

__all__ = ["FRAME_RATE", "AnimaticPlan", "write_animatic"]

FRAME_RATE = 24
"""Frames a second."""

_PANEL_SECONDS = 0.75
_PAGE_SECONDS = 1.7
_TURN_SECONDS = 0.2
_CRF = 20
_UNDER = 0.35
"""How loud the tones are below a sound that was handed in."""


@dataclass(frozen=True, slots=True)
class AnimaticPlan:
    """What is to be made.

    Attributes:
        prompt: the words to show.
        panels: the pictures; without any, the words stand alone before moving colours.
        size: width and height in pixels.
        seconds: how long it lasts.
        seed: draws moves, colours and tones.
        settled: the first panel begins, and the last one ends, with its whole picture in view.
        sound: whether it is heard.
        heard: a sound that was handed in and is laid over the tones.
    """

    prompt: str
    panels: Sequence[StoryboardPanel]
    size: tuple[int, int]
    seconds: int
    seed: int
    settled: bool = False
    sound: bool = True
    heard: StereoSound | None = None

    @property
    def frames(self) -> int:
        """How many frames that takes."""
        return self.seconds * FRAME_RATE


def write_animatic(plan: AnimaticPlan, place: Path, progress: TqdmProgress) -> None:
    """Writes the film; one step of progress a frame."""
    show, names = _show(plan)
    words = _Words(plan, names)
    with VideoWriter(place, plan.size, Fraction(FRAME_RATE), crf=_CRF, sound=plan.sound) as reel:
        sound = _sound(plan) if plan.sound else None
        each = SAMPLE_RATE // FRAME_RATE
        for number in range(plan.frames):
            frame = show.frame(number)
            words.write(frame, number, show.on_stage(number))
            reel.write_frame(frame)
            if sound is not None:
                reel.write_sound(sound[:, number * each : (number + 1) * each])
            progress.advance()
    progress.finish()


def _show(plan: AnimaticPlan) -> tuple[Show, list[str]]:
    """The moving pictures, and what each panel is called."""
    if not plan.panels:
        return Drift(plan.size, FRAME_RATE, plan.seed), [""]
    panels = _evenly(plan.panels, max(1, int(plan.seconds / _PANEL_SECONDS)))
    pictures: list[Frame] = [panel.picture for panel in panels]
    slides = Slides(pictures, plan.size, plan.frames, FRAME_RATE, plan.seed, settled=plan.settled)
    return slides, [panel.name for panel in panels]


def _evenly(panels: Sequence[StoryboardPanel], most: int) -> list[StoryboardPanel]:
    """At most that many panels, picked evenly, with the first and the last one."""
    if len(panels) <= most:
        return list(panels)
    return [panels[int(place)] for place in np.linspace(0, len(panels) - 1, most).round()]


class _Words:
    """The prompt, page by page, and the label; each is drawn once and laid over many frames."""

    def __init__(self, plan: AnimaticPlan, names: Sequence[str]) -> None:
        drawn = caption if plan.panels else title
        most = max(1, int(plan.seconds / _PAGE_SECONDS))
        pages = pages_of(plan.prompt, plan.size, most, large=not plan.panels)
        self._pages = [drawn(lines, plan.size) for lines in pages]
        self._length = plan.frames / max(1, len(pages))
        self._labels = [label(" · ".join(_filled("animatic", name)), plan.size) for name in names]

    def write(self, frame: Frame, number: int, panel: int) -> None:
        self._labels[panel].over(frame)
        if self._pages:
            page, strength = self._page(number)
            page.over(frame, strength)

    def _page(self, number: int) -> tuple[Overlay, float]:
        """The page of a frame; where pages turn, one fades out and the next one in."""
        place = min(int(number / self._length), len(self._pages) - 1)
        start, end = place * self._length, (place + 1) * self._length
        since = number - start if place else np.inf
        until = end - number if place < len(self._pages) - 1 else np.inf
        return self._pages[place], float(min(1.0, (min(since, until) + 0.5) / (_TURN_SECONDS * FRAME_RATE)))


def _filled(*words: str) -> Iterator[str]:
    return (word for word in words if word)


def _sound(plan: AnimaticPlan) -> StereoSound:
    sound = tones(plan.seconds, plan.seed)
    if plan.heard is None:
        return sound
    length = min(sound.shape[1], plan.heard.shape[1])
    sound[:, :length] = sound[:, :length] * np.float32(_UNDER) + plan.heard[:, :length]
    return np.asarray(np.clip(sound, -1, 1), np.float32)
