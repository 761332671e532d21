"""What a provider charges for a run, by the rules that it publishes. Pure.

Written from those rules alone, so that a mistake in another program's estimate cannot agree with itself here.

| wire | charged | not charged |
| --- | --- | --- |
| Replicate, official models | what came out: seconds of film by resolution, dearer with a film in | without an output |
| Replicate, community models | each second that a run was active, also a failed or cancelled one | before it began |
| fal | what came out, in units of the endpoint; an input that a runner refused | other failures, cancels, the queue |
| Segmind | each second of a run that succeeded | everything that is no 200 |
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rotoscope_sandbox.predictions import RunStatus

__all__ = ["Bill", "Measured", "bill_run", "listed_price"]

_TOKEN_PIXELS, _TOKEN_RATE = 1024, 24
_WAN_FRAMES_A_SECOND = 16
_SAM_FRAMES = 16
_NOTHING_WITHOUT = "compute seconds"


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a run once it is over.

    Attributes:
        computing_seconds: how long it was active.
        seconds: how long the film is that came out.
        frames: how many frames it has.
        width, height: its size in pixels.
        input_seconds: how long the reference films are together.
        input_frames: how many frames the film has in which an object is followed.
    """

    computing_seconds: float = 0.0
    seconds: float = 0.0
    frames: int = 0
    width: int = 0
    height: int = 0
    input_seconds: float = 0.0
    input_frames: int = 0


@dataclass(frozen=True, slots=True)
class Bill:
    """What is charged: a number of units, what they are, and US dollars for one."""

    units: float
    unit: str
    unit_usd: float

    @property
    def usd(self) -> float:
        """US dollars."""
        return self.units * self.unit_usd


Given = Mapping[str, Any]
Rule = Callable[[Given, Measured], Bill]


def bill_run(
    wire: str, model: str, given: Given, measured: Measured, status: RunStatus, *, is_input_refused: bool = False
) -> Bill:
    """What a run is charged.

    Args:
        wire: `replicate`, `fal` or `segmind`.
        model: its name there.
        given: its input as it was sent.
        measured: what it took and made.
        status: how it ended, or where it is.
        is_input_refused: whether it failed because its runner could not use the input.
    """
    rule = _RULES.get((wire, model)) or _TIME_RULES[wire]
    bill = rule(given, measured)
    is_by_time = bill.unit in (_NOTHING_WITHOUT, "second")
    match wire, status:
        case _, RunStatus.SUCCEEDED:
            return bill
        case "replicate", RunStatus.FAILED | RunStatus.CANCELED if is_by_time:
            return bill
        case "fal", RunStatus.FAILED if is_input_refused:
            # 422 is the one error that may be charged: a runner had worked.
            return bill if is_by_time else replace(bill, units=_RUNNERS_LEAST.get(model, 0.0))
    return replace(bill, units=0.0)


def listed_price(model: str) -> tuple[float, str]:
    """What fal's price list says of an endpoint: US dollars and the unit. Without a price it says 0, which is not
    free: the time on its machine is billed.
    """
    return _FAL_PRICES.get(model, (0.0, _NOTHING_WITHOUT))


def _bill_time(usd: float, unit: str = "second") -> Rule:
    return lambda _, measured: Bill(measured.computing_seconds, unit, usd)


def _bill_seedance_on_replicate(given: Given, measured: Measured) -> Bill:
    plain, with_video = _SEEDANCE_SECONDS[given.get("resolution") or "720p"]
    return Bill(measured.seconds, "second of film", with_video if given.get("reference_videos") else plain)


def _bill_seedance_at_fal(price: float) -> Rule:
    """Tokens are width x height x seconds x 24 / 1024; films in are counted as well, and all is then 40 % cheaper."""

    def bill(given: Given, measured: Measured) -> Bill:
        pixels = measured.width * measured.height
        seconds, factor = measured.seconds, 1.0
        if given.get("video_urls"):
            seconds, factor = seconds + measured.input_seconds, 0.6
        tokens = pixels * seconds * _TOKEN_RATE / _TOKEN_PIXELS
        return Bill(tokens / 1000 * factor, "1000 tokens", price)

    return bill


def _bill_wan(given: Given, measured: Measured) -> Bill:
    """A second of the price is 16 frames; lower resolutions are counted as fewer seconds of the dearest one."""
    resolution = given.get("resolution") or "auto"
    usd = _WAN_SECONDS.get(resolution, max(_WAN_SECONDS.values()))
    dearest = max(_WAN_SECONDS.values())
    return Bill(measured.frames / _WAN_FRAMES_A_SECOND * usd / dearest, "seconds", dearest)


def _bill_frames(usd: float) -> Rule:
    """A unit is 16 frames of the film; that a part of one counts as the whole is assumed."""
    return lambda _, measured: Bill(math.ceil(measured.input_frames / _SAM_FRAMES), "units", usd)


def _bill_void(given: Given, _: Measured) -> Bill:
    by_words = bool(given.get("mask_prompt")) and not given.get("quad_mask_video_url")
    return Bill((2.0 if given.get("enable_pass2_refinement") else 1.0) + by_words, "videos", 0.05)


def _bill_seconds(usd: float, unit: str = "seconds") -> Rule:
    """Each second of the film that came out."""
    return lambda _, measured: Bill(measured.seconds, unit, usd)


def _bill_each(usd: float, unit: str) -> Rule:
    return lambda _given, _measured: Bill(1.0, unit, usd)


_SEEDANCE_SECONDS = {"480p": (0.08, 0.10), "720p": (0.18, 0.22), "1080p": (0.45, 0.55), "4k": (0.93, 1.14)}
"""US dollars for a second of film on Replicate, and with a film in; 4k was not seen: by the ratio of BytePlus's."""

_WAN_SECONDS = {"240p": 0.05, "360p": 0.05, "480p": 0.05, "580p": 0.075, "720p": 0.10}
_A100, _L40S, _H100 = 0.0014, 0.000975, 0.001525
"""US dollars a second of Replicate's hardware; which one a community model has is assumed here."""

_FAL_A100 = 0.99 / 3600
"""US dollars a second of fal's A100; assumed."""

_SEEDANCE_TIERS = {"": 0.014, "/fast": 0.0112, "/mini": 0.007}
_SEEDANCE_ENDPOINTS = {
    f"bytedance/seedance-2.0{tier}/{kind}": usd
    for tier, usd in _SEEDANCE_TIERS.items()
    for kind in ("text-to-video", "image-to-video", "reference-to-video")
}

_SAM_VIDEOS = {
    f"fal-ai/{family}/{kind}": usd
    for family, usd in (("sam-3", 0.005), ("sam-3-1", 0.01))
    for kind in ("video", "video-rle")
}
"""US dollars for 16 frames."""

_WORDS_EDITS = {
    "fal-ai/wan/v2.7/edit-video": 0.10,
    "fal-ai/kling-video/o3/standard/video-to-video/edit": 0.252,
    "fal-ai/kling-video/o3/pro/video-to-video/edit": 0.336,
}
"""US dollars for a second of an edit by words at fal; Kling's by the dearer of two lists that were seen."""

_FAL_PRICES: Mapping[str, tuple[float, str]] = {
    "fal-ai/sam-3/image": (0.005, "units"),
    **{endpoint: (usd, "units") for endpoint, usd in _SAM_VIDEOS.items()},
    "fal-ai/wan-22-vace-fun-a14b/inpainting": (0.10, "seconds"),
    "fal-ai/void-video-inpainting": (0.05, "videos"),
    **{endpoint: (usd, "seconds") for endpoint, usd in _WORDS_EDITS.items()},
    **{endpoint: (usd, "1000 tokens") for endpoint, usd in _SEEDANCE_ENDPOINTS.items()},
}
_RUNNERS_LEAST = {"fal-ai/sam-3/image": 1.0, "fal-ai/void-video-inpainting": 1.0}
"""Units of a run whose input its runner refused, where a run has a fixed price."""

_RULES: Mapping[tuple[str, str], Rule] = {
    ("replicate", "bytedance/seedance-2.0"): _bill_seedance_on_replicate,
    ("replicate", "bytedance/sa2va-4b-image"): _bill_time(_A100),
    ("replicate", "mattsays/sam3-image"): _bill_time(_L40S),
    ("replicate", "prunaai/vace-14b"): _bill_time(_H100),
    ("replicate", "lucataco/sam3-video"): _bill_time(_L40S),
    **{("fal", endpoint): _bill_frames(usd) for endpoint, usd in _SAM_VIDEOS.items()},
    ("fal", "fal-ai/sam-3/image"): _bill_each(0.005, "units"),
    ("fal", "fal-ai/wan-22-vace-fun-a14b/inpainting"): _bill_wan,
    ("fal", "fal-ai/void-video-inpainting"): _bill_void,
    **{("fal", endpoint): _bill_seconds(usd) for endpoint, usd in _WORDS_EDITS.items()},
    ("replicate", "wan-video/wan-2.7-videoedit"): _bill_seconds(0.10, "second of film"),
    **{("fal", endpoint): _bill_seedance_at_fal(usd) for endpoint, usd in _SEEDANCE_ENDPOINTS.items()},
    ("segmind", "sam-v2-image"): _bill_time(0.00104),
    ("segmind", "sam3-image"): _bill_time(0.00146),
}
_TIME_RULES: Mapping[str, Rule] = {
    "replicate": _bill_time(_A100),
    "fal": _bill_time(_FAL_A100, _NOTHING_WITHOUT),
    "segmind": _bill_time(0.00146),
}
"""The rule of a wire for any other model: the time on its machine."""
