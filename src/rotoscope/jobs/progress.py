"""How far a job is, in one number that a person can believe. Pure."""

import math

__all__ = ["fraction"]

_START = 0.02
_MOST = 0.95


def fraction(said: float | None, elapsed: float, expected: float | None, before: float) -> float:
    """The share of the work that is done, from 0 to 1.

    Args:
        said: what the model's own logs say of its run, 0 to 1, or None.
        elapsed: seconds since the job was sent.
        expected: seconds that such a run usually takes, or None.
        before: what was told last: progress never goes back.

    It never says that all is done: only a finished job is. Without the model's word it is an estimate that slows
    down when a run takes longer than usual.
    """
    if said is not None:
        now = _START + (_MOST - _START) * min(max(said, 0.0), 1.0)
    elif expected:
        now = _MOST * (1 - math.exp(-1.5 * max(elapsed, 0.0) / expected))
    else:
        now = _START
    return round(min(max(now, before), _MOST), 3)
