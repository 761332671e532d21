"""When to ask next. One pure function of what is known."""

__all__ = ["pause"]

SHORTEST = 0.1
"""Seconds; a run of one second is asked about this often."""

LONGEST = 15.0
"""Seconds between two questions, at most: a run can always fail early."""

AT_MOST = 40.0
"""Questions a second to one provider, all predictions together. Replicate takes 50 a second (its "Rate limits")."""

_PARTS = 200  # near its expected end, a run is asked about this many times in its own length, but not more often than:
_DENSEST = 1.0  # seconds
_SPARSEST = 12  # while its end is unlikely, at least this many times in its own length
_EARLY, _LATE = 0.8, 1.3  # in lengths of the expected run: where its end is likely


def pause(elapsed: float, expected: float | None, crowd: int = 1) -> float:
    """Seconds to wait before the next question.

    Args:
        elapsed: seconds since the provider accepted the prediction.
        expected: seconds that such a run usually takes, or None when nothing is known.
        crowd: how many predictions are asked about at the same provider; together they ask `AT_MOST` times a second.

    Questions are sparse while the end is unlikely, dense where it is likely, and grow rarer again when a run takes
    longer than usual. A run of 177 s is asked about less than 100 times and its end is seen within a second.
    """
    return max(_alone(max(elapsed, 0.0), expected), crowd / AT_MOST)


def _alone(elapsed: float, expected: float | None) -> float:
    if not expected:
        return _between(0.08 * elapsed)
    near = min(max(expected / _PARTS, SHORTEST), _DENSEST)
    if elapsed < _EARLY * expected:
        growing = min(0.25 * elapsed, expected / _SPARSEST)
        return _between(max(near, min(growing, _EARLY * expected - elapsed)))
    if elapsed < _LATE * expected:
        return near
    return _between(max(near, 0.05 * (elapsed - _LATE * expected) + near))


def _between(seconds: float) -> float:
    return min(max(seconds, SHORTEST), LONGEST)
