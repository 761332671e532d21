"""What runs were charged, read from the provider's own list after they have ended."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotoscope.errors import ProviderError, Refused
from rotoscope.jobs.context import JobContext
from rotoscope.models.catalog import Access
from rotoscope.providers.billing import ChargeLister
from rotoscope.store.charges import Charges, UnknownCharge

__all__ = ["ChargeReader", "ChargesRead"]

_DAY = 86_400.0  # seconds
_LISTED_FOR = 90 * _DAY  # seconds for which fal lists billing events
_MAX_RUNS = 2000  # of one provider, the newest
_BATCH, _MAX_PAGES = 50, 10
_CLOCK_MARGIN = 3600.0  # seconds by which the two clocks may differ


@dataclass(frozen=True, slots=True)
class ChargesRead:
    """What came of reading one provider's charges.

    Attributes:
        title: its name for people.
        unknown: how many runs had no known charge.
        found: of how many of them the charge was found, and written.
        is_refused: whether the key may not read them; then no more is asked.
        error: why not all were asked about; empty where they were.
    """

    title: str
    unknown: int
    found: int
    is_refused: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class ChargeReader:
    """Asks providers what ended runs of unknown charge were charged, and writes what they say, each run by itself.

    A run that a provider does not list stays as it is: that proves nothing. The same holds for an amount of 0, for
    that is what is listed for models whose price is by the machine's time.

    Attributes:
        context: sends requests.
        charges: the charges in the ledger.
        access: which providers can be asked; the sandbox's runs are an account of their own.
    """

    context: JobContext
    charges: Charges
    access: Access

    async def read_all(self) -> Sequence[ChargesRead]:
        """Ask every provider that lists charges and whose key is set, about the runs of the last 90 days.

        Raises:
            StorageFailed: the ledger could not be read or written.
        """
        dialects = self.context.dialects
        return [await self._read(name) for name in sorted(self.access.keys) if isinstance(dialects[name], ChargeLister)]

    async def _read(self, provider: str) -> ChargesRead:
        since = self.context.clock() - _LISTED_FOR + _CLOCK_MARGIN
        unknown = await self.charges.find_unknown(provider, since, _MAX_RUNS, sandbox=self.access.sandbox)
        title, found = self.context.catalog.providers[provider].title, 0
        for start in range(0, len(unknown), _BATCH):
            batch = unknown[start : start + _BATCH]
            try:
                charged = await self._ask(provider, batch, max(since, batch[-1].sent_at - _CLOCK_MARGIN))
            except ProviderError as error:
                return ChargesRead(title, len(unknown), found, isinstance(error, Refused), error.message)
            found += await self._write(batch, charged)
        return ChargesRead(title, len(unknown), found)

    async def _write(self, batch: Sequence[UnknownCharge], charged: Mapping[str, float]) -> int:
        found = 0
        for one in batch:
            usd = charged.get(one.run_id, 0.0)
            if usd > 0 and await self.charges.write(one.job_id, usd):
                found += 1
                self.context.notifier.notify_change(one.job_id)
        return found

    async def _ask(self, provider: str, batch: Sequence[UnknownCharge], since: float) -> Mapping[str, float]:
        """What some runs were charged in all, in US dollars, by the provider's ids; those that are listed only.

        Raises:
            Refused: the key may not read it.
            ProviderError: it does not answer.
        """
        dialect = self.context.dialects[provider]
        assert isinstance(dialect, ChargeLister), "only these providers are asked"
        ids = [one.run_id for one in batch]
        call, sums = dialect.list_charges(ids, since), defaultdict[str, float](float)
        for _ in range(_MAX_PAGES):
            if call is None:
                return sums
            page = dialect.read_charges(await self.context.send(provider, call), ids, since)
            for charge in page.charges:
                sums[charge.run_id] += charge.usd
            call = page.next_page
        return {}  # a list without an end: a part of a sum is no charge
