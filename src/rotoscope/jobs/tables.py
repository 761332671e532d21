"""The ledger's tables. Changes are additive only: several installed versions may share one file."""

from sqlalchemy import (
    JSON,
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
    "jobs",
    "metadata",
    "outputs",
    "processes",
    "quotes",
    "reservations",
    "submissions",
]

SCHEMA_VERSION = 3
"""1: jobs, submissions, job_events, artifacts, outputs, durations. 2: reservations, processes, jobs_by_request.
3: quotes.
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
    Column("needs_key", String, nullable=True),  # what the driving process must hold: a provider's key, or the sandbox
    Column("created_at", Float, nullable=False),  # Unix seconds, like all times here
    Column("updated_at", Float, nullable=False),
    Column("finished_at", Float, nullable=True),
    Column("delivered_at", Float, nullable=True),
    Index("jobs_by_state", "state", "next_at"),
    Index("jobs_by_principal", "principal", "created_at"),
    Index("jobs_by_request", "idempotency_key"),
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
)

job_events = Table(
    "job_events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
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
    Column("size", Integer, nullable=False),  # bytes
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
    Column("reserved", Integer, nullable=True),  # millionths of a US dollar, like all amounts; null: no price is known
    Column("committed", Integer, nullable=True),  # what it counts for since it ended; null: still held, or not known
    Column("settled_at", Float, nullable=True),
    Index("reservations_by_day", "principal", "sandbox", "at"),
)

processes = Table(
    "processes",
    metadata,
    Column("owner", String, primary_key=True),
    Column("beat_at", Float, nullable=False),
    Column("keys", JSON, nullable=False),  # what it holds: names of providers, or the sandbox
)

quotes = Table(
    "quotes",  # prices that were shown, for the request that follows
    metadata,
    Column("key", String, primary_key=True),  # a hash: equal for equal requests
    Column("price", Integer, nullable=False),  # millionths of a US dollar
    Column("at", Float, nullable=False),
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
