"""What may change a job without its driver's fence; inside the caller's transaction.

The fence keeps two drivers apart. What stands here is no driver's work, and is true whoever drives the job:

- the provider's id of the run that was paid for, however late the process comes that got it;
- what a person has found out about a job in review, or what its list shows by now;
- that a cancel is asked for: a flag, which the driver acts on. Only a job that no process drives and for which nothing
  was sent is ended at once.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, update

from rotoscope.errors import InvalidInput, UnknownJob
from rotoscope.store.intents import claim_run, intent_provider, read_submission
from rotoscope.store.job_data import Charge, ErrorRecord, JobChanges
from rotoscope.store.job_json import error_to_json
from rotoscope.store.money import Settlement
from rotoscope.store.records import Job
from rotoscope.store.reservations import settle_reservation
from rotoscope.store.rows import merge_job_data, read_job_of_any_principal, write_event
from rotoscope.store.schema import jobs, submissions

__all__ = [
    "confirm_run",
    "fail_over_cap",
    "leave_review",
    "replace_review_error",
    "resolve_doubt",
    "set_cancel_flag",
]

_NO_CHARGE = Settlement(0, 0.0)
_CONFIRM_SUBMISSION = (
    update(submissions)
    .where(submissions.c.job_id == bindparam("of"))
    .values(prediction_id=bindparam("named"), confirmed_at=bindparam("now"))
)
_LEAVE_REVIEW = (
    update(jobs)
    .where(jobs.c.id == bindparam("of"), jobs.c.state == "needs_review")
    .values(state="queued", owner=None, lease_until=None, error=None, finished_at=None, delivered_at=None, next_at=None)
    .values(message="Taken up again.", updated_at=bindparam("now"))
)


def confirm_run(connection: Connection, job_id: str, prediction_id: str, now: float) -> bool:
    """Write the id of the run that a job's intent has started; the job leaves its review, if it is in one.

    False where no intent stands, or the run belongs to another job; then nothing is written.
    """
    provider = intent_provider(connection, job_id)
    if provider is None or not claim_run(connection, provider, prediction_id, job_id, now):
        return False
    connection.execute(_CONFIRM_SUBMISSION, {"of": job_id, "named": prediction_id, "now": now})
    write_event(connection, job_id, now, "submitted", {"prediction_id": prediction_id})
    leave_review(connection, job_id, now)
    return True


def leave_review(connection: Connection, job_id: str, now: float) -> None:
    """Queue a job that is in review, to go on from the stage in which it stopped: its doubt is settled."""
    connection.execute(_LEAVE_REVIEW, {"of": job_id, "now": now})


def replace_review_error(connection: Connection, job_id: str, error: ErrorRecord, now: float) -> None:
    """Replace what a person should check of a job, if it is in review."""
    in_review = (jobs.c.id == job_id, jobs.c.state == "needs_review")
    values = {"error": error_to_json(error), "message": error.message, "updated_at": now}
    if connection.execute(update(jobs).where(*in_review).values(values)).rowcount:
        write_event(connection, job_id, now, "reworded", {})


def resolve_doubt(connection: Connection, job: Job, prediction_id: str | None, now: float) -> None:
    """Write what a person has found out: the run of a job in review; None: there was none, and nothing was charged.

    Raises:
        UnknownJob: the job is not in review, and what was found out is not what is known of it.
        InvalidInput: the run belongs to another job.
    """
    if job.state != "needs_review":
        known = read_submission(connection, job.id)
        if prediction_id is not None and known is not None and known.prediction_id == prediction_id:
            return  # the provider's list has shown it meanwhile: whoever looks at a review also has it looked for
        raise UnknownJob(f"The job is {job.state}; it needs no review.", hint="See rotoscope jobs show.")
    if prediction_id is not None and not claim_run(connection, job.provider, prediction_id, job.id, now):
        raise InvalidInput(
            "This prediction belongs to another job.", hint=f"Look for that of this one; see jobs show {job.id}."
        )
    write_event(connection, job.id, now, "resolved", {"prediction_id": prediction_id})
    if prediction_id is None:
        _fail_uncharged_job(connection, job, now)
        return
    connection.execute(_CONFIRM_SUBMISSION, {"of": job.id, "named": prediction_id, "now": now})
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(stage="submit"))
    leave_review(connection, job.id, now)


def set_cancel_flag(connection: Connection, job: Job, now: float) -> None:
    """Write that a cancel is asked for; a job that waits and has sent nothing is cancelled here.

    One that waits with an intent to pay is left to a driver: the run that it may have started must be found first.
    """
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(cancel_requested=True, updated_at=now))
    write_event(connection, job.id, now, "cancel_requested", {})
    if job.state == "queued" and read_submission(connection, job.id) is None:
        message = "Cancelled before anything was sent."
        _end_without_charge(connection, job, {"state": "cancelled", "finished_at": now, "message": message}, now)


def fail_over_cap(connection: Connection, job_id: str, now: float) -> None:
    """End a job whose request was not accepted, and which the cap of this new day does not allow."""
    message = "The request was not accepted on its day, and today's cap does not allow it; nothing was charged."
    error = error_to_json(ErrorRecord("budget", message, "Call the tool again when the cap allows it."))
    values: dict[str, object] = {"state": "failed", "error": error, "message": message, "updated_at": now}
    job = read_job_of_any_principal(connection, job_id)
    _end_without_charge(connection, job, {**values, "finished_at": now, "lease_until": None}, now)
    write_event(connection, job_id, now, "over_cap", {})


def _fail_uncharged_job(connection: Connection, job: Job, now: float) -> None:
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


def _end_without_charge(connection: Connection, job: Job, values: Mapping[str, object], now: float) -> None:
    """End a job whose request cost nothing, and free the money that was held for it."""
    free = merge_job_data(connection, job.id, JobChanges(charge=Charge(is_charged=False, usd=0.0)))
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(**values, data=free))
    settle_reservation(connection, job.id, _NO_CHARGE, now)
