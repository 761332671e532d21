"""Every span of time that the job engine lives by, in seconds, in one record that a test may shorten."""

from dataclasses import dataclass

from rotoscope.providers.runner import MAX_RESULT_AGE

__all__ = ["REDELIVERY_SECONDS", "Intervals"]

REDELIVERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds.

    Attributes:
        lease: how long a job belongs to a process that says nothing more.
        heartbeat: how often a process says that it lives; a third of the lease.
        poll: how often an idle process looks for jobs that nobody drives.
        change_poll: how often a process with jobs, or with somebody who waits, looks whether another one has written.
        starter_preference: how long a new job is left to the process that opened it.
        post_grace: added to the longest paying request before its silence is taken for an answer that was lost.
        list_pauses: the waits between looks into a provider's list for a prediction whose reply was lost.
        key_refusal_pause: between two questions while a provider does not accept the key.
        longest_retry_pause: the longest wait before a request that was certainly not accepted is sent again.
        list_walk: between two walks through a provider's list, where many runs are looked for in it; at least.
        longest_pause: the longest wait that is ever written to the ledger; one that ends later is over.
        default_result_life: how long a result is looked for where its provider does not say how long it keeps one.
        quote_life: how long a price that was shown may be agreed to.
        redelivery: how long after an end was told an equal request is told the same end once more: a client that gave
            up in silence looks like one that was answered.
    """

    lease: float = 15.0
    heartbeat: float = 5.0
    poll: float = 1.0
    change_poll: float = 0.25
    starter_preference: float = 2.0
    post_grace: float = 5.0
    list_pauses: tuple[float, ...] = (0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 20.0)
    key_refusal_pause: float = 60.0
    longest_retry_pause: float = 60.0
    list_walk: float = 1.0
    longest_pause: float = 900.0
    default_result_life: float = MAX_RESULT_AGE
    quote_life: float = 600.0
    redelivery: float = REDELIVERY_SECONDS
