"""Vaults for tests: where a stored file lies, and a vault that is not on this machine's disk."""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rotoscope.errors import StorageFailed
from rotoscope.media.sniff import extension_of
from rotoscope.media.vault import FileAddress, StoredFile, Vault

STORE_URL = "https://store.example"


def stored_path(vault: Vault, name: str) -> Path:
    """The path of a file in a folder vault, by its hash or its `artifact://` link."""
    address = vault.address(name.removeprefix("artifact://"))
    assert address is not None, f"{name} is not in the vault"
    assert address.path is not None
    return address.path


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the store: its content, its media type, and when it was put (Unix seconds)."""

    content: bytes
    content_type: str
    put_at: float

    def name_of(self, sha256: str) -> str:
        return f"{sha256}{extension_of(self.content_type)}"


@dataclass(frozen=True, slots=True)
class MemoryVault(Vault):
    """What an object store would be: it gives https addresses and no paths, and a local path is a temporary copy.

    Attributes:
        scratch: a folder for scratch files and temporary copies.
        clock: the time in Unix seconds.
        objects: what is stored, by its hash.
        notes: the kinds of media that a hash is prepared for.
        ids: the id by which its ledger knows it, at most one.
        open_copies: the temporary copies that are there now.
    """

    scratch: Path
    clock: Callable[[], float] = time.time
    objects: dict[str, StoredObject] = field(default_factory=dict)
    notes: set[tuple[str, str]] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)
    open_copies: set[Path] = field(default_factory=set)

    @property
    def location(self) -> str:
        return STORE_URL

    @property
    def is_local(self) -> bool:
        return False

    def has_files(self) -> bool:
        return bool(self.objects)

    def put(self, source: Path, sha256: str, content_type: str) -> StoredFile:
        content = source.read_bytes()
        self.objects[sha256] = StoredObject(content, content_type, self.clock())
        return StoredFile(sha256, len(content), content_type)

    @contextmanager
    def open(self, sha256: str) -> Iterator[Path | None]:
        stored = self.objects.get(sha256)
        if stored is None:
            yield None
            return
        folder = self.new_scratch_path()
        folder.mkdir()
        copy = folder / stored.name_of(sha256)
        copy.write_bytes(stored.content)
        self.open_copies.add(copy)
        try:
            yield copy
        finally:
            self.open_copies.discard(copy)
            copy.unlink()
            folder.rmdir()

    def address(self, sha256: str) -> FileAddress | None:
        stored = self.objects.get(sha256)
        if stored is None:
            return None
        name = stored.name_of(sha256)
        return FileAddress(name, f"{STORE_URL}/{name}", None)

    def delete(self, sha256: str, before: float) -> bool:
        stored = self.objects.get(sha256)
        if stored is None or stored.put_at >= before:
            return False
        del self.objects[sha256]
        self.notes.difference_update([note for note in self.notes if note[0] == sha256])
        return True

    def renew(self, sha256: str) -> StoredFile | None:
        stored = self.objects.get(sha256)
        if stored is None:
            return None
        self.objects[sha256] = replace(stored, put_at=self.clock())
        return StoredFile(sha256, len(stored.content), stored.content_type)

    def hashes_older_than(self, before: float, prefix: str = "") -> list[str]:
        found = [(sha256, stored.put_at) for sha256, stored in self.objects.items() if sha256.startswith(prefix)]
        return [sha256 for sha256, put_at in found if put_at < before]

    def hash_of(self, path: Path) -> str | None:
        return None

    def mark_prepared(self, sha256: str, kind: str) -> None:
        self.notes.add((sha256, kind))

    def is_prepared(self, sha256: str, kind: str) -> bool:
        return (sha256, kind) in self.notes

    def read_id(self) -> str | None:
        return self.ids[-1] if self.ids else None

    def write_id(self, vault_id: str) -> None:
        self.ids[:] = [vault_id]

    def new_scratch_path(self) -> Path:
        try:
            self.scratch.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(
                f"The scratch folder {self.scratch} cannot be made.", hint="Free some space."
            ) from error
        return self.scratch / secrets.token_hex(8)

    def remove_old_scratch(self, before: float) -> None:
        for path in self.scratch.glob("*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before:
                    path.unlink()
