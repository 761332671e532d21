"""What a film must be for an input of a model, beside its length: checked before anything is sent."""

from typing import Annotated

from pydantic import Field

from rotoscope.models.provider import Count, FactRecord

__all__ = ["FilmLimits", "find_film_problem"]

_PADDING_SECONDS = 0.1  # codecs pad every file by some hundredths of a second
_RATE_SHARE = 0.01  # frame rates are rounded in headers: 23.976 counts as 24

Rate = Annotated[float, Field(gt=0, le=1000)]


class FilmLimits(FactRecord):
    """What a film must be; a film that was not read is not checked."""

    min_seconds: Annotated[
        Annotated[float, Field(gt=0, le=604_800)] | None,
        Field(
            description="How long it must last; `max_total_seconds` of the input says how long it may.", examples=[3]
        ),
    ] = None
    min_side: Annotated[Count | None, Field(description="The least pixels of each side.", examples=[720])] = None
    max_side: Annotated[Count | None, Field(description="The most pixels of each side.", examples=[3840])] = None
    min_frame_rate: Annotated[Rate | None, Field(description="The fewest frames a second.", examples=[24])] = None
    max_frame_rate: Annotated[Rate | None, Field(description="The most frames a second.", examples=[60])] = None


def find_film_problem(
    limits: FilmLimits, size: tuple[int, int], seconds: float | None, rate: float | None
) -> tuple[str, str] | None:
    """What a film lacks for a model, and what to do, as ends of sentences; None: nothing.

    Args:
        limits: what it must be.
        size: width and height in pixels.
        seconds: how long it lasts; None: not known.
        rate: its frames a second; None: not known.
    """
    if limits.min_seconds and seconds is not None and seconds < limits.min_seconds - _PADDING_SECONDS:
        return f"lasts {seconds:.3g} s; the model takes at least {limits.min_seconds:g} s", "Give a longer piece."
    shown = f"has {size[0]}x{size[1]} pixels"
    if limits.min_side and min(size) < limits.min_side:
        return f"{shown}; the model takes at least {limits.min_side} along each side", "Scale it up."
    if limits.max_side and max(size) > limits.max_side:
        return f"{shown}; the model takes at most {limits.max_side} along each side", "Scale it down."
    if limits.min_frame_rate and rate is not None and rate < limits.min_frame_rate * (1 - _RATE_SHARE):
        least = f"{limits.min_frame_rate:g}"
        return f"has {rate:.4g} frames a second; the model takes at least {least}", f"Save it with {least} a second."
    if limits.max_frame_rate and rate is not None and rate > limits.max_frame_rate * (1 + _RATE_SHARE):
        most = f"{limits.max_frame_rate:g}"
        return f"has {rate:.4g} frames a second; the model takes at most {most}", f"Save it with {most} a second."
    return None
