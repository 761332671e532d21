"""Published prices, asked for beside the work: no call waits for them for more than a moment, and none fails by them.

A provider that publishes its prices is asked about all endpoints of its routes at once, at most once a day, and after
an answer that did not come at most once an hour. What was answered is kept in a file, for the next process.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import anyio
import anyio.abc
import anyio.to_thread

from rotoscope.contracts.times import timestamp
from rotoscope.errors import InvalidInput, RotoscopeError
from rotoscope.jobs.context import JobContext
from rotoscope.models.catalog import Access
from rotoscope.models.estimate import Estimate
from rotoscope.models.manifest import Manifest, Route
from rotoscope.models.price import Price
from rotoscope.models.published_prices import add_published_price, compare_prices, describe_price_rule
from rotoscope.providers.billing import PriceLister, PublishedPrice
from rotoscope.providers.states import Call
from rotoscope.store.price_file import KnownPrice, PriceBook, PriceFile

__all__ = ["PublishedPrices", "RoutePrice"]

_DAY, _HOUR = 86_400.0, 3600.0  # seconds
_LONGEST_WAIT = 1.0  # seconds that a call waits for an answer
_FIRST_ASK_AFTER = 5.0  # seconds after the start, when the first calls are through
_ASK_SECONDS = 30.0  # for all answers together
_USABLE_FOR = 30 * _DAY  # seconds; what was published longer ago says nothing of today
_BATCH, _MAX_ENDPOINTS, _MAX_PAGES = 50, 500, 10
_MAX_REFUSALS = 6  # without any answer; the address itself is then taken for missing


@dataclass(frozen=True, slots=True)
class RoutePrice:
    """One line of the comparison: a route of a model, under one of its names at the provider.

    Attributes:
        manifest_price: the manifest's price, as text.
        published_price: the provider's, as text; empty where none is known.
        asked_at: when the provider was asked, in ISO 8601; None for never, and where it publishes no prices.
        verdict: how they compare, see `PriceComparison`; `not known` where nothing was answered, `no list` where the
            provider has no address for its prices.
        ratio: the published price as a multiple of the manifest's, where they can be compared.
    """

    model: str
    provider: str
    endpoint: str
    manifest_price: str
    published_price: str
    asked_at: str | None
    verdict: str
    ratio: float | None


class PublishedPrices:
    """What providers publish of their prices.

    Args:
        context: sends requests, and has the catalog and the dialects.
        access: which providers can be asked. The sandbox is asked only when a person wants it.
        file: keeps the answers between processes.
        tasks: where a provider is asked; it belongs to the process.
    """

    def __init__(self, context: JobContext, access: Access, file: PriceFile, tasks: anyio.abc.TaskGroup) -> None:
        self._context = context
        self._access = access
        self._file = file
        self._tasks = tasks
        self._books: dict[str, PriceBook] = {}
        self._asking: dict[str, anyio.Event] = {}
        dialects = context.dialects
        self.providers = frozenset(name for name in access.keys if isinstance(dialects[name], PriceLister))

    async def run(self) -> None:
        """Ask when the process has been up for a moment, and then whenever an answer is a day old; until cancelled."""
        if self._access.sandbox or not self.providers:
            return
        await anyio.sleep(_FIRST_ASK_AFTER)
        while True:
            for provider in sorted(self.providers):
                await self._read_book(provider)
                if self._is_due(provider, self._endpoints(provider)):
                    await self._start_asking(provider).wait()
            await anyio.sleep(_HOUR)

    async def adjust_estimate(self, estimate: Estimate, price: Price | None, call: Call, title: str) -> Estimate:
        """An estimate that is not too low by what is published for the call's endpoint, as far as that is known.

        It waits for a moment at most, and never fails.
        """
        with anyio.move_on_after(_LONGEST_WAIT):
            book = await self._read_book(call.provider)
            if not self._access.sandbox and self._is_due(call.provider, [call.endpoint]):
                await self._start_asking(call.provider, call.endpoint).wait()
        book = self._books.get(call.provider, PriceBook())
        known, now = book.prices.get(call.endpoint), self._context.clock()
        if known is None or not -_HOUR <= now - known.asked_at < _USABLE_FOR:
            return estimate
        day = "today" if now - known.asked_at < _DAY else f"as of {timestamp(known.asked_at)[:10]}"
        return add_published_price(estimate, price, known.published, title, day)

    async def refresh(self) -> Mapping[str, str]:
        """Ask every provider now, whatever is known already; why one did not answer, by its name for people."""
        refusals = {}
        for provider in sorted(self.providers):
            await self._read_book(provider)
            error = await self._ask_and_keep(provider, self._endpoints(provider))
            if error is not None:
                refusals[self._context.catalog.providers[provider].title] = error
        return refusals

    async def compare(self) -> Sequence[RoutePrice]:
        """Every route of every model with what is known of its published price."""
        for provider in self.providers:
            await self._read_book(provider)
        manifests = sorted(self._context.catalog.models.values(), key=lambda one: (one.tool, one.rank, one.id))
        return [line for manifest in manifests for route in manifest.routes for line in self._lines(manifest, route)]

    def _lines(self, manifest: Manifest, route: Route) -> Iterator[RoutePrice]:
        price = manifest.at(route).price
        has_list = isinstance(self._context.dialects[route.provider], PriceLister)
        for endpoint in sorted(route.endpoints):
            known = self._books.get(route.provider, PriceBook()).prices.get(endpoint)
            found = compare_prices(price, known.published if known is not None else None)
            yield RoutePrice(
                manifest.id,
                route.provider,
                endpoint,
                describe_price_rule(price),
                found.words,
                None if known is None else timestamp(known.asked_at),
                found.verdict if known is not None else "not known" if has_list else "no list",
                found.ratio,
            )

    def _endpoints(self, provider: str) -> Sequence[str]:
        routes = [route for manifest in self._context.catalog.models.values() for route in manifest.routes]
        names = {name for route in routes if route.provider == provider for name in route.endpoints}
        return sorted(names)[:_MAX_ENDPOINTS]

    def _is_due(self, provider: str, endpoints: Sequence[str]) -> bool:
        """Whether one of some endpoints has no answer of today, and nobody has tried to get one lately."""
        book, now = self._books.get(provider, PriceBook()), self._context.clock()
        if book.tried_at is not None and 0 <= now - book.tried_at < _HOUR:
            return False
        known = [book.prices.get(name) for name in endpoints]
        return any(one is None or not 0 <= now - one.asked_at < _DAY for one in known)

    def _start_asking(self, provider: str, *more: str) -> anyio.Event:
        """Ask in the background, unless that is done already; what is returned is set at the end of it."""
        if (running := self._asking.get(provider)) is not None:
            return running
        done = self._asking[provider] = anyio.Event()

        async def work() -> None:
            try:
                await self._ask_and_keep(provider, sorted({*self._endpoints(provider), *more}))
            finally:
                del self._asking[provider]
                done.set()

        self._tasks.start_soon(work)
        return done

    async def _ask_and_keep(self, provider: str, endpoints: Sequence[str]) -> str | None:
        """Ask about some endpoints and keep the answers; why that did not succeed, as text."""
        now, book = self._context.clock(), self._books.get(provider, PriceBook())
        # Noted before it is asked: a process that ends meanwhile must not make the next one wait as well.
        await self._keep(provider, PriceBook(book.prices, now))
        error: str | None = "no answer came in time"
        with anyio.move_on_after(_ASK_SECONDS):
            try:
                found = {price.endpoint: price for price in await self._ask(provider, endpoints)}
            except RotoscopeError as refusal:
                error = refusal.message
            else:
                answers = {name: KnownPrice(now, found.get(name)) for name in endpoints}
                await self._keep(provider, PriceBook({**book.prices, **answers}, now))
                error = None
        return error

    async def _ask(self, provider: str, endpoints: Sequence[str]) -> Sequence[PublishedPrice]:
        """The published prices of some endpoints. One that the provider does not know keeps no other from it: what is
        refused together is asked about in halves.

        Raises:
            RotoscopeError: it does not answer, knows none of them, or its answer is no list of prices.
        """
        found: list[PublishedPrice] = []
        parts = [endpoints[start : start + _BATCH] for start in range(0, len(endpoints), _BATCH)]
        answers = refusals = 0
        while parts:
            part = parts.pop(0)
            try:
                found += await self._ask_batch(provider, part)
                answers += 1
            except InvalidInput:
                refusals += 1
                parts += [half for half in (part[: len(part) // 2], part[len(part) // 2 :]) if half and half != part]
                if not answers and (refusals == _MAX_REFUSALS or not parts):
                    raise
        return found

    async def _ask_batch(self, provider: str, endpoints: Sequence[str]) -> Sequence[PublishedPrice]:
        dialect = self._context.dialects[provider]
        assert isinstance(dialect, PriceLister), "only these providers are asked"
        call, found = dialect.list_prices(endpoints), list[PublishedPrice]()
        for _ in range(_MAX_PAGES):
            if call is None:
                break
            page = dialect.read_prices(await self._context.send(provider, call), endpoints)
            found, call = [*found, *page.prices], page.next_page
        return found

    async def _read_book(self, provider: str) -> PriceBook:
        if provider not in self._books:
            source = self._source(provider)
            book = await anyio.to_thread.run_sync(self._file.read, source)
            self._books.setdefault(provider, book)
        return self._books[provider]

    async def _keep(self, provider: str, book: PriceBook) -> None:
        self._books[provider] = book
        with contextlib.suppress(OSError):  # it is asked again by the next process then
            await anyio.to_thread.run_sync(self._file.write, self._source(provider), book)

    def _source(self, provider: str) -> str:
        """Whose prices they are: an account at an address."""
        bases = self._access.base_urls[provider]
        where = bases.get("platform", bases["api"])
        return f"{provider} at {where}, account {self._access.account_fingerprint(provider)}"
