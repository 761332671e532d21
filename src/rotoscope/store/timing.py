"""Every span of time that the job engine lives by, in seconds, in one record that a test may shorten."""

from dataclasses import dataclass

from rotoscope.providers.runner import LONGEST_LIFE

__all__ = ["TELL_AGAIN_SECONDS", "Tempo"]

TELL_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Tempo:
    """Seconds.

    Attributes:
        lease: how long a job belongs to a process that says nothing more.
        beat: how often a process says that it lives; a third of the lease.
        look: how often an idle process looks for jobs that nobody drives.
        glance: how often a process with jobs, or with somebody who waits, looks whether another one has written.
        prefer_starter: how long a new job is left to the process that opened it.
        post_grace: added to the longest paying request before its silence is taken for an answer that was lost.
        list_pauses: the waits between looks into a provider's list for a prediction whose reply was lost.
        refused_pause: between two questions while a provider does not accept the key.
        longest_retry: the longest wait before a request that was certainly not accepted is sent again.
        walk: between two walks through a provider's list, where many runs are looked for in it; at least.
        longest_pause: the longest wait that is ever written to the ledger; one that ends later is over.
        unnamed_life: how long a result is looked for where its provider does not say how long it keeps one.
        quote: how long a price that was shown may be agreed to.
        tell_again: how long after an end was told an equal request is told the same end once more: a client that gave
            up in silence looks like one that was answered.
    """

    lease: float = 15.0
    beat: float = 5.0
    look: float = 1.0
    glance: float = 0.25
    prefer_starter: float = 2.0
    post_grace: float = 5.0
    list_pauses: tuple[float, ...] = (0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 20.0)
    refused_pause: float = 60.0
    longest_retry: float = 60.0
    walk: float = 1.0
    longest_pause: float = 900.0
    unnamed_life: float = LONGEST_LIFE
    quote: float = 600.0
    tell_again: float = TELL_AGAIN_SECONDS
