"""How long a provider keeps a result, and how long a run was watched: time that was seen to pass, never a date.

A wall clock may be set, and another host has another one. So what decides about a run counts seconds of the monotonic
clock, adds them up in the ledger, and takes the time in which nobody watched for no time at all.
"""

from dataclasses import dataclass

import anyio

from rotoscope.jobs.context import Rooms
from rotoscope.providers.http.messages import Json
from rotoscope.providers.runner import Trail
from rotoscope.store.records import Job

__all__ = ["Stopwatch", "expiry", "life", "number", "trail_of"]

_NOTED_EVERY, _NOTED_PART = 15.0, 0.2  # seconds, and of what was watched: so much is forgotten by a kill, at most


@dataclass(slots=True)
class Stopwatch:
    """Counts the seconds for which a run was watched, by this process and those before it."""

    before: float
    begun: float

    @classmethod
    def of(cls, job: Job) -> "Stopwatch":
        """Go on where the ledger says that the last process stopped."""
        return cls(max(number(job.data.get("watched")) or 0.0, 0.0), anyio.current_time())

    @property
    def seconds(self) -> float:
        """The seconds that were seen to pass."""
        return self.before + anyio.current_time() - self.begun

    @property
    def pause(self) -> float:
        """Seconds until they are worth a note in the ledger."""
        return max(_NOTED_EVERY, _NOTED_PART * self.seconds)


def life(rooms: Rooms, job: Job) -> float:
    """Seconds for which a job's provider keeps a result after its run."""
    return float(rooms.provider(job).output_seconds or rooms.tempo.unnamed_life)


def expiry(rooms: Rooms, job: Job) -> float | None:
    """When a job's provider removes its result, in Unix seconds; None where it does not say how long it keeps it."""
    ready, seconds = number(job.data.get("ready_at")), rooms.provider(job).output_seconds
    return ready + seconds if ready is not None and seconds is not None else None


def trail_of(job: Job) -> Trail:
    """How the provider has answered until now, as the ledger has it."""
    return Trail(seen=job.data.get("seen") is True, silent=max(number(job.data.get("silent")) or 0.0, 0.0))


def number(value: Json | None) -> float | None:
    """A number of a job's data; None where it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
