"""Reading a provider's list where many of its runs are watched: one page shows the state of a hundred of them.

A list may be late, incomplete, malformed, or refused to this key. So a row only makes the poll of its run come sooner,
or answers it where the row is a whole status reply; each run is still polled by itself, more rarely while the list
shows it.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import anyio

from rotoscope.errors import ProviderError, Refused, RotoscopeError
from rotoscope.jobs.context import JobContext
from rotoscope.providers.dialects import Dialect
from rotoscope.providers.polling import PollSlot
from rotoscope.providers.recent import RunPage

__all__ = ["walk_lists"]

_MAX_CLOCK_SKEW = 60.0  # seconds; a run was accepted by the provider's clock, before we noted it by ours
_MAX_PAGES = 50
_SHOWN_FOR_WALKS = 4  # walks for which a row counts; a run that no walk has shown since is polled as without a list
_PAGE_PAUSE = 0.1  # seconds between two pages: reading ten of them at once would keep every answer waiting
_WAKE_INTERVAL = 0.06  # seconds between two polls that a page causes
_WAKE_SPREAD = 0.5  # seconds for all polls that a page causes: the walk waits for them


async def walk_lists(context: JobContext) -> None:
    """Read every provider's list again and again, while enough of its runs are watched; until cancelled.

    Where each principal has a key of its own there is a list for each of them, and mostly few runs in it: none is read.
    """
    if context.own_keys is not None:
        return
    async with anyio.create_task_group() as tasks:
        for name in context.dialects:
            if context.catalog.providers[name].can_list:
                tasks.start_soon(_walk_repeatedly, context, name)


async def _walk_repeatedly(context: JobContext, provider: str) -> None:
    pacer, named = context.pacers.for_provider(provider), partial(_list_url, context.dialects[provider])
    spans, seconds = context.intervals, context.intervals.list_walk
    while True:
        await anyio.sleep(seconds)
        try:
            walks = [await _walk_once(context, provider, seats, seconds) for seats in pacer.slots_by_list(named)]
        except ProviderError as error:
            pacer.pages_per_second = 0.0
            seconds = (
                spans.list_refusal_pause
                if isinstance(error, Refused)
                else min(2 * seconds, spans.longest_list_walk_pause)
            )
        except RotoscopeError:
            pacer.pages_per_second, seconds = 0.0, spans.longest_list_walk_pause
        else:
            pages, took = sum(walk.pages for walk in walks), sum(walk.seconds for walk in walks)
            paused = sum(walk.paused for walk in walks)
            seconds = max(pacer.walk_interval(pages, took, spans.list_walk) - paused, _PAGE_PAUSE)


def _list_url(dialect: Dialect, endpoint: str) -> str | None:
    """The URL of the list with an endpoint's runs; equal where endpoints share a list. None where there is none."""
    call = dialect.list_runs(endpoint, 0.0)
    return call.url if call else None


class _WalkCost(NamedTuple):
    """How many pages a walk had, and how many seconds they took and lay between them."""

    pages: int
    seconds: float
    paused: float


async def _walk_once(context: JobContext, provider: str, seats: Sequence[PollSlot], seconds: float) -> _WalkCost:
    """Read one list, page by page, until all of some runs were seen or it goes back before the oldest of them."""
    dialect, pacer = context.dialects[provider], context.pacers.for_provider(provider)
    pages, took, paused = 0, 0.0, 0.0
    endpoint, awaited = seats[0].ticket.endpoint, {seat.ticket.id: seat for seat in seats}
    call = dialect.list_runs(endpoint, max(min(seat.accepted_at for seat in seats) - _MAX_CLOCK_SKEW, 0.0))
    while call is not None and awaited and pages < _MAX_PAGES:
        begun = pacer.clock()
        page = dialect.read_runs(await context.send(provider, call), endpoint)
        pages, took = pages + 1, took + pacer.clock() - begun
        await _notify_seats(page, awaited, pacer.clock() + _SHOWN_FOR_WALKS * max(seconds, context.intervals.list_walk))
        # A list that goes in a circle shows nothing new.
        call = page.next_page if page.next_page != call else None
        if call is not None and awaited:
            paused += _PAGE_PAUSE
            await anyio.sleep(_PAGE_PAUSE)
    return _WalkCost(pages, took, paused)


async def _notify_seats(page: RunPage, awaited: dict[str, PollSlot], until: float) -> None:
    """Update the watched runs that a page shows; each only once in a walk."""
    ended = sum(row.has_ended for row in page.rows if row.id in awaited)
    for row in page.rows:
        seat = awaited.pop(row.id, None)
        if seat is not None and seat.update_from_list(row, until):
            # Results that are all fetched in one moment would keep every other writer from the ledger.
            await anyio.sleep(min(_WAKE_INTERVAL, _WAKE_SPREAD / ended))
