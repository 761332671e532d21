"""The vault: the files that we keep, each under the SHA-256 of its content.

`Vault` is what an implementation must give: four calls that any object store can answer (put, open, address, delete),
and the bookkeeping around them. `FolderVault` keeps the files below one folder of this machine; `object_vault` has the
one that keeps them in an object store. Code that needs a local path opens the file, and has the path for the time of a
`with` block.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rotoscope.errors import StorageFailed
from rotoscope.media.disk import Disk, system_disk
from rotoscope.media.sniff import EXTENSIONS, extension_of, file_content_type
from rotoscope.media.stored_files import (
    FileAddress,
    StoredFile,
    artifact_hash,
    enter_in_thread,
    file_sha256,
    is_content_hash,
)
from rotoscope.ownership import make_private

__all__ = [
    "FileAddress",
    "FolderVault",
    "StoredFile",
    "Vault",
    "artifact_hash",
    "enter_in_thread",
    "file_sha256",
    "scratch_path",
]

_ID_FILE = ".id"
_ANY_FOLDER = "??"


class Vault(Protocol):
    """Where artifacts are kept. The calls wait for a disk or a network: call them in a thread.

    What every implementation guarantees:

    - A file appears under its hash only when it is whole and durable, so that a crash leaves at most scratch files.
    - To put the same content twice is harmless, and makes the file as new as if it had just been put.
    - Only the owner of this process, or of the store, can read the files.
    - What cannot be written, read or reached for any other reason than that it is not there raises `StorageFailed`.
    """

    @property
    def location(self) -> str:
        """The folder or the address of the store, for people."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether files lie on this machine's disk, so that no call waits for a network."""
        ...

    def put(self, source: Path, sha256: str, content_type: str) -> StoredFile:
        """Keep a file. The source is a scratch file of this vault, and may be gone afterwards.

        Args:
            source: the whole content.
            sha256: of the content, in hex; the caller has computed it.
            content_type: decides on the extension of the stored file's name.

        Raises:
            StorageFailed: the vault does not take it; then nothing is under the hash that was not there before.
        """
        ...

    def hold(self, source: Path, sha256: str, content_type: str) -> StoredFile:
        """Make a file durable on this machine, at least: `put_held` brings it into the vault, in any process here.

        For what was paid for and may not be had again: an object store may be away for hours. A vault on this machine
        has nothing to hold back; it keeps the file. The arguments are those of `put`.

        Raises:
            StorageFailed: the disk does not take it.
        """
        return self.put(source, sha256, content_type)

    def put_held(self, sha256: str) -> StoredFile | None:
        """Bring a file that is held into the vault; one that is there is renewed. None: it is neither here nor there.

        Raises:
            StorageFailed: the vault does not take it; then it is still held.
        """
        return self.renew(sha256)

    def put_all_held(self) -> int:
        """Bring every file that is held on this machine into the vault; how many could not be."""
        return 0

    def open(self, sha256: str) -> AbstractContextManager[Path | None]:
        """A local path with the content, for reading, for the time of a `with` block; None when it is not here.

        The path's name is the name of the file's `FileAddress`. A vault that is elsewhere gives a temporary copy, and
        removes it at the end of the block.
        """
        ...

    def address(self, sha256: str) -> FileAddress | None:
        """Where a file can be read; None when it is not here, or when that is no hash at all."""
        ...

    def delete(self, sha256: str, before: float) -> bool:
        """Remove a file and what `mark_prepared` noted of it, unless it was put or renewed at or after a time.

        To look at the time and to remove must be one step for other processes, as nearly as the store can do it: a
        file that was just put again must stay. A file that cannot be removed now stays without an error.

        Args:
            sha256: the file's hash.
            before: the time in Unix seconds.

        Returns:
            Whether it was removed.
        """
        ...

    def renew(self, sha256: str) -> StoredFile | None:
        """Make a file as new as if it had just been put; None when it is not here."""
        ...

    def hashes_older_than(self, before: float, prefix: str = "") -> list[str]:
        """The hashes of the files that were last put or renewed before a time.

        Args:
            before: the time in Unix seconds.
            prefix: the first two hex digits of the hashes that are looked at; "" for all.
        """
        ...

    def hash_of(self, path: Path) -> str | None:
        """The hash of a stored file that is named by its path on this machine; None for any other path."""
        ...

    def hash_of_address(self, url: str) -> str | None:  # noqa: ARG002 - most vaults give no addresses of their own
        """The hash of a stored file that is named by an address that this vault gave; None for any other address."""
        return None

    def mark_prepared(self, sha256: str, kind: str) -> None:
        """Note that some content is already what media of that kind are made into, and need not be prepared again.

        Raises:
            StorageFailed: it cannot be written.
        """
        ...

    def is_prepared(self, sha256: str, kind: str) -> bool:
        """Whether `mark_prepared` noted this; that does not say that the file is still here."""
        ...

    def has_files(self) -> bool:
        """Whether any file is kept here."""
        ...

    def read_id(self) -> str | None:
        """The id by which the ledger knows this vault, or None."""
        ...

    def write_id(self, vault_id: str) -> None:
        """Write the id by which the ledger knows this vault.

        Raises:
            StorageFailed: it cannot be written.
        """
        ...

    def new_scratch_path(self) -> Path:
        """A new path on this machine's disk, for a file that is still being written; `put` takes it from there.

        Raises:
            StorageFailed: its folder cannot be made.
        """
        ...

    def remove_old_scratch(self, before: float) -> None:
        """Remove scratch files that were last written before a time (Unix seconds): a crash left them behind."""
        ...

    def put_bytes(self, content: bytes, content_type: str) -> StoredFile:
        """Keep some bytes.

        Raises:
            StorageFailed: the vault does not take them.
        """
        with _scratch_file(self, content) as (scratch, sha256):
            return self.put(scratch, sha256, content_type)

    def hold_bytes(self, content: bytes, content_type: str) -> StoredFile:
        """Hold some bytes, as `hold` does a file.

        Raises:
            StorageFailed: the disk does not take them.
        """
        with _scratch_file(self, content) as (scratch, sha256):
            return self.hold(scratch, sha256, content_type)


@contextmanager
def scratch_path(vault: Vault) -> Iterator[Path]:
    """A path for a scratch file; at the end every file is removed whose name begins with the path's name.

    Raises:
        StorageFailed: the folder for scratch files cannot be made.
    """
    path = vault.new_scratch_path()
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            for left in path.parent.glob(f"{path.name}*"):
                left.unlink(missing_ok=True)


@contextmanager
def _scratch_file(vault: Vault, content: bytes) -> Iterator[tuple[Path, str]]:
    """A scratch file with some content, and the hash of that."""
    with scratch_path(vault) as scratch:
        try:
            scratch.write_bytes(content)
        except OSError as error:
            raise _write_error(str(scratch.parent)) from error
        yield scratch, hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class FolderVault(Vault):
    """The files below one folder: `ab/ab…cd.png`, scratch files in `scratch/`, notes of what is prepared in `made/`.

    The time at which a file was last put is its modification time.

    Attributes:
        folder: exists or is made at the first write, for its owner alone.
        disk: how files are brought to the disk to stay.
    """

    folder: Path
    disk: Disk = field(default_factory=system_disk)

    @property
    def location(self) -> str:
        """The folder's path."""
        return str(self.folder)

    @property
    def is_local(self) -> bool:
        """Every file has a path."""
        return True

    def put(self, source: Path, sha256: str, content_type: str) -> StoredFile:
        """Move a scratch file to its final name, once its content is on the disk; then flush the name, too."""
        final = self.folder / sha256[:2] / f"{sha256}{extension_of(content_type)}"
        try:
            size = source.stat().st_size
            make_private(final.parent)
            self.disk.flush_file(source)
            source.chmod(0o600)
            source.replace(final)
            self.disk.flush_folder(final.parent)
        except OSError as error:
            raise _write_error(self.location) from error
        return StoredFile(sha256, size, content_type)

    @contextmanager
    def open(self, sha256: str) -> Iterator[Path | None]:
        """The file's own path."""
        yield self._find(sha256)

    def address(self, sha256: str) -> FileAddress | None:
        """The file's path, and its `file://` URL."""
        path = self._find(sha256)
        return None if path is None else FileAddress(path.name, path.as_uri(), path)

    def delete(self, sha256: str, before: float) -> bool:
        """Unlink the file. A file that is put again between the look and the removal is lost: microseconds."""
        path = self._find(sha256)
        with contextlib.suppress(OSError):
            if path is not None and path.stat().st_mtime < before:
                path.unlink()
                for mark in (self.folder / "made").glob(f"*/{sha256[:2]}/{sha256}"):
                    mark.unlink(missing_ok=True)
                return True
        return False

    def renew(self, sha256: str) -> StoredFile | None:
        """Set the file's modification time to now."""
        path = self._find(sha256)
        if path is None:
            return None
        try:
            os.utime(path)
            return StoredFile(sha256, path.stat().st_size, file_content_type(path) or "application/octet-stream")
        except OSError:
            return None  # it was removed meanwhile

    def hashes_older_than(self, before: float, prefix: str = "") -> list[str]:
        """Look at the modification time of every file."""
        found = dict[str, None]()
        for path in self.folder.glob(f"{prefix or _ANY_FOLDER}/*.*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before:
                    found[path.name.partition(".")[0]] = None
        return list(found)

    def hash_of(self, path: Path) -> str | None:
        """A path counts however the folder is written: through links, relative, or by another name of the place."""
        name = path.name.partition(".")[0]
        stored = self._find(name)
        try:
            return name if stored is not None and (stored == path or stored.samefile(path)) else None
        except (OSError, ValueError):
            return None

    def mark_prepared(self, sha256: str, kind: str) -> None:
        """Make an empty file of that name."""
        mark = self._marker_path(sha256, kind)
        try:
            make_private(mark.parent)
            mark.touch(mode=0o600)
        except OSError as error:
            raise _write_error(self.location) from error

    def is_prepared(self, sha256: str, kind: str) -> bool:
        """Whether there is an empty file of that name."""
        return self._marker_path(sha256, kind).is_file()

    def has_files(self) -> bool:
        """Whether a folder of files has any."""
        return next(self.folder.glob(f"{_ANY_FOLDER}/*.*"), None) is not None

    def read_id(self) -> str | None:
        """The content of the id's file."""
        try:
            return (self.folder / _ID_FILE).read_text(encoding="ascii", errors="replace").strip() or None
        except OSError:
            return None

    def write_id(self, vault_id: str) -> None:
        """Replace the id's file as a whole."""
        scratch = self.new_scratch_path()
        try:
            scratch.write_text(vault_id, encoding="ascii")
            self.disk.flush_file(scratch)
            scratch.chmod(0o600)
            scratch.replace(self.folder / _ID_FILE)
            self.disk.flush_folder(self.folder)
        except OSError as error:
            raise _write_error(self.location) from error

    def new_scratch_path(self) -> Path:
        """A random name in `scratch/`, on the file system of the vault, so that a file can be moved to its place."""
        folder = self.folder / "scratch"
        try:
            make_private(folder)
        except OSError as error:
            raise _write_error(self.location) from error
        return folder / secrets.token_hex(8)

    def remove_old_scratch(self, before: float) -> None:
        """Unlink by modification time."""
        for scratch in (self.folder / "scratch").glob("*"):
            with contextlib.suppress(OSError):
                if scratch.stat().st_mtime < before:
                    scratch.unlink()

    def _find(self, sha256: str) -> Path | None:
        if not is_content_hash(sha256):
            return None
        stem = self.folder / sha256[:2] / sha256
        # To try each of the few names that there are costs the same however many files lie in the folder.
        return next((path for name in EXTENSIONS if (path := stem.with_name(sha256 + name)).is_file()), None)

    def _marker_path(self, sha256: str, kind: str) -> Path:
        return self.folder / "made" / kind / sha256[:2] / sha256


def _write_error(location: str) -> StorageFailed:
    return StorageFailed(
        f"The results folder {location} cannot be written.",
        hint="Free some space, or set ROTOSCOPE_HOME to another folder.",
    )
