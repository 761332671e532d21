"""A clock that stands still until a test sets it."""

from dataclasses import dataclass

__all__ = ["Clock"]


@dataclass
class Clock:
    """Unix seconds, as a test wants them; far from the real ones, so that nothing depends on those."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now
