"""What some providers tell about money: the prices that they publish, and what they have charged. Pure records.

A dialect that can ask for either has the methods of `PriceLister` or `ChargeLister` beside those of every dialect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rotoscope.providers.http.messages import HttpCall, Reply

__all__ = ["ChargeLister", "ChargePage", "PriceLister", "PricePage", "PublishedPrice", "RunCharge"]


@dataclass(frozen=True, slots=True)
class PublishedPrice:
    """What a provider says that an endpoint costs, as it says it.

    Attributes:
        endpoint: the provider's name of the model.
        amount: what one unit costs, in `currency`.
        unit: what is counted, in the provider's free text, such as `image` or `1000 tokens`.
        currency: such as `USD`.
    """

    endpoint: str
    amount: float
    unit: str
    currency: str


@dataclass(frozen=True, slots=True)
class PricePage:
    """One page of published prices, and the request for the next one; None after the last."""

    prices: tuple[PublishedPrice, ...]
    next_page: HttpCall | None = None


@dataclass(frozen=True, slots=True)
class RunCharge:
    """One entry of what a run was charged: the provider's id of the run, and US dollars."""

    run_id: str
    usd: float


@dataclass(frozen=True, slots=True)
class ChargePage:
    """One page of charges, and the request for the next one; None after the last. A run may have several entries."""

    charges: tuple[RunCharge, ...]
    next_page: HttpCall | None = None


@runtime_checkable
class PriceLister(Protocol):
    """A dialect whose provider publishes its prices at an address."""

    def list_prices(self, endpoints: Sequence[str]) -> HttpCall | None:
        """Build the free request for the prices of some endpoints, at most 50; None without a base for it."""
        ...

    def read_prices(self, reply: Reply, endpoints: Sequence[str]) -> PricePage:
        """Read a page. An endpoint that is missing in all of them has no published price.

        Raises:
            ProviderError: it cannot be read now, or the key may not read it.
            InvalidInput: one of the endpoints is not known there.
        """
        ...


@runtime_checkable
class ChargeLister(Protocol):
    """A dialect whose provider lists what runs were charged."""

    def list_charges(self, run_ids: Sequence[str], since: float) -> HttpCall | None:
        """Build the free request for the charges of some runs, at most 50; None without a base for it.

        Args:
            run_ids: the provider's ids of the runs.
            since: the earliest charge, in Unix seconds.
        """
        ...

    def read_charges(self, reply: Reply, run_ids: Sequence[str], since: float) -> ChargePage:
        """Read a page. A run that is missing in all of them is not known to be charged, nor to be free.

        Raises:
            Refused: the key may not read it.
            ProviderError: it cannot be read now.
        """
        ...
