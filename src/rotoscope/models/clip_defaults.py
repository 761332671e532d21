"""Defaults that follow the edited video: size, number of frames and seconds, where the user gave none. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rotoscope.models.manifest import Input, Manifest
from rotoscope.models.spelling import parse_size, read_number
from rotoscope.providers.http.messages import Json

__all__ = ["ClipShape", "arguments_for_clip"]

_SPARE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ClipShape:
    """What is known of a video: size in pixels, number of frames, and how many seconds it lasts (0: unknown)."""

    width: int
    height: int
    frames: int
    seconds: float = 0.0


def arguments_for_clip(
    manifest: Manifest, asked: Mapping[str, Json], clip: ClipShape
) -> tuple[dict[str, Json], list[str]]:
    """Arguments that the user left out and that follow the clip.

    Returns:
        The arguments to use, by name, and sentences for the user.
    """
    chosen: dict[str, Json] = {}
    notes: list[str] = []
    for field in manifest.inputs.values():
        if field.fits == "size" and field.argument and asked.get(field.argument) is None:
            size = _nearest_size(field, clip)
            if size != field.default:
                chosen[field.argument] = size
                notes.append(f"{field.argument} was set to {size}, because the video is {clip.width}x{clip.height}.")
        if field.fits == "frames" and field.argument:
            notes += _fit_frame_count(field, asked.get(field.argument), clip, chosen)
        if field.fits == "seconds" and field.argument and clip.seconds and asked.get(field.argument) is None:
            chosen[field.argument] = seconds = _nearest_seconds(field, clip.seconds)
            if abs(seconds - clip.seconds) > _SPARE_SECONDS:
                notes.append(f"The result is to last {seconds} s, and the video has {clip.seconds:.3g} s.")
    return chosen, notes


def _nearest_size(field: Input, clip: ClipShape) -> str:
    """The choice whose shape is nearest to the clip's; of equal shapes, the one of the model's own default area."""
    usual = _size_area(str(field.default))

    def distance(choice: str) -> tuple[float, int]:
        width, height = parse_size(choice) or (1, 1)
        wide, narrow = sorted((width * clip.height, height * clip.width), reverse=True)
        # The ratio of the two aspect ratios, rounded to a tenth: closer ones count as equal.
        return round(10 * (wide / narrow - 1)), abs(_size_area(choice) - usual)

    return min((str(choice) for choice in field.choices), key=distance)


def _nearest_seconds(field: Input, seconds: float) -> int:
    """The whole seconds that hold all of a clip, as far as the model makes so many; codecs pad by some hundredths."""
    offered = [number for one in field.choices if (number := read_number(field, str(one))) is not None]
    low = min(offered, default=field.minimum or 1)
    high = max(offered, default=field.maximum or math.inf)
    return int(min(max(math.ceil(seconds - _SPARE_SECONDS), low), high))


def _fit_frame_count(field: Input, given: Json, clip: ClipShape, chosen: dict[str, Json]) -> list[str]:
    assert field.argument is not None
    if isinstance(given, int):
        if given > clip.frames:
            return [f"{field.argument} is {given}, but the video has only {clip.frames} frames."]
        return [_shortening_note(given, clip.frames)] if given < clip.frames else []
    most, step = int(field.maximum or 0), field.step or 1
    fitting = (min(most, clip.frames) - field.offset) // step * step + field.offset
    count = max(fitting, field.offset, int(field.minimum or 1))
    notes = [_shortening_note(count, clip.frames)] if most < clip.frames else []
    if count != field.default:
        chosen[field.argument] = count
        notes = notes or [f"{field.argument} was set to {count}, because the video has {clip.frames} frames."]
    return notes


def _shortening_note(wanted: int, frames: int) -> str:
    """The upstream model spreads its frames over the whole film; no document shows what an endpoint does."""
    return (
        f"The result has {wanted} frames, the video has {frames}: whether the first ones are edited, or some that are "
        f"spread over the whole film, is not known. Give a film of {wanted} frames to be sure."
    )


def _size_area(size: str) -> int:
    width, height = parse_size(size) or (0, 0)
    return width * height
