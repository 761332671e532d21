"""When to ask next. Pure functions of what is known."""

from collections.abc import Iterable

__all__ = ["pause", "stretch"]

SHORTEST = 0.05
"""Seconds; how soon a new run is asked about for the first time. A fast model has its result by then."""

LONGEST = 15.0
"""Seconds between two questions, at most, unless many runs share what a provider takes: a run can always fail early."""

_CLOSEST = 0.1  # seconds; a run of one second is asked about this often once it is under way
_GROWTH = 0.35  # pauses in the length of what has passed, while nothing is known or the end is unlikely
_PARTS = 75  # near its expected end, a run is asked about this many times in its own length, but not more often than:
_DENSEST = 1.0  # seconds
_SPARSEST = 12  # while its end is unlikely, at least this many times in its own length
_UNKNOWN, _UNKNOWN_LATE = 0.12, 0.03  # pauses in what has passed, while nothing is known: before and after they reach
_UNKNOWN_LONGEST = 0.95  # seconds
_OVERDUE = 0.03  # pauses in what has passed since a run should have ended
_EARLY, _LATE = 0.8, 1.3  # in lengths of the expected run: where its end is likely


def pause(elapsed: float, expected: float | None) -> float:
    """Seconds to wait before the next question about a run, if it were the only one.

    Args:
        elapsed: seconds since the provider accepted the prediction.
        expected: seconds that such a run usually takes, or None when nothing is known.

    Questions are sparse while the end is unlikely, dense where it is likely, and grow rarer again when a run takes
    longer than usual. A run of 30 s is asked about some 40 times and its end is seen within half a second, one of
    177 s some 80 times and within a second. While nothing is known, a run of 30 s is asked about at most 60 times and
    its end is seen within a second; later the pauses are 3 % of what has passed.
    """
    now = max(elapsed, 0.0)
    if not expected:
        return _between(min(_UNKNOWN * now, max(_UNKNOWN_LONGEST, _UNKNOWN_LATE * now)), now)
    near = min(max(expected / _PARTS, _CLOSEST), _DENSEST)
    if now < _EARLY * expected:
        growing = min(_GROWTH * now, expected / _SPARSEST)
        return _between(min(growing, max(near, _EARLY * expected - now)), now)
    if now < _LATE * expected:
        return _between(near, now)
    return _between(_OVERDUE * (now - _LATE * expected) + near, now)


def stretch(pauses: Iterable[float], a_second: float) -> float:
    """By what every pause is multiplied so that together no more is asked than this many times a second; at least 1.

    All by the same: a short run that needs ten questions a second keeps its share beside long ones that need few.
    """
    return max(1.0, sum(1 / seconds for seconds in pauses) / a_second)


def _between(seconds: float, elapsed: float) -> float:
    """Not closer than at the beginning, when a run that is over at once shall not wait for its first question."""
    floor = min(max(SHORTEST, elapsed / 2), _CLOSEST)
    return min(max(seconds, floor), LONGEST)
