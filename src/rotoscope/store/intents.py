"""Intents to pay, and which run belongs to which job; inside the caller's transaction.

An intent is written, and is on the disk, before the request that pays. As long as it stands, no other request is sent
for the job: whoever finds it looks for the run that it may have started. At most one stands for a job, for the job's id
is its key.

A run at a provider belongs to one job, for ever: the database holds one row a run. So a run that a list shows, or that
a person names, is never taken for the result of two jobs.
"""

from dataclasses import replace

from sqlalchemy import Connection, bindparam, insert, select

from rotoscope.store.backend import insert_or_ignore
from rotoscope.store.records import Submission
from rotoscope.store.reservations import mark_sent
from rotoscope.store.schema import runs, submissions

__all__ = [
    "claim_run",
    "delete_intent",
    "intent_provider",
    "is_run_of_other_job",
    "read_submission",
    "write_intent",
]

_RUN_OWNER = select(runs.c.job_id).where(
    runs.c.provider == bindparam("at_provider"), runs.c.prediction_id == bindparam("named")
)
_INSERT_INTENT = insert(submissions)
_INTENT_WITH_TOKEN = select(submissions.c.job_id).where(
    submissions.c.provider == bindparam("at_provider"), submissions.c.token == bindparam("held")
)
_INTENT_PROVIDER = select(submissions.c.provider).where(submissions.c.job_id == bindparam("of"))
_INTENT_OF_JOB = select(submissions).where(submissions.c.job_id == bindparam("of"))


def read_submission(connection: Connection, job_id: str) -> Submission | None:
    """The intent to pay of a job, if it stands."""
    row = connection.execute(_INTENT_OF_JOB, {"of": job_id}).first()
    if row is None:
        return None
    return Submission(
        job_id,
        row.nonce,
        row.intent_at,
        row.prediction_id,
        is_new=False,
        token=row.token,
        clock_offset=row.clock_offset,
    )


def write_intent(connection: Connection, provider: str, request_sha256: str, intent: Submission) -> Submission:
    """Write an intent, and count its money for today from now on.

    Returns:
        The intent as it was written: without its token, where another intent holds the same one. Such a token would not
        tell the two runs apart.
    """
    wanted = {"at_provider": provider, "held": intent.token}
    if intent.token is not None and connection.execute(_INTENT_WITH_TOKEN, wanted).first() is not None:
        intent = replace(intent, token=None)
    row: dict[str, object] = {"job_id": intent.job_id, "nonce": intent.nonce, "provider": provider}
    row |= {"request_sha256": request_sha256, "intent_at": intent.intent_at}
    row |= {"token": intent.token, "clock_offset": intent.clock_offset}
    connection.execute(_INSERT_INTENT, row)
    mark_sent(connection, intent.job_id, intent.intent_at)
    return intent


def delete_intent(connection: Connection, intent: Submission) -> bool:
    """Delete an intent, if it is this very one (by its nonce) and its run has no id; whether it was deleted."""
    own = (submissions.c.job_id == intent.job_id, submissions.c.nonce == intent.nonce)
    return connection.execute(submissions.delete().where(*own, submissions.c.prediction_id.is_(None))).rowcount > 0


def intent_provider(connection: Connection, job_id: str) -> str | None:
    """The provider of a job's intent; None when no intent stands."""
    return connection.execute(_INTENT_PROVIDER, {"of": job_id}).scalar_one_or_none()


def is_run_of_other_job(connection: Connection, provider: str, prediction_id: str, job_id: str) -> bool:
    """Whether a run at a provider belongs to another job, also to one that was removed since."""
    owner = connection.execute(_RUN_OWNER, {"at_provider": provider, "named": prediction_id}).scalar_one_or_none()
    return owner is not None and owner != job_id


def claim_run(connection: Connection, provider: str, prediction_id: str, job_id: str, now: float) -> bool:
    """Write that a run belongs to a job; False when it is another's, which then stays so."""
    row = {"provider": provider, "prediction_id": prediction_id, "job_id": job_id, "at": now}
    # How many rows such an insert has written is not what every driver says; what it returns is.
    if connection.execute(insert_or_ignore(connection, runs).returning(runs.c.job_id), row).first() is not None:
        return True
    return not is_run_of_other_job(connection, provider, prediction_id, job_id)
