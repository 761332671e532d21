"""The seam between the dispatcher and an engine that spreads jobs over processes."""

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Protocol

__all__ = ["Drive", "DriveJob", "JobEngine"]


class Drive(Enum):
    """What became of a job that an engine gave to this process."""

    OVER = auto()
    """It is not driven here any more, or nobody can claim it now. Whoever could later is for `refill` to find."""

    LEFT_TO_OTHERS = auto()
    """This process cannot drive it, and nobody else does: another process should try."""

    PUT_OFF = auto()
    """The ledger could not be used: somebody should try again soon."""


DriveJob = Callable[[str], Awaitable[Drive]]
"""Claims a job and drives it until it has ended, or is no longer this process's."""


class JobEngine(Protocol):
    """Gives this process jobs to claim, those of its keys, as many at once as it takes."""

    async def run(self, drive: DriveJob) -> None:
        """Give jobs until cancelled. Whatever fails is tried again."""

    async def refill(self) -> int:
        """Find jobs that nobody drives and that are in no queue; how many there were.

        Raises:
            StorageFailed: the ledger cannot be used now.
        """
