"""A vault whose files are read over HTTP: it gives signed addresses, and no path of this machine."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rotoscope.media.file_addresses import FileAddresses
from rotoscope.media.stored_files import FileAddress, StoredFile
from rotoscope.media.vault import Vault

__all__ = ["AddressedVault"]


@dataclass(frozen=True, slots=True)
class AddressedVault(Vault):
    """Another vault, whose files are named by addresses for clients on other machines.

    Attributes:
        vault: keeps the files. Where its own addresses open in a browser, they stay as they are.
        addresses: signs addresses.
    """

    vault: Vault
    addresses: FileAddresses

    @property
    def location(self) -> str:
        """Where the results are, for people who do not see this machine."""
        return f"of {self.addresses.base}"

    @property
    def is_local(self) -> bool:
        """Whether the files lie on this machine's disk; their addresses have no paths all the same."""
        return self.vault.is_local

    def address(self, sha256: str) -> FileAddress | None:
        """The file's address, without a path."""
        found = self.vault.address(sha256)
        if found is None:
            return None
        # A store without TLS is one of an inner network, and of no use to a client that is not there.
        is_plain_here = self.addresses.base.startswith("http://") and found.is_on_web
        if is_plain_here or (found.url or "").startswith("https://"):
            return FileAddress(found.name, found.url, None, found.expires_at)
        signed = self.addresses.sign(found.name)
        return FileAddress(found.name, signed.url, None, signed.expires_at)

    def hash_of(self, path: Path) -> str | None:  # noqa: ARG002 - a path means nothing to who is elsewhere
        """None: clients know no paths of this machine."""
        return None

    def hash_of_address(self, url: str) -> str | None:
        """The hash in an address that was signed here, also of one that opens no more."""
        return self.addresses.hash_of(url) or self.vault.hash_of_address(url)

    def put(self, source: Path, sha256: str, content_type: str) -> StoredFile:
        """As the vault does."""
        return self.vault.put(source, sha256, content_type)

    def hold(self, source: Path, sha256: str, content_type: str) -> StoredFile:
        """As the vault does."""
        return self.vault.hold(source, sha256, content_type)

    def put_held(self, sha256: str) -> StoredFile | None:
        """As the vault does."""
        return self.vault.put_held(sha256)

    def put_all_held(self) -> int:
        """As the vault does."""
        return self.vault.put_all_held()

    def has_files(self) -> bool:
        """As the vault does."""
        return self.vault.has_files()

    def hold_bytes(self, content: bytes, content_type: str) -> StoredFile:
        """As the vault does."""
        return self.vault.hold_bytes(content, content_type)

    def open(self, sha256: str) -> AbstractContextManager[Path | None]:
        """As the vault does."""
        return self.vault.open(sha256)

    def delete(self, sha256: str, before: float) -> bool:
        """As the vault does."""
        return self.vault.delete(sha256, before)

    def renew(self, sha256: str) -> StoredFile | None:
        """As the vault does."""
        return self.vault.renew(sha256)

    def hashes_older_than(self, before: float, prefix: str = "") -> list[str]:
        """As the vault does."""
        return self.vault.hashes_older_than(before, prefix)

    def mark_prepared(self, sha256: str, kind: str) -> None:
        """As the vault does."""
        self.vault.mark_prepared(sha256, kind)

    def is_prepared(self, sha256: str, kind: str) -> bool:
        """As the vault does."""
        return self.vault.is_prepared(sha256, kind)

    def read_id(self) -> str | None:
        """As the vault does."""
        return self.vault.read_id()

    def write_id(self, vault_id: str) -> None:
        """As the vault does."""
        self.vault.write_id(vault_id)

    def new_scratch_path(self) -> Path:
        """As the vault does."""
        return self.vault.new_scratch_path()

    def remove_old_scratch(self, before: float) -> None:
        """As the vault does."""
        self.vault.remove_old_scratch(before)

    def put_bytes(self, content: bytes, content_type: str) -> StoredFile:
        """As the vault does."""
        return self.vault.put_bytes(content, content_type)
