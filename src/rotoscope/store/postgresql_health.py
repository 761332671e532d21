"""How a ledger in PostgreSQL is; apart from `health`, because only who keeps it there has the driver."""

from collections.abc import Callable
from dataclasses import replace

import psycopg
from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from rotoscope.store.health import LedgerHealth, count_jobs, newer_schema_fault
from rotoscope.store.postgresql_errors import name_database, translate_error
from rotoscope.store.schema import SCHEMA_VERSION

__all__ = ["read_postgresql_health"]

_ARGUMENTS = {"application_name": "rotoscope doctor", "connect_timeout": 3}
_SESSION_WORDS = "SET statement_timeout = '3s'; SET lock_timeout = '1s'; SET default_transaction_read_only = on"
_LOOK = "SELECT current_setting('server_version'), to_regclass('properties') IS NOT NULL"
_READ_VERSION = "SELECT value FROM properties WHERE name = 'schema'"


def read_postgresql_health(database: str, clock: Callable[[], float]) -> LedgerHealth:
    """Look at a ledger in PostgreSQL; see `health.read_ledger_health`."""
    try:
        url = make_url(database).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):  # a port that is no number
        return LedgerHealth(
            "an address that cannot be read", "PostgreSQL", fault="ROTOSCOPE_DATABASE_URL cannot be read.",
            hint="Write postgresql+psycopg://USER:PASSWORD@HOST/NAME.",
        )  # fmt: skip
    health = LedgerHealth(name_database(url), "PostgreSQL")
    try:
        return _look_into_database(url, health, clock)
    except (SQLAlchemyError, psycopg.Error, OSError) as error:
        failure = translate_error(error, url)
        return replace(health, fault=failure.message, hint=failure.hint)


def _look_into_database(url: URL, health: LedgerHealth, clock: Callable[[], float]) -> LedgerHealth:
    given = {name: value for name, value in _ARGUMENTS.items() if name not in url.query}
    engine = create_engine(url, connect_args=given, poolclass=NullPool, use_native_hstore=False)
    try:
        with engine.connect() as connection:
            return _look(connection, health, clock())
    finally:
        engine.dispose()


def _look(connection: Connection, health: LedgerHealth, now: float) -> LedgerHealth:
    connection.exec_driver_sql(_SESSION_WORDS)
    server, has_tables = connection.exec_driver_sql(_LOOK).one()
    found = connection.exec_driver_sql(_READ_VERSION).first() if has_tables else None
    schema = int(found[0]) if found else 0
    health = replace(health, server=str(server), schema=schema, exists=bool(schema))
    if schema > SCHEMA_VERSION:
        return replace(health, fault=newer_schema_fault(schema), hint="Upgrade rotoscope, or set another ledger.")
    return count_jobs(connection, health, now) if schema == SCHEMA_VERSION else health
