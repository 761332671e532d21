"""Money, as far as it is arithmetic: what a run may cost, what it has cost, and what a refusal says. Pure.

Amounts inside the ledger are whole millionths of a US dollar, so that seven times 0.1 is 0.7.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rotoscope.contracts.money import format_usd
from rotoscope.contracts.status import Status
from rotoscope.errors import OverBudget
from rotoscope.settings import UnpricedPolicy

__all__ = [
    "ANY_PRICE",
    "BILLED_UNITS",
    "Caps",
    "ResendPolicy",
    "RunCost",
    "Settlement",
    "UnitPrice",
    "add_usd",
    "millionths_to_usd",
    "refuse_over_budget",
    "settlement",
    "start_of_day",
    "usd_to_millionths",
]

BILLED_UNITS = "billed_unit"
"""Under which a dialect tells how many units of its own bill a run took."""

ANY_PRICE = float("inf")
"""The consent to a run whose price is not known, as an amount in US dollars."""

_MILLION = 1_000_000
_MAX_PLAUSIBLE = 1_000_000.0  # US dollars, or seconds of one run
_MIN_MEASURE = 0.001
_MAX_USD = 1e10  # more than any cap, and still a number that a table can add up


@dataclass(frozen=True, slots=True)
class Caps:
    """What may be spent, in US dollars.

    Attributes:
        per_call: for one run; None is without a limit, 0 refuses every run.
        per_day: by one principal in one day (UTC), what is still held counted in; None is without a limit, 0 refuses
            every run.
        unpriced: what becomes of a run whose price is not known; it counts for nothing, so no other cap holds it.
        consent_usd: the consent that was given to this one run; None where none is needed, `ANY_PRICE` for one whose
            price is not known.
        per_day_for_all: by all principals together in one day (UTC), like `per_day`.
    """

    per_call: float | None = None
    per_day: float | None = None
    unpriced: UnpricedPolicy = "run"
    consent_usd: float | None = None
    per_day_for_all: float | None = None


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """What one unit of a run costs, in US dollars, for the inputs of that run.

    Attributes:
        unit: the unit as manifests name it, such as `run_second`.
        usd: what one of them costs.
        added_units: units that are billed beside those that the provider measures.
        minimum_usd: the least that a run costs.
        billed_unit_usd: what one unit of the provider's own bill costs; None where it has not said so.
    """

    unit: str
    usd: float
    added_units: float = 0.0
    minimum_usd: float = 0.0
    billed_unit_usd: float | None = None


@dataclass(frozen=True, slots=True)
class RunCost:
    """What is known of the cost of one run.

    Attributes:
        price: what a unit costs; None where no price is known.
        estimate_usd: what it was likely to cost when it was asked for; None where no price is known.
        at_most_usd: what it could cost at most; None where that is the estimate.
        is_charged: whether the provider says that it has charged for it; None where it does not say.
        has_output: whether the provider has given an output, whatever became of that here.
        measured: what the provider has measured, by the unit of the price.
        was_resent: whether the request was sent again although it may have been accepted.
    """

    price: UnitPrice | None = None
    estimate_usd: float | None = None
    at_most_usd: float | None = None
    is_charged: bool | None = None
    has_output: bool = False
    measured: Mapping[str, float] = field(default_factory=dict)
    was_resent: bool = False

    @property
    def bound(self) -> int | None:
        """What it counts for in millionths until its charge is known; None where no price is known."""
        usd = _plausible_amount(self.at_most_usd)
        usd = _plausible_amount(self.estimate_usd) if usd is None else usd
        return None if usd is None else usd_to_millionths(usd)


@dataclass(frozen=True, slots=True)
class ResendPolicy:
    """When a person would rather pay twice for a small run than look for it.

    Attributes:
        below_usd: a run whose estimate is less than this may be sent once more; 0 is never.
        per_day: the cap of the principal that holds for both together, in US dollars; None is without a limit.
        per_day_for_all: the same of all principals together.
    """

    below_usd: float = 0.0
    per_day: float | None = None
    per_day_for_all: float | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a reservation ends.

    Attributes:
        committed: what it counts for from now on, in millionths; None when no amount is known.
        charged_usd: what the result says was charged; None when that is not known.
    """

    committed: int | None
    charged_usd: float | None


def add_usd(amounts: Sequence[float | None]) -> float | None:
    """The sum of some amounts in US dollars, to the millionth; None where one of them is not known."""
    known = [amount for amount in amounts if amount is not None]
    return round(sum(known), 6) if len(known) == len(amounts) else None


def usd_to_millionths(usd: float) -> int:
    """US dollars as whole millionths, rounded up: a cap must hold. What is no number is more than any cap."""
    # 3 * 0.1 is a little more than 0.3: what only floating point adds is no money.
    return 0 if usd <= 0 else -int(-round(min(_MAX_USD, usd) * _MILLION, 3) // 1)


def millionths_to_usd(millionths: int) -> float:
    """Millionths as US dollars."""
    return millionths / _MILLION


def start_of_day(now: float) -> float:
    """The beginning of the day (UTC) of a moment, both in Unix seconds."""
    return datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def refuse_over_budget(
    caps: Caps,
    estimate_usd: float | None,
    today: int,
    model: str,
    at_most_usd: float | None = None,
    today_for_all: int = 0,
) -> None:
    """Refuse a run that could pass a cap.

    Caps count what a run costs at most, for nothing else holds; consent is to the price that was shown.

    Args:
        caps: what may be spent.
        estimate_usd: what the run is likely to cost, or None where no price is known.
        today: what was spent or is held today, in millionths.
        model: named in the message.
        at_most_usd: what it can cost at most; the estimate by default.
        today_for_all: what all principals together have spent or hold today, in millionths.

    Raises:
        OverBudget: names the sum, the cap and how to raise it.
    """
    _refuse_zero_cap(caps, model)
    if estimate_usd is None:
        _refuse_unpriced(caps, model)
        return
    most = estimate_usd if at_most_usd is None else max(at_most_usd, estimate_usd)
    cost = f"about {estimate_usd:.4g} USD" if most == estimate_usd else f"up to {most:.4g} USD"
    if caps.per_call is not None and usd_to_millionths(most) > usd_to_millionths(caps.per_call):
        raise OverBudget(
            f"This run of {model} would cost {cost}; the cap for one call is {caps.per_call:.4g} USD.",
            hint="Ask for less, or raise ROTOSCOPE_MAX_USD_PER_CALL for the server.",
        )
    if caps.per_day is not None and today + usd_to_millionths(most) > usd_to_millionths(caps.per_day):
        raise OverBudget(
            f"This run of {model} would cost {cost}; with the {millionths_to_usd(today):.4g} USD spent or "
            f"held today it would pass the cap of {caps.per_day:.4g} USD a day.",
            hint="Wait until midnight (UTC), or raise ROTOSCOPE_MAX_USD_PER_DAY for the server.",
        )
    for_all = caps.per_day_for_all
    if for_all is not None and today_for_all + usd_to_millionths(most) > usd_to_millionths(for_all):
        # What others have spent is theirs to know: no sum is named.
        raise OverBudget(
            f"This run of {model} would cost {cost} and pass the cap of what all people here may spend in a day.",
            hint="Wait until midnight (UTC), or raise ROTOSCOPE_MAX_USD_PER_DAY_FOR_ALL for the server.",
        )
    if caps.consent_usd is not None and usd_to_millionths(estimate_usd) > usd_to_millionths(caps.consent_usd):
        raise OverBudget(
            f"This run of {model} would cost about {format_usd(estimate_usd)}, and nobody has agreed to that; "
            "nothing was spent.",
            hint="Call again: the price is asked about first.",
            code="consent",
        )


def _refuse_zero_cap(caps: Caps, model: str) -> None:
    for name, cap in (
        ("ROTOSCOPE_MAX_USD_PER_CALL", caps.per_call),
        ("ROTOSCOPE_MAX_USD_PER_DAY", caps.per_day),
        ("ROTOSCOPE_MAX_USD_PER_DAY_FOR_ALL", caps.per_day_for_all),
    ):
        if cap is not None and cap <= 0:
            raise OverBudget(
                f"{name} is 0, and so every run is refused, this one of {model} too.",
                hint=f"Raise {name} for the server.",
            )


def _refuse_unpriced(caps: Caps, model: str) -> None:
    if caps.unpriced == "refuse":
        raise OverBudget(
            f"The price of {model} is not known, and models without a price are refused here.",
            hint="Name a model with a price, write one into its manifest, or set ROTOSCOPE_UNPRICED to ask or run.",
            code="price_unknown",
        )
    if caps.unpriced == "ask" and caps.consent_usd is not None and caps.consent_usd < ANY_PRICE:
        raise OverBudget(
            f"The price of {model} is not known, and nobody has agreed to that; nothing was spent.",
            hint="Call again: it is asked about first. With ROTOSCOPE_UNPRICED=run it is not.",
            code="consent",
        )


def settlement(state: Status, run: RunCost) -> Settlement:
    """What a job that has ended has cost.

    What was refused or aborted is free. A run that ended well costs its price times what the provider has measured, or
    its fixed price; where neither tells, its charge is not known, and what it costs at most goes on counting. The same
    holds where it is not known whether a run was charged. No number of a provider is taken for an amount of money
    unless its unit is documented.

    Args:
        state: the job's final state.
        run: what is known of the run. Of a request that was sent again although it may have been accepted the bound
            counts once more, and what was charged is not known.
    """
    ending = _single_run_settlement(state, run)
    if not run.was_resent or run.bound is None:
        return ending
    return Settlement((ending.committed or 0) + run.bound, None)


def _single_run_settlement(state: Status, run: RunCost) -> Settlement:
    if run.is_charged is False:
        return Settlement(0, 0.0)
    if state == "succeeded" or run.is_charged or run.has_output:
        measured = _usd_from_measure(run)
        usd = _fixed_price_usd(run) if measured is None else measured
        if usd is not None:
            return Settlement(usd_to_millionths(usd), usd)
    return Settlement(run.bound, None)


def _fixed_price_usd(run: RunCost) -> float | None:
    """The price of a run that costs the same whatever it takes; also of rows without a unit, as they always did."""
    return _plausible_amount(run.estimate_usd) if run.price is None or run.price.unit == "run" else None


def _usd_from_measure(run: RunCost) -> float | None:
    """What the provider's measure makes of the price, in US dollars, rounded up.

    A measure of nothing is none: a run that gave a result has taken some time, and a provider that says 0 must not
    free the caps of what it may still charge.
    """
    if run.price is None:
        return None
    billed = _product(run.measured.get(BILLED_UNITS), run.price.billed_unit_usd)
    if billed is not None:
        return billed
    amount = _plausible_amount(run.measured.get(run.price.unit))
    if amount is None or amount < _MIN_MEASURE:
        return None
    usd = _product(amount + run.price.added_units, run.price.usd)
    return None if usd is None else max(usd, run.price.minimum_usd)


def _product(amount: float | None, unit_usd: float | None) -> float | None:
    amount, unit_usd = _plausible_amount(amount), _plausible_amount(unit_usd)
    if amount is None or amount < _MIN_MEASURE or unit_usd is None:
        return None
    return millionths_to_usd(usd_to_millionths(amount * unit_usd))


def _plausible_amount(value: float | None) -> float | None:
    """A number that can be an amount; a provider's that is negative, endless or beyond all reason says nothing."""
    return value if value is not None and 0 <= value < _MAX_PLAUSIBLE else None
