"""What a planned run may cost: the price times as much as was asked for, read upwards, or unknown. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from rotoscope.models.manifest import Input, Manifest
from rotoscope.models.spelling import read_number
from rotoscope.providers.http.messages import Json

__all__ = ["MediaLength", "estimate_price"]

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class MediaLength:
    """How long a medium lasts, in seconds, and how many frames it has; None for a sound."""

    seconds: float
    frames: int | None = None


def estimate_price(manifest: Manifest, filled: Mapping[str, Json], media: Mapping[str, MediaLength]) -> float | None:
    """The price of a run in US dollars; None where nobody knows it.

    For a price per second of output it is what the longest output costs that may come of this input: a cap that is
    held against less could be passed.

    Args:
        manifest: the model.
        filled: its inputs.
        media: how long each medium lasts, by its link, as far as it is known.
    """
    price = manifest.price
    if price is None:
        return None
    if price.unit == "run":
        return price.usd
    if price.unit == "run_second":
        return _round_up_usd(price.usd * manifest.timing.typical_seconds)
    seconds = _output_seconds(manifest, filled, media)
    return None if seconds is None else _round_up_usd(price.usd * seconds)


def _round_up_usd(usd: float) -> float:
    # What only floating point adds is no money.
    return math.ceil(round(usd * _MILLION, 3)) / _MILLION


def _output_seconds(manifest: Manifest, filled: Mapping[str, Json], media: Mapping[str, MediaLength]) -> float | None:
    """The longest that the output may last: as asked for in seconds or in frames, else as long as what is edited."""
    clip = _video_to_edit(manifest, filled, media)
    rate = manifest.outputs.frame_rate or (clip.frames / clip.seconds if clip and clip.frames else None)
    lengths: list[float | None] = []
    for name, field in manifest.inputs.items():
        if field.argument == "duration":
            lengths.append(_largest_amount(field, filled.get(name)))
        elif field.fits == "frames" or field.argument == "frame_num":
            frames = _largest_amount(field, filled.get(name)) or (clip.frames if clip else None)
            lengths.append(frames / rate if frames and rate else None)
    if not lengths:
        return clip.seconds if clip else None
    return _largest_known(lengths)


def _largest_known(numbers: Iterable[float | None]) -> float | None:
    return max((number for number in numbers if number is not None), default=None)


def _largest_amount(field: Input, value: Json) -> float | None:
    """How much was asked for; where the model chooses, as much as it could."""
    asked = _amount_from_value(field, cast("Json", field.default) if value is None else value)
    if asked is not None and asked > 0 and asked not in field.also:
        return asked
    return (
        field.maximum
        if field.maximum is not None
        else _largest_known(_amount_from_value(field, choice) for choice in field.choices)
    )


def _amount_from_value(field: Input, value: Json) -> float | None:
    """A number, also one that a model takes as text, such as "5" or "5s"."""
    if isinstance(value, str):
        return read_number(field, value)
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _video_to_edit(
    manifest: Manifest, filled: Mapping[str, Json], media: Mapping[str, MediaLength]
) -> MediaLength | None:
    """The video that is edited: the one that a mask covers, else the one that is called so."""
    covered = [field.covers for field in manifest.inputs.values() if field.covers]
    named = [name for name, field in manifest.inputs.items() if field.argument == "video" and field.is_media]
    for name in (*covered, *named):
        if (found := media.get(str(filled.get(name)))) is not None and found.seconds > 0:
            return found
    return None
