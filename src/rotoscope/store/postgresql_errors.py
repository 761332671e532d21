"""What PostgreSQL and its driver say, as one sentence for a person; a password is in none of them."""

from psycopg import errors
from sqlalchemy import URL

from rotoscope.errors import StorageFailed
from rotoscope.store.backend import LockTimeout

__all__ = ["name_database", "translate_error"]

_FAILURES: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    (
        (LockTimeout, errors.LockNotAvailable, errors.DeadlockDetected, errors.QueryCanceled),
        "The ledger is locked by another program; nothing was begun.",
        "See in pg_stat_activity what works in {place}, then try again.",
    ),
    (
        (errors.DiskFull, errors.IoError),
        "The ledger cannot be written: the disk of the database is full or broken.",
        "Make space for {place}.",
    ),
    (
        (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction),
        "The user may not write in {place}.",
        "Make it the owner of the database, or GRANT it ALL there.",
    ),
    (
        (errors.UndefinedTable, errors.UndefinedColumn),
        "The tables of the ledger are not in {place}, so nothing is begun.",
        "Put them back from a copy, or end every rotoscope process and start again.",
    ),
)
# A server that does not let anybody in says so without a code, so its words are read. In another language than English
# none of them is found, and the last sentence of `_explain_refusal` stands.
_REFUSALS = (
    (
        ("terminating connection", "server closed the connection", "connection is closed", "SSL SYSCALL"),
        "{place} has ended the connection; what was being committed may stand or not",
        "Try again in a moment.",
    ),
    (
        ("password authentication failed", "no password supplied"),
        "{place} does not accept the user or the password",
        "Check the user and the password in ROTOSCOPE_DATABASE_URL.",
    ),
    (
        ('role "',),
        "{place} does not know the user",
        "Make the user there (createuser), or correct ROTOSCOPE_DATABASE_URL.",
    ),
    (
        ('database "',),
        "{place} has no database of this name",
        "Make it there (createdb), or correct ROTOSCOPE_DATABASE_URL.",
    ),
    (
        ("no pg_hba.conf entry",),
        "{place} does not let this user in from here",
        "Let it in by the server's pg_hba.conf, or correct ROTOSCOPE_DATABASE_URL.",
    ),
    (
        ("server does not support SSL", "SSL error", "certificate", "no encryption"),
        "{place} and this program do not agree about TLS",
        "See sslmode in ROTOSCOPE_DATABASE_URL, and the certificates.",
    ),
    (
        ("too many clients", "remaining connection slots", "too many connections"),
        "{place} takes no more connections",
        "Raise max_connections of the server, or run fewer processes.",
    ),
    (
        ("starting up", "shutting down", "in recovery mode", "not yet accepting"),
        "{place} is being started or stopped",
        "Try again in a moment.",
    ),
)


def name_database(url: URL) -> str:
    """What messages call a database: its name and its server."""
    server = url.host or "this machine"
    return f"{url.database} at {server}{f':{url.port}' if url.port else ''}"


def translate_error(error: Exception, url: URL) -> StorageFailed:
    """What has happened, and what a person can do about it.

    Args:
        error: of SQLAlchemy, the driver or the operating system; or `LockTimeout`.
        url: the database's.
    """
    cause = getattr(error, "orig", None) or error
    place = f"PostgreSQL ({name_database(url)})"
    for kinds, message, hint in _FAILURES:
        if isinstance(cause, kinds):
            return StorageFailed(message.format(place=place), hint=hint.format(place=place))
    if isinstance(cause, errors.ProgrammingError) and cause.sqlstate is None:
        return StorageFailed(
            "ROTOSCOPE_DATABASE_URL holds an option that PostgreSQL does not know.",
            hint="Correct what follows the question mark in it.",
        )
    if isinstance(cause, errors.OperationalError):
        return _explain_refusal(str(cause), place)
    return StorageFailed("The ledger could not be read or written.", hint=f"Check {place} and its log, then try again.")


def _explain_refusal(words: str, place: str) -> StorageFailed:
    for known, message, hint in _REFUSALS:
        if any(one in words for one in known):
            return StorageFailed(f"{message.format(place=place)}.", hint=hint)
    return StorageFailed(
        f"{place} cannot be reached, so nothing is begun.",
        hint="Check that it runs, and the host and the port in ROTOSCOPE_DATABASE_URL.",
    )
