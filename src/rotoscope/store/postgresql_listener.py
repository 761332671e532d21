"""LISTEN on PostgreSQL: a connection on which every event of a job arrives when its transaction commits."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import psycopg

from rotoscope.store.backend import Announcement

__all__ = ["PostgresqlListener", "open_listener"]

_LISTEN = "SELECT format('LISTEN %I', 'rotoscope_' || md5(current_schema()))"


@dataclass(frozen=True, slots=True)
class PostgresqlListener:
    """See `ChangeListener`.

    Attributes:
        driver: the connection; nothing else uses it.
        own_connections: those of this process, as the server numbers them.
    """

    driver: "psycopg.Connection[Any]"
    own_connections: AbstractSet[int]

    def fileno(self) -> int:
        """The socket."""
        return self.driver.fileno()

    def read(self) -> frozenset[Announcement]:
        """What has arrived."""
        connection, found = self.driver.pgconn, set[Announcement]()
        connection.consume_input()
        while (notice := connection.notifies()) is not None:
            found.add(Announcement(notice.extra.decode("ascii", "replace"), notice.be_pid in self.own_connections))
        return frozenset(found)

    def close(self) -> None:
        """Close the connection."""
        self.driver.close()


def open_listener(url: str, options: Mapping[str, object], own_connections: AbstractSet[int]) -> PostgresqlListener:
    """Connect, and listen from now on.

    Args:
        url: as libpq writes it.
        options: of the connection, by name.
        own_connections: see `PostgresqlListener`.
    """
    connect: Any = psycopg.connect  # its keywords are options of libpq, which its types do not name
    driver: psycopg.Connection[Any] = connect(url, **options)
    try:
        words = driver.execute(_LISTEN).fetchone()
        assert words is not None
        driver.execute(words[0])
    except BaseException:
        driver.close()
        raise
    return PostgresqlListener(driver, own_connections)
