"""A manifest's price beside the one that the provider publishes now. Pure.

What a provider counts is free text, so a published price is compared only where its unit is understood and is the one
that the manifest counts. A published 0 is no price: fal prints it for models that it charges by the machine's time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rotoscope.models.estimate import Estimate, round_up_usd
from rotoscope.models.price import Price, PriceUnit
from rotoscope.providers.billing import PublishedPrice

__all__ = ["PriceComparison", "add_published_price", "compare_prices", "describe_price_rule"]

Verdict = Literal["same", "dearer", "cheaper", "other unit", "not comparable", "not published"]

_SAME_WITHIN = 0.005  # of the price: what rounding makes of it is no difference
_UNIT_TEXT = re.compile(r"(?:per |a |an )?(?:([0-9][0-9,]*(?:\.[0-9]+)?) ?(k|m|million|thousand)? )?([a-z][a-z -]*)")
# These texts are the provider's, and are shown among our own words: only short plain ones are repeated.
_SHOWN_UNIT, _SHOWN_CURRENCY = re.compile(r"[A-Za-z0-9 ()/.,-]{1,30}"), re.compile(r"[A-Za-z]{3}")
_MULTIPLES: Mapping[str, float] = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6}
_MILLIONS = re.compile(r"(million|thousand) ")
_UNITS: Mapping[str, tuple[frozenset[PriceUnit], float]] = {
    **dict.fromkeys(
        ("image", "request", "video", "generation", "run", "call", "inference"), (frozenset[PriceUnit]({"run"}), 1.0)
    ),
    **dict.fromkeys(("second", "video second", "output second"), (frozenset[PriceUnit]({"output_second"}), 1.0)),
    "minute": (frozenset({"output_second"}), 60.0),
    **dict.fromkeys(("compute second", "gpu second"), (frozenset[PriceUnit]({"run_second"}), 1.0)),
    "token": (frozenset({"token"}), 1.0),
    "megapixel": (frozenset({"megapixel"}), 1.0),
    "frame": (frozenset({"input_frame", "output_frame"}), 1.0),
}
"""By its name in the singular: which units of a manifest it may be, and how many of those one is."""

_UNIT_WORDS: Mapping[PriceUnit, str] = {
    "run_second": "compute second",
    "output_second": "second",
    "output_frame": "frame",
    "input_frame": "frame in",
}


@dataclass(frozen=True, slots=True)
class PriceComparison:
    """How a published price compares with a manifest's.

    Attributes:
        verdict: whether the provider's is higher; `not comparable` says that its unit or currency was not understood,
            `other unit` that the manifest counts something else.
        ratio: the published price as a multiple of the manifest's; None where they are not comparable.
        words: the published price, such as `0.006 USD a run`; empty where none is published.
        unit_usd: US dollars for one unit of the provider's own bill; None where it is not known.
    """

    verdict: Verdict
    ratio: float | None = None
    words: str = ""
    unit_usd: float | None = None


def compare_prices(price: Price | None, published: PublishedPrice | None) -> PriceComparison:
    """Compare what a manifest says with what is published. Of a price with tiers the dearest one counts, or the
    cheapest one, whichever is nearer: a published price says nothing of tiers.
    """
    if published is None or published.amount == 0:
        return PriceComparison("not published")
    words = _describe_published(published)
    if published.currency.upper() != "USD":
        return PriceComparison("not comparable", None, words)
    read = _read_unit(published.unit)
    if read is None:
        return PriceComparison("not comparable", None, words, published.amount)
    units, count = read
    if price is None or price.usd is None or price.unit not in units:
        return PriceComparison("other unit", None, words, published.amount)
    rates = sorted(usd / price.per for usd in (price.usd, *(tier.usd for tier in price.tiers)))
    now, least, most = published.amount / count, rates[0], rates[-1]
    nearest = most if now > most else max(now, least)
    ratio = now / nearest if nearest > 0 else float("inf")
    if abs(ratio - 1) <= _SAME_WITHIN:
        return PriceComparison("same", 1.0, words, published.amount)
    return PriceComparison("dearer" if ratio > 1 else "cheaper", ratio, words, published.amount)


def describe_price_rule(price: Price | None) -> str:
    """A manifest's price as text, such as `0.05 to 0.1 USD for 1 output second`; `unknown` where there is none."""
    if price is None or price.usd is None:
        return "unknown"
    amounts = sorted({price.usd, *(tier.usd for tier in price.tiers)})
    span = f"{amounts[0]:.6g}" if len(amounts) == 1 else f"{amounts[0]:.6g} to {amounts[-1]:.6g}"
    plural = "" if price.per == 1 else "s"
    return f"{span} USD for {price.per:g} {_UNIT_WORDS.get(price.unit, price.unit)}{plural}"


def _describe_published(published: PublishedPrice) -> str:
    """A published price as text, in the provider's own unit: `0.006 USD for 1 image`."""
    unit = published.unit.strip()
    if not _SHOWN_UNIT.fullmatch(unit):
        unit = "unit of its own"
    number = "" if unit[:1].isdigit() else "1 "
    currency = published.currency if _SHOWN_CURRENCY.fullmatch(published.currency) else "in an unknown currency"
    return f"{published.amount:.6g} {currency} for {number}{_singular(unit)}"


def add_published_price(
    estimate: Estimate, price: Price | None, published: PublishedPrice | None, title: str, day: str
) -> Estimate:
    """An estimate that is not too low by what is published: scaled up where that is dearer, and otherwise as it was.

    Args:
        estimate: by the manifest's price.
        price: the manifest's price.
        published: what the provider publishes; None where that is not known.
        title: the provider's name for people.
        day: when it was asked, in words: `today`, or a date.
    """
    found = compare_prices(price, published)
    estimate = replace(estimate, billed_unit_usd=found.unit_usd, price_note=_price_note(found, price, title, day))
    if found.verdict != "dearer" or found.ratio is None or estimate.typical_usd is None or estimate.at_most_usd is None:
        return estimate
    if found.ratio == float("inf"):  # by the manifest it is free: nothing can be scaled
        return replace(estimate, typical_usd=None, at_most_usd=None, unit_usd=None)
    return replace(
        estimate,
        typical_usd=round_up_usd(estimate.typical_usd * found.ratio),
        at_most_usd=round_up_usd(estimate.at_most_usd * found.ratio),
        unit_usd=None if estimate.unit_usd is None else estimate.unit_usd * found.ratio,
        minimum_usd=estimate.minimum_usd * found.ratio,
        basis=f"{estimate.basis}; {title} publishes {found.words} {day}, so {found.ratio:.3g} times that",
    )


def _price_note(found: PriceComparison, price: Price | None, title: str, day: str) -> str:
    """What differs, in one sentence; empty where nothing does."""
    match found.verdict:
        case "same" | "not published":
            return ""
        case "dearer" if found.ratio == float("inf"):
            words = "; by the manifest it is free, so its price counts as not known."
        case "dearer":
            words = f", {found.ratio:.3g} times the manifest's price: the estimate counts with that."
        case "cheaper":
            words = ", less than the manifest's price: the estimate keeps the manifest's."
        case "not comparable":
            words = "; what that is for is not understood, so it is not compared with the manifest's price."
        case "other unit" if price is None or price.usd is None:
            words = "; the manifest names no price, so this one can be written into it."
        case _ if price is not None and price.unit == "run_second":
            words = "; the manifest counts the time of computing instead, and so does the estimate."
        case _:
            words = "; the manifest counts in another way, so the two are not compared."
    return f"{title} publishes {found.words} {day}{words}"


def _read_unit(text: str) -> tuple[frozenset[PriceUnit], float] | None:
    """Which units of a manifest a unit's text may mean, and how many of those it is; None for a text nobody knows."""
    plain = " ".join(text.lower().replace("(s)", "s").replace("-", " ").split())
    matched = _UNIT_TEXT.fullmatch(plain)
    if matched is None:
        return None
    number, multiple, name = matched.groups()
    count = float(number.replace(",", "")) if number else 1.0
    count *= _MULTIPLES.get(multiple or "", 1.0)
    if worded := _MILLIONS.match(name):
        count, name = count * _MULTIPLES[worded[1]], name[worded.end() :]
    known = _UNITS.get(_singular(name.strip()))
    return None if known is None or count <= 0 else (known[0], count * known[1])


def _singular(text: str) -> str:
    """A unit without the `s` of its plural, also one in parentheses; `16 frames` stays, for there are 16."""
    plain = text.removesuffix("(s)")
    return plain.removesuffix("s") if not plain[:1].isdigit() and not plain.endswith("ss") else plain
