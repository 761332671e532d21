"""The sound of an animatic: a quiet chord that drifts, and single notes above it, all drawn from a seed."""

import numpy as np

from rotoscope_sandbox.film.video_writer import SAMPLE_RATE, StereoSound

__all__ = ["tones"]

_ROOTS = (130.81, 146.83, 164.81, 174.61, 196.0)
"""C3 to G3, in hertz."""

_CHORDS = ((0, 7, 16), (-3, 4, 12), (-5, 7, 11), (2, 9, 14))
"""Semitones above the root: each chord shares a note with its neighbours."""

_SCALE = (12, 14, 16, 19, 21, 24)
_CHORD_SECONDS = 2.5
_NOTE_SECONDS = 0.625
_RING_SECONDS = 1.8
_CHORD_LEVEL = 0.035
_NOTE_LEVEL = 0.05
_FADE_SECONDS = 0.4


def tones(seconds: float, seed: int) -> StereoSound:
    """That many seconds of sound, to the sample."""
    chance = np.random.default_rng(seed)
    total = round(seconds * SAMPLE_RATE)
    root = float(chance.choice(_ROOTS))
    sound = np.zeros((2, total), np.float32)
    for number, start in enumerate(np.arange(0, seconds, _CHORD_SECONDS)):
        for step in _CHORDS[number % len(_CHORDS)]:
            _add(sound, start, _chord_note(root, step), 0.5 + 0.06 * step / 12)
    for start in np.arange(_NOTE_SECONDS, max(seconds - _RING_SECONDS / 2, _NOTE_SECONDS), _NOTE_SECONDS):
        if chance.random() < 0.6:  # noqa: PLR2004 - three notes in five beats leave room
            _add(sound, float(start), _plucked(root, int(chance.choice(_SCALE))), float(chance.uniform(0.3, 0.7)))
    return sound * _ends(total)


def _add(sound: StereoSound, start: float, wave: np.ndarray[tuple[int], np.dtype[np.float32]], side: float) -> None:
    first = round(start * SAMPLE_RATE)
    heard = wave[: sound.shape[1] - first]
    for row, share in ((0, 1 - side), (1, side)):
        sound[row, first : first + len(heard)] += heard * np.float32(share * 2)


def _chord_note(root: float, step: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    length = round(_CHORD_SECONDS * 1.4 * SAMPLE_RATE)
    moments = np.arange(length) / SAMPLE_RATE
    swell = np.sin(np.pi * np.arange(length) / length) ** 0.7
    pitch = 2 * np.pi * root * 2 ** (step / 12)
    wave = np.sin(pitch * moments) + 0.35 * np.sin(pitch * 1.003 * moments) + 0.12 * np.sin(2 * pitch * moments)
    return np.asarray(wave * swell * _CHORD_LEVEL, np.float32)


def _plucked(root: float, step: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    moments = np.arange(round(_RING_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 2 * np.pi * root * 2 ** (step / 12)
    bell = np.sin(pitch * moments) + 0.25 * np.sin(2 * pitch * moments) * np.exp(-moments * 6)
    ring = np.exp(-moments * 3.2) * np.minimum(moments / 0.008, 1)
    return np.asarray(bell * ring * _NOTE_LEVEL, np.float32)


def _ends(total: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Silence at the very first and last sample."""
    ramp = np.minimum(np.arange(total) / (_FADE_SECONDS * SAMPLE_RATE), 1)
    return np.asarray(ramp * ramp[::-1], np.float32)
