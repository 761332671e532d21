"""What each version of the ledger added, for the ledgers that older versions have written.

Tables, columns and indexes are only ever added, so a ledger is brought to this version in one transaction: what is
missing is made, then the new columns and tables are filled from what stands.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, inspect, select
from sqlalchemy.dialects.sqlite import insert as insert_or_merge
from sqlalchemy.schema import CreateColumn

from rotoscope.store.job_json import planned_file_hashes
from rotoscope.store.schema import SCHEMA_VERSION, job_inputs, jobs, metadata

__all__ = ["upgrade"]

_BATCH_SIZE = 1_000
# Indexes of former versions that another one does the work of now.
_OBSOLETE_INDEXES = ("jobs_by_request", "reservations_by_day")


def upgrade(connection: Connection, found: int) -> None:
    """Bring a ledger to this version.

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
        connection.exec_driver_sql("UPDATE jobs SET needs_key = 'sandbox' WHERE sandbox AND needs_key IS NULL")
    if 1 <= found < 4:  # noqa: PLR2004 - the version that has the tables which are filled
        _fill_version_4(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _add_columns(connection: Connection) -> None:
    looking = inspect(connection)
    standing = set(looking.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in standing:
            continue
        known = {column["name"] for column in looking.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                words = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {words}")


def _add_indexes(connection: Connection) -> None:
    for name in _OBSOLETE_INDEXES:
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
    for table in metadata.sorted_tables:
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _fill_version_4(connection: Connection) -> None:
    connection.exec_driver_sql(
        "INSERT OR IGNORE INTO runs (provider, prediction_id, job_id, at) "
        "SELECT provider, prediction_id, job_id, intent_at FROM submissions WHERE prediction_id IS NOT NULL "
        "ORDER BY intent_at"
    )
    # Until now money counted on the day on which it was asked for.
    connection.exec_driver_sql(
        "UPDATE reservations SET sent_at = at WHERE settled_at IS NOT NULL "
        "OR job_id IN (SELECT job_id FROM submissions)"
    )
    for batch in _input_files_of_jobs(connection):
        connection.execute(insert_or_merge(job_inputs).on_conflict_do_nothing(), batch)


def _input_files_of_jobs(connection: Connection) -> Iterator[list[dict[str, str]]]:
    """The kept files that every job was given, which its plan names."""
    last = ""
    query = select(jobs.c.id, jobs.c.data).order_by(jobs.c.id).limit(_BATCH_SIZE)
    while rows := connection.execute(query.where(jobs.c.id > last)).all():
        last = rows[-1][0]
        named = [(job_id, planned_file_hashes(data)) for job_id, data in rows]
        if batch := [{"job_id": job_id, "sha256": sha256} for job_id, given in named for sha256 in sorted(given)]:
            yield batch
