"""Where many runs are followed at one provider, its list is walked: one page tells of a hundred of them.

A list may be late, partial, odd, or refused to this key. So it only ever makes somebody ask sooner, or is the answer
where a row is that; each run is still asked about by itself, more rarely while the list shows it.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import anyio

from rotoscope.errors import ProviderError, Refused, RotoscopeError
from rotoscope.jobs.context import Rooms
from rotoscope.providers.dialects import Dialect
from rotoscope.providers.polling import Seat
from rotoscope.providers.recent import Listed

__all__ = ["walk_lists"]

_CLOCKS_APART = 60.0  # seconds; a run was accepted by the provider's clock, before we noted it by ours
_MOST_PAGES = 50
_SHOWN_FOR = 4  # walks; so often a list may fail to show a run before that is asked about as if there were no list
_APART, _SPREAD_OVER = 0.06, 0.5  # seconds between two who are woken, and for all of a page: the walk waits, too
_LONGEST_PAUSE = 60.0  # seconds, after a list that failed
_REFUSED_PAUSE = 600.0  # seconds, after one that this key may not read


async def walk_lists(rooms: Rooms) -> None:
    """Walk every provider's list whenever that is worth it; until cancelled."""
    async with anyio.create_task_group() as tasks:
        for name in rooms.dialects:
            if rooms.catalog.providers[name].can_list:
                tasks.start_soon(_walk_often, rooms, name)


async def _walk_often(rooms: Rooms, provider: str) -> None:
    pacer, named = rooms.pacers.of(provider), partial(_named, rooms.dialects[provider])
    seconds = rooms.tempo.walk
    while True:
        await anyio.sleep(seconds)
        try:
            walks = [await _walk(rooms, provider, seats, seconds) for seats in pacer.lists_wanted(named)]
        except ProviderError as error:
            pacer.pages_a_second = 0.0
            seconds = _REFUSED_PAUSE if isinstance(error, Refused) else min(2 * seconds, _LONGEST_PAUSE)
        except RotoscopeError:
            pacer.pages_a_second, seconds = 0.0, _LONGEST_PAUSE
        else:
            pages, took = sum(walk.pages for walk in walks), sum(walk.took for walk in walks)
            seconds = pacer.between_walks(pages, took, rooms.tempo.walk)


def _named(dialect: Dialect, endpoint: str) -> str | None:
    """What the list of an endpoint's runs is called: equal for the same list."""
    call = dialect.list_runs(endpoint, 0.0)
    return call.url if call else None


class _Walk(NamedTuple):
    """How many pages a walk had, and how many seconds they took."""

    pages: int
    took: float


async def _walk(rooms: Rooms, provider: str, seats: Sequence[Seat], seconds: float) -> _Walk:
    """Look for some runs in their list, back to the oldest."""
    dialect, pacer, pages, took = rooms.dialects[provider], rooms.pacers.of(provider), 0, 0.0
    endpoint, awaited = seats[0].ticket.endpoint, {seat.ticket.id: seat for seat in seats}
    call = dialect.list_runs(endpoint, max(min(seat.since for seat in seats) - _CLOCKS_APART, 0.0))
    while call is not None and awaited and pages < _MOST_PAGES:
        begun = pacer.clock()
        page = dialect.read_runs(await rooms.send(provider, call), endpoint)
        pages, took = pages + 1, took + pacer.clock() - begun
        await _heard(page, awaited, pacer.clock() + _SHOWN_FOR * max(seconds, rooms.tempo.walk))
        # A list that goes in a circle shows nothing new.
        call = page.following if page.following != call else None
    return _Walk(pages, took)


async def _heard(page: Listed, awaited: dict[str, Seat], until: float) -> None:
    """Tell the runs that were waited for; each only once in a walk."""
    ended = sum(row.ended for row in page.rows if row.id in awaited)
    for row in page.rows:
        seat = awaited.pop(row.id, None)
        if seat is not None and seat.hear(row, until):
            # Results that are all collected in one moment keep everybody else from the ledger.
            await anyio.sleep(min(_APART, _SPREAD_OVER / ended))
