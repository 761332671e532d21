"""Removes what lets nobody in any more: ended tokens, codes, links, browsers' sessions, counters and unused clients."""

from sqlalchemy import Connection, delete

from rotoscope.store.access_schema import rate_counters, sign_in_links, sign_in_sessions
from rotoscope.store.clients import remove_idle_clients
from rotoscope.store.grants import remove_ended_grants

__all__ = ["sweep_access"]

_DAY = 86_400.0  # seconds


def sweep_access(connection: Connection, now: float) -> None:
    """Remove it in the caller's transaction.

    Args:
        connection: a transaction that may write.
        now: as of when, in Unix seconds.
    """
    remove_ended_grants(connection, now)
    remove_idle_clients(connection, now)
    connection.execute(delete(sign_in_links).where(sign_in_links.c.expires_at <= now - _DAY))
    connection.execute(delete(sign_in_sessions).where(sign_in_sessions.c.expires_at <= now))
    connection.execute(delete(rate_counters).where(rate_counters.c.started_at <= now - _DAY))
