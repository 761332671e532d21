"""What a run will cost: from the price of a route, the filled inputs and the lengths of the media. Pure.

`typical` is what the rule gives for the request; `at_most` is what the bill cannot exceed, and what caps count. Where
no bound is known the price counts as unknown: a cap must never hold by a guess.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from rotoscope.contracts.money import format_usd
from rotoscope.models.manifest import Input, Manifest
from rotoscope.models.price import Price, PriceUnit, Scalar
from rotoscope.models.spelling import read_number
from rotoscope.providers.http.messages import Json

__all__ = ["NO_ESTIMATE", "Estimate", "LearnedSeconds", "MediaLength", "estimate_price", "round_up_usd"]

_MILLION = 1_000_000
_TOKEN_PIXELS = 1024  # width * height * seconds * frame rate / 1024 is the rule of the models that bill tokens
_P99_FACTOR = 1.5
_P99_RUNS = 20
_OUTPUT_SECONDS = ("output_second", "output_frame", "token", "megapixel")
_UNIT_NAMES: Mapping[PriceUnit, str] = {
    "run": "run",
    "run_second": "second of computing",
    "output_second": "second",
    "output_frame": "frame",
    "input_frame": "frame of the video",
    "token": "token",
    "megapixel": "megapixel",
}


@dataclass(frozen=True, slots=True)
class MediaLength:
    """The length of a medium in seconds and in frames; a sound has no frames."""

    seconds: float
    frames: int | None = None


@dataclass(frozen=True, slots=True)
class LearnedSeconds:
    """How long runs of the same kind took, from accepted to finished, in seconds.

    Attributes:
        median: the median of the latest.
        p99: their 99th percentile.
        runs: how many are known.
    """

    median: float
    p99: float
    runs: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will cost, in US dollars. Both amounts are None where no price, or no bound of it, is known.

    Attributes:
        typical_usd: what the price's rule gives for this request.
        at_most_usd: what the bill cannot exceed.
        basis: how that was computed, in words.
        unit: what is counted, as a price names it.
        unit_usd: what one unit costs for these inputs, to compute the charge from what the provider measures.
        added_units: units that are billed beside those that the provider measures, such as the seconds of films in.
        minimum_usd: the least that a run costs.
        on_failure: whether a run that fails is charged; None where that is not known. `on_cancel` is the same.
        billed_unit_usd: what one unit of the provider's own bill costs; None where it has not published that.
        price_note: in one sentence how the published price differs; empty where it does not, or is not known.
    """

    typical_usd: float | None
    at_most_usd: float | None
    basis: str
    unit: PriceUnit = "unknown"
    unit_usd: float | None = None
    added_units: float = 0.0
    minimum_usd: float = 0.0
    on_failure: bool | None = None
    on_cancel: bool | None = None
    billed_unit_usd: float | None = None
    price_note: str = ""


NO_ESTIMATE = Estimate(None, None, "no document tells the price")
"""The estimate for a model without a price."""


@dataclass(frozen=True, slots=True)
class _Amount:
    """How many units a run takes, and how that is said: for the request, and at most."""

    typical: float
    at_most: float
    words: str
    added: float = 0.0
    per_second: float | None = None  # units of a second, where a rate by the second says more than one by the unit


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked of the model: its manifest as the route has it, the filled inputs and the media's lengths."""

    manifest: Manifest
    price: Price
    filled: Mapping[str, Json]
    media: Mapping[str, MediaLength]


def estimate_price(
    manifest: Manifest,
    filled: Mapping[str, Json],
    media: Mapping[str, MediaLength],
    *,
    stops_at_deadline: bool = False,
    learned: LearnedSeconds | None = None,
    provider_title: str | None = None,
) -> Estimate:
    """What a run will cost.

    Args:
        manifest: the model as one route has it (`Manifest.at`).
        filled: its inputs.
        media: how long each medium lasts, by its link, as far as it is known.
        stops_at_deadline: whether the provider itself ends a run at the deadline that is sent with it.
        learned: how long such runs took until now, for a price of computing time.
        provider_title: who charges, for the words; the route's provider by default.
    """
    price = manifest.price
    title = provider_title or manifest.routes[0].provider
    if price is None or price.usd is None:
        note = f": {price.note}" if price is not None and price.note else ""
        return Estimate(None, None, f"no document tells the price{note}")
    request = _Request(manifest, price, filled, media)
    usd, deciding = _unit_usd(request)
    amount = _count_units(request, title, learned, stops_at_deadline=stops_at_deadline)
    if amount is None:
        return Estimate(None, None, f"{_rate_words(price, usd)}; how much the run takes is not known; {title}")
    typical = max(_billed_units(price, amount.typical) * usd, price.minimum_usd)
    ruled = max(_billed_units(price, amount.at_most) * usd, price.minimum_usd) * (1 + price.margin)
    # A bound that a document states holds whatever is computed; a computed one that is endless does not.
    bound = ruled if price.at_most_usd is None else min(ruled, max(price.at_most_usd, price.minimum_usd))
    if not math.isfinite(bound):
        return Estimate(None, None, f"{_rate_words(price, usd)}, without any bound; {title}")
    at = _conditions_text(deciding)
    rate = _rate_words(price, usd) if amount.per_second is None else f"{amount.per_second * usd:.4g} USD a second"
    words = f"{amount.words}{at}, {rate}" if amount.words else f"{rate}{at}"
    return Estimate(
        typical_usd=round_up_usd(min(typical, bound)),
        at_most_usd=round_up_usd(bound),
        basis=f"{words}; {title}, {price.seen}",
        unit=price.unit,
        unit_usd=usd,
        added_units=amount.added,
        minimum_usd=price.minimum_usd,
        on_failure=_is_charged(price.on_failure),
        on_cancel=_is_charged(price.on_cancel),
    )


def _billed_units(price: Price, units: float) -> float:
    """The units that are billed: whole multiples of `per` where a part of one counts as the whole."""
    return math.ceil(units / price.per) * price.per if price.rounds_up and math.isfinite(units) else units


def _is_charged(fact: str) -> bool | None:
    return {"free": False, "charged": True}.get(fact)


def _unit_usd(request: _Request) -> tuple[float, Mapping[str, Json]]:
    """What one unit costs for these inputs, and the values that decide it, by the names of the inputs."""
    price = request.price
    tier = next((one for one in price.tiers if _fits(request, one.when)), None)
    usd = cast("float", price.usd) if tier is None else tier.usd
    deciding: dict[str, Json] = dict(tier.when) if tier is not None else {}
    for factor in price.factors:
        if _fits(request, factor.when):
            usd *= factor.times
            deciding |= factor.when
    if price.frame is not None:
        deciding |= {price.frame.input: _value_of(request, price.frame.input) or "its largest size"}
    return usd / price.per, deciding


def _conditions_text(deciding: Mapping[str, Json]) -> str:
    """` at 720p`; flags and media by their names: ` at 720p with reference videos`."""
    values, flags = list[str](), list[str]()
    for name, value in deciding.items():
        if isinstance(value, bool):
            flags.append(f" {'with' if value else 'without'} {_plain_name(name)}")
        else:
            values.append(value if isinstance(value, str) else f"{_plain_name(name)} {value}")
    return (f" at {', '.join(values)}" if values else "") + "".join(flags)


def _plain_name(name: str) -> str:
    return name.replace("_", " ")


def _fits(request: _Request, when: Mapping[str, Scalar]) -> bool:
    return all(_has_value(request, name, value) for name, value in when.items())


def _has_value(request: _Request, name: str, wanted: Scalar) -> bool:
    field = request.manifest.inputs[name]
    if field.is_media or field.many:
        return bool(request.filled.get(name)) == wanted
    value = _value_of(request, name)
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def _value_of(request: _Request, name: str) -> Json:
    value = request.filled.get(name)
    return cast("Json", request.manifest.inputs[name].default) if value is None else value


def _count_units(
    request: _Request, title: str, learned: LearnedSeconds | None, *, stops_at_deadline: bool
) -> _Amount | None:
    price, manifest = request.price, request.manifest
    match price.unit:
        case "run":
            return _Amount(1.0, 1.0, "")
        case "run_second":
            return _count_computing_seconds(request, title, learned, stops_at_deadline=stops_at_deadline)
        case "input_frame":
            clip = _video_to_edit(request)
            frames = clip.frames if clip is not None else None
            return _Amount(frames, frames, f"{frames} frames of the video") if frames else _bound_alone(price)
        case "output_frame":
            rate = price.frame_rate or manifest.outputs.frame_rate
            most = _output_frames(manifest, request.filled, request.media, rate)
            return _Amount(most, most, f"{most:.0f} frames") if most else _bound_alone(price)
    seconds = _output_seconds(manifest, request.filled, request.media)
    if seconds is None:
        return _bound_alone(price)
    typical, at_most = _seconds_of_films(request)
    per_second = 1.0
    if price.frame is not None and price.frame_rate is not None:
        size = _value_of(request, price.frame.input)
        pixels = price.frame.pixels.get(str(size)) or max(price.frame.pixels.values())
        per_second = pixels * price.frame_rate / (_TOKEN_PIXELS if price.unit == "token" else _MILLION)
    words = f"{seconds:.3g} s" + (f" and {typical:.3g} s of films in" if typical else "")
    return _Amount(
        typical=(seconds + typical) * per_second,
        at_most=(seconds + at_most) * per_second,
        words=words,
        added=typical * per_second,
        per_second=per_second if price.frame is not None else None,
    )


def _bound_alone(price: Price) -> _Amount | None:
    """For a run whose amount is not known before: the bound, where the price names one."""
    return None if price.at_most_usd is None else _Amount(math.inf, math.inf, "")


def _count_computing_seconds(
    request: _Request, title: str, learned: LearnedSeconds | None, *, stops_at_deadline: bool
) -> _Amount:
    timing = request.manifest.timing
    deadline = float(timing.deadline_seconds)
    typical = learned.median if learned is not None else timing.typical_seconds
    if stops_at_deadline:
        most, why = deadline, f"at most {deadline:g} s, after which {title} stops it"
    elif request.price.at_most_usd is not None:
        most, why = math.inf, f"at most {format_usd(request.price.at_most_usd)}"
    else:
        most, why = math.inf, "without a bound"
    if learned is not None and learned.runs >= _P99_RUNS and learned.p99 * _P99_FACTOR < most:
        most = learned.p99 * _P99_FACTOR
        why = f"at most {most:.3g} s by the 99th percentile of {learned.runs} own runs"
    return _Amount(min(typical, most), most, f"about {typical:.3g} s of computing, {why}")


def _rate_words(price: Price, unit_usd: float) -> str:
    usd = unit_usd * price.per
    if price.unit == "unknown":
        return "no document tells the price"
    name = _UNIT_NAMES[price.unit]
    head, _, rest = name.partition(" ")
    counted = f"a {name}" if price.per == 1 else f"per {price.per:g} {head}s{rest and f' {rest}'}"
    return f"{usd:.6g} USD {counted}"


def round_up_usd(usd: float) -> float:
    """US dollars in whole millionths, rounded up."""
    # Rounded to a billionth first: 3 * 0.1 is a little more than 0.3, which must not cost a millionth more.
    return math.ceil(round(usd * _MILLION, 3)) / _MILLION


def _seconds_of_films(request: _Request) -> tuple[float, float]:
    """The seconds of films in that are billed too: as known, and at most where some are not known."""
    typical = at_most = 0.0
    for name in request.price.adds_seconds_of:
        value = request.filled.get(name)
        links = [str(one) for one in value] if isinstance(value, list) else [str(value)] if value else []
        known = [request.media[link].seconds for link in links if link in request.media]
        typical += sum(known)
        most = request.manifest.inputs[name].max_total_seconds
        at_most += sum(known) if len(known) == len(links) else (math.inf if most is None else most)
    return typical, at_most


def _output_seconds(manifest: Manifest, filled: Mapping[str, Json], media: Mapping[str, MediaLength]) -> float | None:
    """The longest that the output may last: as requested in seconds or in frames, else as long as the edited video."""
    clip = _find_video_to_edit(manifest, filled, media)
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


def _output_frames(
    manifest: Manifest, filled: Mapping[str, Json], media: Mapping[str, MediaLength], rate: float | None
) -> float | None:
    """The most frames that the output may have: as requested, else as many as its seconds make at a frame rate."""
    for name, field in manifest.inputs.items():
        if (field.fits == "frames" or field.argument == "frame_num") and (
            frames := _largest_amount(field, filled.get(name))
        ):
            return frames
    seconds = _output_seconds(manifest, filled, media)
    return seconds * rate if seconds is not None and rate is not None else None


def _largest_known(numbers: Iterable[float | None]) -> float | None:
    return max((number for number in numbers if number is not None), default=None)


def _largest_amount(field: Input, value: Json) -> float | None:
    """The requested amount; where the model chooses, the most that it may choose."""
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


def _video_to_edit(request: _Request) -> MediaLength | None:
    return _find_video_to_edit(request.manifest, request.filled, request.media)


def _find_video_to_edit(
    manifest: Manifest, filled: Mapping[str, Json], media: Mapping[str, MediaLength]
) -> MediaLength | None:
    """The edited video: the one that a mask covers, else the one of the argument `video`."""
    covered = [field.covers for field in manifest.inputs.values() if field.covers]
    named = [name for name, field in manifest.inputs.items() if field.argument == "video" and field.is_media]
    for name in (*covered, *named):
        given = filled.get(name)
        link = given[0] if isinstance(given, list) and len(given) == 1 else given
        if (found := media.get(str(link))) is not None and found.seconds > 0:
            return found
    return None
