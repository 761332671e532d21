"""Which vault belongs to a ledger: both hold the same random id.

A ledger that a second home uses would show jobs whose files are not there, as empty successes, and what was paid for
would be paid for again. So another folder is refused. A ledger inside its home goes with that home, whatever becomes
of the folder beside it.

An object store has no home: another one is always refused, and so is one with files that this ledger knows nothing of.
Whose they are would not be seen, and retention would remove them in the end.
"""

import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from rotoscope.errors import StorageFailed
from rotoscope.media.vault import Vault
from rotoscope.store.backend import upsert
from rotoscope.store.schema import properties

__all__ = ["VaultBinding"]

_PROPERTY_NAME = "vault"
_READ_PROPERTY = select(properties.c.value).where(properties.c.name == bindparam("named"))


@dataclass(frozen=True, slots=True)
class VaultBinding:
    """The tie between a ledger and its vault.

    Attributes:
        vault: the one that this process uses.
        is_in_home: whether the ledger lies in the same home as a vault that is a folder.
    """

    vault: Vault
    is_in_home: bool

    def is_bound(self, connection: Connection) -> bool:
        """Whether both hold the same id."""
        known = _read_ledger_id(connection)
        return known is not None and known == self.vault.read_id()

    def bind(self, connection: Connection) -> None:
        """Write the id where it is missing.

        Raises:
            StorageFailed: the ledger belongs to another vault, or the vault to another ledger.
        """
        known, found = _read_ledger_id(connection), self.vault.read_id()
        if known is not None and known != found and not self.is_in_home:
            raise _other_vault_error(self.vault)
        if known is None and found is not None and not self.vault.is_local and self.vault.has_files():
            raise StorageFailed(
                f"The object store {self.vault.location} belongs to another ledger, so nothing is begun.",
                hint="Set ROTOSCOPE_STORE_URL to a prefix of its own, or ROTOSCOPE_DATABASE_URL to the ledger of that "
                "store; if that ledger is lost, remove the object `id` below the prefix.",
            )
        agreed = found or known or secrets.token_hex(16)
        if found is None:
            self.vault.write_id(agreed)  # the folder first: a crash in between leaves an id that is taken up here
        connection.execute(upsert(connection, properties, "value"), {"name": _PROPERTY_NAME, "value": agreed})


def _other_vault_error(vault: Vault) -> StorageFailed:
    if vault.is_local:
        return StorageFailed(
            f"This ledger belongs to another results folder than {vault.location}, so nothing is begun.",
            hint="Use it with its own ROTOSCOPE_HOME, or set ROTOSCOPE_DATABASE_URL to a ledger of this home.",
        )
    return StorageFailed(
        f"This ledger belongs to another vault than the object store {vault.location}, so nothing is begun.",
        hint="Set ROTOSCOPE_STORE_URL to the store of this ledger, or ROTOSCOPE_DATABASE_URL to a ledger of its own.",
    )


def _read_ledger_id(connection: Connection) -> str | None:
    return connection.execute(_READ_PROPERTY, {"named": _PROPERTY_NAME}).scalar_one_or_none()
