"""When to ask next. One pure function of what is known."""

__all__ = ["pause"]

SHORTEST = 0.1
LONGEST = 10.0


def pause(elapsed: float, expected: float | None) -> float:
    """Seconds to wait before the next question.

    Args:
        elapsed: seconds since the provider accepted the prediction.
        expected: seconds that such a run usually takes, or None when nothing is known.

    Short runs are asked about often, because a tenth of a second is felt there; long ones ever less, by a share of
    the time that has passed. Close to the expected end the questions come closer together again.
    """
    relaxed = max(SHORTEST, 0.08 * elapsed)
    if expected is not None and elapsed < expected:
        remaining = expected - elapsed
        return min(max(SHORTEST, 0.5 * remaining), max(relaxed, 0.02 * expected), LONGEST)
    return min(relaxed, LONGEST)
