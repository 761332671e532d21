"""Why nobody drives a job, in words that say what to do. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from rotoscope.contracts.times import timestamp
from rotoscope.store.records import Job

__all__ = ["KeyHolder", "idle_reason", "idle_since"]

_CLAIM_SECONDS = 10.0  # seconds in which a process that can take a job takes it
_ALIVE_SECONDS = 30.0  # seconds since its last beat after which a process is not expected to come back


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Who was last seen with a key: the process, as `host:process id:start`, and when, in Unix seconds."""

    owner: str
    seen_at: float


def idle_since(job: Job, now: float) -> float | None:
    """Since when nobody drives a job that could go on, in Unix seconds; None where somebody does, or it is too early.

    Args:
        job: as the ledger has it.
        now: Unix seconds.
    """
    if job.is_final or (job.next_at or 0.0) > now:
        return None
    since = (job.lease_until or job.updated_at) if job.state == "running" else job.updated_at
    return since if now - since > _CLAIM_SECONDS else None


def idle_reason(job: Job, holders: Mapping[str, KeyHolder], now: float) -> str | None:
    """Since when nobody drives a job and why; None where somebody does, or it is too early to say.

    Args:
        job: as the ledger has it.
        holders: who was last seen with which key.
        now: Unix seconds.
    """
    since = idle_since(job, now)
    if since is None:
        return None
    key, idle = job.needs_key or job.provider, f"Nobody drives it since {timestamp(since)}"
    seen = holders.get(key)
    if seen is None:
        return f"{idle}: it needs the key {key}, and no process was ever seen with it. {_START_HINT}"
    who = f"process {_process_label(seen.owner)}"
    if not -_ALIVE_SECONDS <= now - seen.seen_at <= _ALIVE_SECONDS:
        return f"{idle}: it needs the key {key}, last seen in {who} at {timestamp(seen.seen_at)}. {_START_HINT}"
    return (
        f"It waits since {timestamp(since)}: {who} holds the key {key} and takes it when its provider has room, unless "
        "the job was begun with a key of another account, or its model is not known there."
    )


_START_HINT = "Start rotoscope with that key, and it goes on."


def _process_label(owner: str) -> str:
    host, _, rest = owner.partition(":")
    return f"{rest.partition(':')[0]} on {host}" if rest else owner
