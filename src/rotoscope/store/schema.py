"""The ledger's tables. Changes are additive only; a ledger that a newer version has written is refused by an older.

Numbers that may pass two thousand million are `BigInteger`: for PostgreSQL an `Integer` has 32 bits, in millionths
of a dollar 2,147 USD.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
)

__all__ = [
    "SCHEMA_VERSION",
    "artifacts",
    "durations",
    "job_events",
    "job_inputs",
    "job_waits",
    "jobs",
    "key_holders",
    "metadata",
    "outputs",
    "price_questions",
    "processes",
    "properties",
    "quotes",
    "reservations",
    "runs",
    "submissions",
]

SCHEMA_VERSION = 8
"""1: jobs, submissions, job_events, artifacts, outputs, durations. 2: reservations, processes, jobs_by_request.
3: quotes. 4: runs, job_inputs, key_holders and properties; what a run is known by (`submissions.token`), the account it
belongs to, the day on which money counts (`reservations.sent_at`), and an index for every question. 5: estimate and
charge of a reservation. 6: the tables of `access_schema`, and the spending of all principals together. 7:
price_questions. 8: job_waits, and
the caps of a reservation.
"""

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),  # 128 random bits, hex
    Column("tool", String, nullable=False),
    Column("model", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("principal", String, nullable=False),  # whose job it is; "local" over stdio
    Column("idempotency_key", String, nullable=True),  # equal for equal requests; see `keys_of`
    Column("sandbox", Boolean, nullable=False),
    Column("state", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("args", JSON, nullable=False),  # as the user's request was understood
    Column("data", JSON, nullable=False),  # what the stages have found so far
    Column("progress", Float, nullable=False, default=0.0),
    Column("message", String, nullable=False, default=""),
    Column("error", JSON, nullable=True),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("owner", String, nullable=True),  # the process that drives it; while it is queued, the one that opened it
    Column("fence", Integer, nullable=False, default=0),  # grows with each owner; a late one loses
    Column("lease_until", Float, nullable=True),  # Unix seconds
    Column("next_at", Float, nullable=True),  # not before, Unix seconds
    Column("needs_key", String, nullable=True),  # what the driving process must hold: `provider@host`, or the sandbox
    Column("account", String, nullable=True),  # which key it was opened with, as a fingerprint that is no key
    Column("created_at", Float, nullable=False),  # Unix seconds, like all times here
    Column("updated_at", Float, nullable=False),
    Column("finished_at", Float, nullable=True),
    Column("delivered_at", Float, nullable=True),  # its end was first delivered to the caller
    Column("told_again_at", Float, nullable=True),  # an equal request soon after got it once more
    Index("jobs_by_state", "state", "next_at"),
    Index("jobs_by_end", "state", "finished_at"),
    Index("jobs_by_principal", "principal", "created_at"),
    Index("jobs_by_principal_and_state", "principal", "state", "created_at"),
    Index("jobs_by_equal_request", "idempotency_key", "principal", "created_at"),
)

submissions = Table(
    "submissions",
    metadata,
    Column("job_id", String, ForeignKey("jobs.id"), primary_key=True),  # one paid prediction a job, at most
    Column("nonce", String, nullable=False),
    Column("request_sha256", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("intent_at", Float, nullable=False),
    Column("prediction_id", String, nullable=True),
    Column("confirmed_at", Float, nullable=True),
    Column("token", String, nullable=True),  # what no other run's input can hold, see `Token`; null: there is none
    Column("clock_offset", Float, nullable=True),  # the provider's clock minus ours at the intent, where it is known
    Index("submissions_by_token", "provider", "token", unique=True),
    Index("submissions_by_nonce", "nonce"),  # a webhook's address has it
)

runs = Table(
    "runs",  # which job a run belongs to: one run, one job; they outlive their jobs while a list may still show them
    metadata,
    Column("provider", String, primary_key=True),
    Column("prediction_id", String, primary_key=True),
    Column("job_id", String, nullable=False),
    Column("at", Float, nullable=False),
    Index("runs_by_time", "at"),
)

job_events = Table(
    "job_events",
    metadata,
    # SQLite counts rows by itself only in a column that is exactly INTEGER.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_id", String, ForeignKey("jobs.id"), nullable=False),
    Column("at", Float, nullable=False),
    Column("type", String, nullable=False),
    Column("data", JSON, nullable=False),
    Index("job_events_by_job", "job_id", "seq"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("sha256", String, primary_key=True),
    Column("content_type", String, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("facts", JSON, nullable=False),  # width, height and whatever else is known of the medium
    Column("created_at", Float, nullable=False),
)

outputs = Table(
    "outputs",
    metadata,
    Column("job_id", String, ForeignKey("jobs.id"), primary_key=True),
    Column("role", String, primary_key=True),  # mask, overlay, coco, raw
    Column("n", Integer, primary_key=True),
    Column("sha256", String, ForeignKey("artifacts.sha256"), nullable=False),
    Column("source_url", String, nullable=True),
    Column("source_expires_at", Float, nullable=True),
    Index("outputs_by_content", "sha256"),
)

job_inputs = Table(
    "job_inputs",  # the kept files that a job was given: they stay as long as it does
    metadata,
    Column("job_id", String, primary_key=True),
    Column("sha256", String, primary_key=True),
    Index("job_inputs_by_content", "sha256"),
)

job_waits = Table(
    "job_waits",  # the jobs whose outputs a job takes as arguments: it begins when all of them have ended
    metadata,
    Column("job_id", String, primary_key=True),
    Column("n", Integer, primary_key=True),  # by which the job's plan names it, see `models.awaited`
    Column("on_job_id", String, nullable=False),
    Column("is_step", Boolean, nullable=False),  # opened for this job, whose cost and cancel hold for both
    Index("job_waits_by_awaited", "on_job_id"),
)

reservations = Table(
    "reservations",  # one a job, written with it; they outlive it, for they are the account of what was spent
    metadata,
    Column("job_id", String, primary_key=True),
    Column("principal", String, nullable=False),
    Column("tool", String, nullable=False),
    Column("model", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("sandbox", Boolean, nullable=False),  # a rehearsal: counted apart, nothing is spent
    Column("at", Float, nullable=False),
    Column("reserved", BigInteger, nullable=True),  # millionths of a US dollar, like all amounts; null: no known price
    Column("committed", BigInteger, nullable=True),  # what it counts for since it ended; null: held, or not known
    Column("estimate", BigInteger, nullable=True),  # what it was likely to cost; `reserved` is what it could at most
    Column("charged", BigInteger, nullable=True),  # what was charged, where that is known
    Column("settled_at", Float, nullable=True),
    Column("sent_at", Float, nullable=True),  # money counts on the day on which it was sent; until then it is held
    Column("day_cap", BigInteger, nullable=True),  # of its principal, when it was opened; null: none
    Column("day_cap_of_all", BigInteger, nullable=True),  # of all principals together
    # It holds the sums too: a day with many runs is added up without a look at their rows.
    Index("reservations_by_day_sent", "principal", "sandbox", "sent_at", "settled_at", "committed", "reserved"),
    Index("reservations_of_all_by_day_sent", "sandbox", "sent_at", "settled_at", "committed", "reserved"),
    Index("reservations_by_sending", "sent_at"),
    Index("reservations_by_time", "at"),
)

processes = Table(
    "processes",
    metadata,
    Column("owner", String, primary_key=True),
    Column("beat_at", Float, nullable=False),
    Column("keys", JSON, nullable=False),  # what it holds: `provider@host`, or the sandbox
)

key_holders = Table(
    "key_holders",  # who was last seen with a key: for the sentence about a job that no process can drive
    metadata,
    Column("key", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("seen_at", Float, nullable=False),
)

properties = Table(
    "properties",  # what holds for the whole ledger: `vault` names the results folder that belongs to it
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

quotes = Table(
    "quotes",  # prices that were shown, for the request that follows
    metadata,
    Column("key", String, primary_key=True),  # a hash: equal for equal requests
    Column("price", BigInteger, nullable=False),  # millionths of a US dollar
    Column("at", Float, nullable=False),
)

price_questions = Table(
    "price_questions",  # calls that wait, as tasks, until somebody has agreed to their price
    metadata,
    Column("id", String, primary_key=True),  # 128 random bits, hex: the id of the task, and of the job that a yes opens
    Column("principal", String, nullable=False),
    Column("tool", String, nullable=False),
    Column("args", JSON, nullable=False),  # as they were given
    Column("quote_key", String, nullable=False),  # equal for requests that the price is for
    Column("price", BigInteger, nullable=False),  # millionths of a US dollar
    Column("words", String, nullable=False),  # the question
    Column("round", Integer, nullable=False),  # how often a price was asked about: a changed one is asked about again
    Column("state", String, nullable=False),
    Column("error", JSON, nullable=True),  # why the call was refused after a yes
    Column("job_id", String, nullable=True),  # which job the yes has opened or joined
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),  # until when an answer, or the start after it, is waited for
    Index("price_questions_by_request", "principal", "quote_key"),
    Index("price_questions_by_state", "principal", "state", "expires_at"),
    Index("price_questions_by_time", "updated_at"),
)

durations = Table(
    "durations",  # these outlive their jobs: they are what is known of a model
    metadata,
    Column("job_id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("sandbox", Boolean, nullable=False),
    Column("workload", String, nullable=False),  # what decides how long a run takes: size, seconds, ...
    Column("seconds", Float, nullable=False),  # from accepted to finished at the provider
    Column("at", Float, nullable=False),
    Index("durations_by_workload", "model", "provider", "sandbox", "workload", "at"),
)
