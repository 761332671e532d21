"""What may change a job without its driver's fence, inside somebody's transaction: a person, or a late truth."""

from dataclasses import replace

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.store.job_data import Charge, ErrorRecord, JobChanges
from rotoscope.store.job_json import error_to_json
from rotoscope.store.money import Settlement
from rotoscope.store.records import Job, Submission
from rotoscope.store.reservations import mark_sent, settle_reservation
from rotoscope.store.rows import merge_job_data, write_event
from rotoscope.store.schema import jobs, runs, submissions

__all__ = [
    "attach_prediction",
    "cancel_before_send",
    "claim_run",
    "delete_intent",
    "fail_uncharged_job",
    "intent_provider",
    "is_run_of_other_job",
    "leave_review",
    "read_submission",
    "update_review_error",
    "write_intent",
]

_NO_CHARGE = Settlement(0, 0.0)
_LEAVE_REVIEW = (
    update(jobs)
    .where(jobs.c.id == bindparam("of"), jobs.c.state == "needs_review")
    .values(state="queued", owner=None, lease_until=None, error=None, finished_at=None, delivered_at=None, next_at=None)
    .values(message="Taken up again.", updated_at=bindparam("now"))
)
_INSERT_RUN = insert_or_merge(runs).on_conflict_do_nothing()
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
    """Write an intent, and from now on count its money for today. A token that another intent holds proves nothing."""
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
    """Take back an intent of this very author's whose run has no id; whether there was one."""
    own = (submissions.c.job_id == intent.job_id, submissions.c.nonce == intent.nonce)
    return connection.execute(submissions.delete().where(*own, submissions.c.prediction_id.is_(None))).rowcount > 0


def intent_provider(connection: Connection, job_id: str) -> str | None:
    """The provider of a job's intent; None when no intent stands."""
    return connection.execute(_INTENT_PROVIDER, {"of": job_id}).scalar_one_or_none()


def is_run_of_other_job(connection: Connection, provider: str, prediction_id: str, job_id: str) -> bool:
    """Whether a run at a provider belongs to another job, also to one that is gone."""
    owner = connection.execute(_RUN_OWNER, {"at_provider": provider, "named": prediction_id}).scalar_one_or_none()
    return owner is not None and owner != job_id


def claim_run(connection: Connection, provider: str, prediction_id: str, job_id: str, now: float) -> bool:
    """Write that a run belongs to a job; False when it is another's. One run, one job: the database holds it."""
    row = {"provider": provider, "prediction_id": prediction_id, "job_id": job_id, "at": now}
    connection.execute(_INSERT_RUN, row)
    return not is_run_of_other_job(connection, provider, prediction_id, job_id)


def leave_review(connection: Connection, job_id: str, now: float) -> None:
    """What was in doubt is known now: the job is driven on from the stage in which it stopped."""
    connection.execute(_LEAVE_REVIEW, {"of": job_id, "now": now})


def update_review_error(connection: Connection, job_id: str, error: ErrorRecord, now: float) -> None:
    """What a person should check has changed."""
    in_review = (jobs.c.id == job_id, jobs.c.state == "needs_review")
    values = {"error": error_to_json(error), "message": error.message, "updated_at": now}
    if connection.execute(update(jobs).where(*in_review).values(values)).rowcount:
        write_event(connection, job_id, now, "reworded", {})


def attach_prediction(connection: Connection, job: Job, prediction_id: str, now: float) -> None:
    """A person found the prediction of a job at the provider."""
    known = {"prediction_id": prediction_id, "confirmed_at": now}
    connection.execute(update(submissions).where(submissions.c.job_id == job.id).values(known))
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(stage="submit"))


def fail_uncharged_job(connection: Connection, job: Job, now: float) -> None:
    """A person found that a job was not charged: it has failed, and its money is free."""
    message = "The request never ran at the provider, as a person found; nothing was charged."
    error = error_to_json(ErrorRecord("provider_error", message, "Call the tool again to run it."))
    values: dict[str, object] = {
        "state": "failed",
        "error": error,
        "message": message,
        "updated_at": now,
        "delivered_at": None,
    }
    _end_without_charge(connection, job, values, now)
    connection.execute(submissions.delete().where(submissions.c.job_id == job.id))


def cancel_before_send(connection: Connection, job: Job, now: float) -> None:
    """A job that nobody drives and that sent nothing is cancelled where it stands."""
    values: dict[str, object] = {"state": "cancelled", "finished_at": now}
    values["message"] = "Cancelled before anything was sent."
    _end_without_charge(connection, job, values, now)


def _end_without_charge(connection: Connection, job: Job, values: dict[str, object], now: float) -> None:
    free = merge_job_data(connection, job.id, JobChanges(charge=Charge(is_charged=False, usd=0.0)))
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(**values, data=free))
    settle_reservation(connection, job.id, _NO_CHARGE, now)
