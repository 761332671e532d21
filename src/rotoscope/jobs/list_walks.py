"""Where many runs are followed at one provider, its list is walked: one page tells of a hundred of them.

A list may be late, partial, odd, or refused to this key. So it only ever makes somebody ask sooner, or is the answer
where a row is that; each run is still asked about by itself, more rarely while the list shows it.
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
_SHOWN_FOR_WALKS = (
    4  # walks; so often a list may fail to show a run before that is asked about as if there were no list
)
_WAKE_INTERVAL, _WAKE_SPREAD = (
    0.06,
    0.5,
)  # seconds between two who are woken, and for all of a page: the walk waits, too
_LONGEST_PAUSE = 60.0  # seconds, after a list that failed
_REFUSED_PAUSE = 600.0  # seconds, after one that this key may not read


async def walk_lists(rooms: JobContext) -> None:
    """Walk every provider's list whenever that is worth it; until cancelled."""
    async with anyio.create_task_group() as tasks:
        for name in rooms.dialects:
            if rooms.catalog.providers[name].can_list:
                tasks.start_soon(_walk_repeatedly, rooms, name)


async def _walk_repeatedly(rooms: JobContext, provider: str) -> None:
    pacer, named = rooms.pacers.for_provider(provider), partial(_list_url, rooms.dialects[provider])
    seconds = rooms.intervals.list_walk
    while True:
        await anyio.sleep(seconds)
        try:
            walks = [await _walk_once(rooms, provider, seats, seconds) for seats in pacer.slots_by_list(named)]
        except ProviderError as error:
            pacer.pages_per_second = 0.0
            seconds = _REFUSED_PAUSE if isinstance(error, Refused) else min(2 * seconds, _LONGEST_PAUSE)
        except RotoscopeError:
            pacer.pages_per_second, seconds = 0.0, _LONGEST_PAUSE
        else:
            pages, took = sum(walk.pages for walk in walks), sum(walk.seconds for walk in walks)
            seconds = pacer.walk_interval(pages, took, rooms.intervals.list_walk)


def _list_url(dialect: Dialect, endpoint: str) -> str | None:
    """What the list of an endpoint's runs is called: equal for the same list."""
    call = dialect.list_runs(endpoint, 0.0)
    return call.url if call else None


class _WalkCost(NamedTuple):
    """How many pages a walk had, and how many seconds they took."""

    pages: int
    seconds: float


async def _walk_once(rooms: JobContext, provider: str, seats: Sequence[PollSlot], seconds: float) -> _WalkCost:
    """Look for some runs in their list, back to the oldest."""
    dialect, pacer, pages, took = rooms.dialects[provider], rooms.pacers.for_provider(provider), 0, 0.0
    endpoint, awaited = seats[0].ticket.endpoint, {seat.ticket.id: seat for seat in seats}
    call = dialect.list_runs(endpoint, max(min(seat.accepted_at for seat in seats) - _MAX_CLOCK_SKEW, 0.0))
    while call is not None and awaited and pages < _MAX_PAGES:
        begun = pacer.clock()
        page = dialect.read_runs(await rooms.send(provider, call), endpoint)
        pages, took = pages + 1, took + pacer.clock() - begun
        await _notify_seats(page, awaited, pacer.clock() + _SHOWN_FOR_WALKS * max(seconds, rooms.intervals.list_walk))
        # A list that goes in a circle shows nothing new.
        call = page.next_page if page.next_page != call else None
    return _WalkCost(pages, took)


async def _notify_seats(page: RunPage, awaited: dict[str, PollSlot], until: float) -> None:
    """Tell the runs that were waited for; each only once in a walk."""
    ended = sum(row.has_ended for row in page.rows if row.id in awaited)
    for row in page.rows:
        seat = awaited.pop(row.id, None)
        if seat is not None and seat.update_from_list(row, until):
            # Results that are all collected in one moment keep everybody else from the ledger.
            await anyio.sleep(min(_WAKE_INTERVAL, _WAKE_SPREAD / ended))
