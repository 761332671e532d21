"""How far the events of a ledger were read, where their numbers may become visible out of order. Pure.

A transaction takes the number of its event before it commits. So where several write at once, number 8 can be there
when 7 is not yet. Numbers that are missing are gaps: they are read again, until they are there, or so much time has
passed that their transaction must have been taken back, or their event has been removed.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

__all__ = ["GAP_SECONDS", "ChangeCursor", "Gap"]

GAP_SECONDS = 60.0
"""No transaction takes longer from its first event to its end: each of its waits is bounded by the database."""

_MAX_GAPS = 1_000  # the oldest are given up first: what is missing in them was most likely removed


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers that were not there, the first and the last of them, and since when that is known (Unix seconds)."""

    first: int
    last: int
    since: float


@dataclass(frozen=True, slots=True)
class ChangeCursor:
    """Which events were read.

    Attributes:
        newest: the highest number that was seen.
        gaps: the numbers below it that may still come, in their order.
    """

    newest: int
    gaps: tuple[Gap, ...] = ()

    @property
    def read_after(self) -> int:
        """The events with a higher number are to be read next."""
        return self.gaps[0].first - 1 if self.gaps else self.newest

    def is_new(self, number: int) -> bool:
        """Whether an event was not seen yet."""
        return number > self.newest or any(gap.first <= number <= gap.last for gap in self.gaps)

    def advance(self, found: Collection[int], now: float) -> "ChangeCursor":
        """The cursor after a look.

        Args:
            found: the numbers that are there and higher than `read_after`.
            now: Unix seconds.
        """
        newest = max((self.newest, *found))
        known = (Gap(self.newest + 1, newest, now), *(gap for gap in self.gaps if abs(now - gap.since) < GAP_SECONDS))
        left = sorted((part for gap in known for part in _cut_gap(gap, found)), key=lambda gap: gap.first)
        return ChangeCursor(newest, tuple(left[-_MAX_GAPS:]))


def _cut_gap(gap: Gap, found: Iterable[int]) -> Iterator[Gap]:
    """What is left of a gap without the numbers that are there."""
    first = gap.first
    for number in sorted(one for one in found if gap.first <= one <= gap.last):
        if first < number:
            yield Gap(first, number - 1, gap.since)
        first = number + 1
    if first <= gap.last:
        yield Gap(first, gap.last, gap.since)
