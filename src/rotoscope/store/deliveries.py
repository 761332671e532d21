"""Whether who asked has heard how a job ended; inside somebody's transaction.

An answer that leaves later than its client waits goes out like any other: nothing tells that nobody listens. So one
that was late is told again to equal requests, for some minutes, until an answer was in time, or somebody uses what came
of the job.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, or_, select, update

from rotoscope.store.records import ENDED, Job
from rotoscope.store.rows import JOB_COLUMNS, job_of, note, read_job
from rotoscope.store.schema import jobs, outputs

__all__ = ["UNHEARD_SECONDS", "Named", "is_unheard", "named_in", "note_told", "note_used"]

UNHEARD_SECONDS = 600.0
"""For how long an end that was told too late is told again to equal requests: a person may have to ask for it."""

_UNTIL = "unheard_until"
_JOB = re.compile(r"job://([0-9a-f]{32})")
_FILE = re.compile(r"[0-9a-f]{64}")
_TOLD = update(jobs).where(jobs.c.id == bindparam("one")).values(delivered_at=bindparam("now"))
_KNOWN = update(jobs).where(jobs.c.id == bindparam("one")).values(data=bindparam("known", type_=jobs.c.data.type))
_USED = _KNOWN.values(told_again_at=bindparam("now"))
_LATELY_TOLD = select(*JOB_COLUMNS).where(
    jobs.c.principal == bindparam("whose"),
    jobs.c.state.in_(ENDED),
    jobs.c.finished_at > bindparam("since"),
    jobs.c.delivered_at.is_not(None),
    or_(
        jobs.c.id.in_(bindparam("ids", expanding=True)),
        jobs.c.id.in_(select(outputs.c.job_id).where(outputs.c.sha256.in_(bindparam("files", expanding=True)))),
    ),
)


@dataclass(frozen=True, slots=True)
class Named:
    """What a request names: jobs by their ids, and kept files by their hashes."""

    jobs: frozenset[str]
    files: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.jobs or self.files)


def named_in(words: Iterable[str]) -> Named:
    """The jobs and files that are named by links or paths among some words."""
    said = list(words)
    found = (frozenset(name for word in said for name in form.findall(word)) for form in (_JOB, _FILE))
    return Named(*found)


def is_unheard(job: Job, now: float) -> bool:
    """Whether its end was told so late that it may not have been heard, and nothing has shown since that it was."""
    until = job.data.get(_UNTIL)
    return isinstance(until, int | float) and now <= until <= now + UNHEARD_SECONDS


def note_told(connection: Connection, job_id: str, now: float, *, late: bool) -> None:
    """Write that the end of a job was told. The first time counts, and whether the last was in time."""
    job = read_job(connection, job_id)
    if job.state not in ENDED:
        return
    if job.delivered_at is None:
        connection.execute(_TOLD, {"one": job_id, "now": now})
        note(connection, job_id, now, "delivered", {})
    if late or job.data.get(_UNTIL) is not None:
        until = now + UNHEARD_SECONDS if late else None
        connection.execute(_KNOWN, {"one": job_id, "known": {**job.data, _UNTIL: until}})


def note_used(connection: Connection, whose: str, named: Named, now: float) -> None:
    """Write that somebody uses what came of jobs: their ends were heard, and an equal request means a new run."""
    terms = {"whose": whose, "since": now - UNHEARD_SECONDS, "ids": _some(named.jobs), "files": _some(named.files)}
    for job in map(job_of, connection.execute(_LATELY_TOLD, terms).all()):
        if job.told_again_at is None or job.data.get(_UNTIL) is not None:
            connection.execute(_USED, {"one": job.id, "known": {**job.data, _UNTIL: None}, "now": now})


def _some(names: Collection[str]) -> list[str]:
    return sorted(names)[:100]
