"""What may change a job without its driver's fence, inside somebody's transaction: a person, or a late truth."""

from sqlalchemy import Connection, bindparam, select, update

from rotoscope.jobs.budget import Settlement
from rotoscope.jobs.job import Job, Submission
from rotoscope.jobs.purse import settle
from rotoscope.jobs.tables import jobs, submissions

__all__ = ["adopt", "back_from_review", "cancelled_unsent", "found_uncharged", "is_anothers", "submission_of"]

_FREE = Settlement(0, 0.0)
_TAKING_UP = (
    update(jobs)
    .where(jobs.c.id == bindparam("of"), jobs.c.state == "needs_review")
    .values(state="queued", owner=None, lease_until=None, error=None, finished_at=None, delivered_at=None, next_at=None)
    .values(message="Taken up again.", updated_at=bindparam("now"))
)
_INTENT = select(submissions).where(submissions.c.job_id == bindparam("of"))


def submission_of(connection: Connection, job_id: str) -> Submission | None:
    """The intent to pay of a job, if it stands."""
    row = connection.execute(_INTENT, {"of": job_id}).first()
    if row is None:
        return None
    return Submission(job_id, row.nonce, row.intent_at, row.prediction_id, fresh=False)


def is_anothers(connection: Connection, job_id: str, prediction_id: str) -> bool:
    """Whether a prediction belongs to another job of the same provider."""
    mine = select(submissions.c.provider).where(submissions.c.job_id == job_id).scalar_subquery()
    same = (submissions.c.prediction_id == prediction_id, submissions.c.provider == mine)
    query = select(submissions.c.job_id).where(*same, submissions.c.job_id != job_id)
    return connection.execute(query).first() is not None


def back_from_review(connection: Connection, job_id: str, now: float) -> None:
    """What was in doubt is known now: the job is driven on from the stage in which it stopped."""
    connection.execute(_TAKING_UP, {"of": job_id, "now": now})


def adopt(connection: Connection, job: Job, prediction_id: str, now: float) -> None:
    """A person found the prediction of a job at the provider."""
    known = {"prediction_id": prediction_id, "confirmed_at": now}
    connection.execute(update(submissions).where(submissions.c.job_id == job.id).values(known))
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(stage="submit"))


def found_uncharged(connection: Connection, job: Job, now: float) -> None:
    """A person found that a job was not charged: it has failed, and its money is free."""
    message = "The request never ran at the provider, as a person found; nothing was charged."
    error = {"code": "provider_error", "message": message, "hint": "Call the tool again to run it."}
    values = {"state": "failed", "error": error, "message": message, "updated_at": now, "delivered_at": None}
    _end_free(connection, job, values, now)
    connection.execute(submissions.delete().where(submissions.c.job_id == job.id))


def cancelled_unsent(connection: Connection, job: Job, now: float) -> None:
    """A job that nobody drives and that sent nothing is cancelled where it stands."""
    values: dict[str, object] = {"state": "cancelled", "finished_at": now}
    values["message"] = "Cancelled before anything was sent."
    _end_free(connection, job, values, now)


def _end_free(connection: Connection, job: Job, values: dict[str, object], now: float) -> None:
    free = {**job.data, "charged": False, "charged_usd": 0.0}
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(**values, data=free))
    settle(connection, job.id, _FREE, now)
