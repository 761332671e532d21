"""What each version of the ledger added, for the ledgers that older versions have written.

Tables, columns and indexes are only ever added, so a ledger is brought to this version in one transaction: what is
missing is made, then the new columns and tables are filled from what stands.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, inspect, or_, select, update
from sqlalchemy.schema import CreateColumn

from rotoscope.store import access_schema  # noqa: F401 - its tables are made with the others
from rotoscope.store.backend import insert_or_ignore
from rotoscope.store.job_json import planned_file_hashes
from rotoscope.store.schema import job_inputs, jobs, metadata, reservations, runs, submissions

__all__ = ["upgrade"]

_BATCH_SIZE = 1_000
# Indexes of former versions that another one does the work of now.
_OBSOLETE_INDEXES = ("jobs_by_request", "reservations_by_day")


def upgrade(connection: Connection, found: int) -> None:
    """Bring the tables of a ledger to this version; its backend writes the version's number in the same transaction.

    Args:
        connection: a transaction that holds the write lock.
        found: the version that it has; 0 for a new file.
    """
    if found:
        _add_columns(connection)
    metadata.create_all(connection)
    if found:
        _add_indexes(connection)
    if found == 1:
        # Version 1 left this open: any process could have sent a rehearsal to a provider.
        connection.execute(update(jobs).where(jobs.c.sandbox, jobs.c.needs_key.is_(None)).values(needs_key="sandbox"))
    if 1 <= found < 4:  # noqa: PLR2004 - the version that has the tables which are filled
        _fill_version_4(connection)
    if 1 < found < 5:  # noqa: PLR2004 - the version that has the columns which are filled
        _fill_version_5(connection)


def _add_columns(connection: Connection) -> None:
    looking = inspect(connection)
    standing = set(looking.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in standing:
            continue
        known = {column["name"] for column in looking.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")


def _add_indexes(connection: Connection) -> None:
    for name in _OBSOLETE_INDEXES:
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
    for table in metadata.sorted_tables:
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _fill_version_4(connection: Connection) -> None:
    named = submissions.c.prediction_id
    known = select(submissions.c.provider, named, submissions.c.job_id, submissions.c.intent_at).where(
        named.is_not(None)
    )
    # Where two jobs name the same run, it belongs to the first of them: the insert leaves what it finds.
    connection.execute(
        insert_or_ignore(connection, runs).from_select(
            ["provider", "prediction_id", "job_id", "at"], known.order_by(submissions.c.intent_at)
        )
    )
    # Until now money counted on the day on which it was asked for.
    was_sent = or_(reservations.c.settled_at.is_not(None), reservations.c.job_id.in_(select(submissions.c.job_id)))
    connection.execute(update(reservations).where(was_sent).values(sent_at=reservations.c.at))
    for batch in _input_files_of_jobs(connection):
        connection.execute(insert_or_ignore(connection, job_inputs), batch)


def _fill_version_5(connection: Connection) -> None:
    """Until then what was held was the estimate, and what counted after the end was shown as the charge."""
    settled = reservations.c.settled_at.is_not(None)
    connection.execute(update(reservations).values(estimate=reservations.c.reserved))
    connection.execute(update(reservations).where(settled).values(charged=reservations.c.committed))


def _input_files_of_jobs(connection: Connection) -> Iterator[list[dict[str, str]]]:
    """The kept files that every job was given, which its plan names."""
    last = ""
    query = select(jobs.c.id, jobs.c.data).order_by(jobs.c.id).limit(_BATCH_SIZE)
    while rows := connection.execute(query.where(jobs.c.id > last)).all():
        last = rows[-1][0]
        named = [(job_id, planned_file_hashes(data)) for job_id, data in rows]
        if batch := [{"job_id": job_id, "sha256": sha256} for job_id, given in named for sha256 in sorted(given)]:
            yield batch
