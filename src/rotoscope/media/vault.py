"""The vault: a folder of files that we keep, each under the hash of its content."""

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from rotoscope.errors import StorageFailed
from rotoscope.media.sniff import EXTENSIONS, content_type_of, extension_of
from rotoscope.media.storage import Disk, system_disk
from rotoscope.ownership import make_private

__all__ = ["StoredFile", "Vault"]

_SNIFFED_BYTES = 64
_ID_FILE = ".id"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the vault: SHA-256 (hex), size in bytes, media type and absolute path."""

    sha256: str
    size: int
    content_type: str
    path: Path

    @property
    def uri(self) -> str:
        """The link that every tool takes as input."""
        return f"artifact://{self.sha256}"


@dataclass(frozen=True, slots=True)
class Vault:
    """Content-addressed files below one folder. Its calls touch the disk: run them in a thread.

    A file appears under its final name only when it is whole and on the disk, so a crash leaves at most a
    scratch file, and keeping the same content twice is harmless.

    Attributes:
        disk: how files are brought to the disk to stay.
    """

    folder: Path
    disk: Disk = field(default_factory=system_disk)

    def new_scratch_path(self) -> Path:
        """A new name for a file that is still being written.

        Raises:
            StorageFailed: the folder cannot be made.
        """
        folder = self.folder / "scratch"
        try:
            make_private(folder)
        except OSError as error:
            raise _write_error(self.folder) from error
        return folder / secrets.token_hex(8)

    def read_id(self) -> str | None:
        """The id by which its ledger knows this folder, or None."""
        try:
            return (self.folder / _ID_FILE).read_text(encoding="ascii", errors="replace").strip() or None
        except OSError:
            return None

    def write_id(self, vault_id: str) -> None:
        """Write the id by which the ledger knows this folder.

        Raises:
            StorageFailed: the disk does not take it.
        """
        scratch = self.new_scratch_path()
        try:
            scratch.write_text(vault_id, encoding="ascii")
            self.disk.flush_file(scratch)
            scratch.chmod(0o600)
            scratch.replace(self.folder / _ID_FILE)
            self.disk.flush_folder(self.folder)
        except OSError as error:
            raise _write_error(self.folder) from error

    def remove_old_scratch(self, before: float) -> None:
        """Remove scratch files that were last written before a time (Unix seconds): a crash left them behind."""
        for scratch in (self.folder / "scratch").glob("*"):
            with contextlib.suppress(OSError):
                if scratch.stat().st_mtime < before:
                    scratch.unlink()

    def keep(self, content: bytes, content_type: str) -> StoredFile:
        """Keep some bytes.

        Raises:
            StorageFailed: the disk does not take them.
        """
        scratch = self.new_scratch_path()
        try:
            scratch.write_bytes(content)
            return self.move_in(scratch, hashlib.sha256(content).hexdigest(), content_type)
        except OSError as error:
            raise _write_error(self.folder) from error
        finally:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)

    def move_in(self, scratch: Path, sha256: str, content_type: str) -> StoredFile:
        """Make a finished scratch file a kept one.

        Raises:
            StorageFailed: the disk does not take it.
        """
        final = self._artifact_path(sha256, content_type)
        try:
            size = scratch.stat().st_size
            make_private(final.parent)
            self.disk.flush_file(scratch)
            scratch.chmod(0o600)
            scratch.replace(final)
            self.disk.flush_folder(final.parent)
        except OSError as error:
            raise _write_error(self.folder) from error
        return StoredFile(sha256, size, content_type, final)

    def renew(self, sha256: str) -> StoredFile | None:
        """Keep a file that is here for as long again; None when it is not here."""
        path = self.find(sha256)
        if path is None:
            return None
        try:
            os.utime(path)
            with path.open("rb") as opened:
                content_type = content_type_of(opened.read(_SNIFFED_BYTES)) or "application/octet-stream"
            return StoredFile(sha256, path.stat().st_size, content_type, path)
        except OSError:
            return None  # it was removed meanwhile

    def mark_prepared(self, sha256: str, kind: str) -> None:
        """Note of some content that it is already what a medium of that kind is made into.

        Raises:
            StorageFailed: the disk does not take it.
        """
        mark = self._marker_path(sha256, kind)
        try:
            make_private(mark.parent)
            mark.touch(mode=0o600)
        except OSError as error:
            raise _write_error(self.folder) from error

    def is_prepared(self, sha256: str, kind: str) -> bool:
        """Whether that was noted."""
        return self._marker_path(sha256, kind).is_file()

    def _marker_path(self, sha256: str, kind: str) -> Path:
        return self.folder / "made" / kind / sha256[:2] / sha256

    def find(self, sha256: str) -> Path | None:
        """The kept file of a hash, or None."""
        if len(sha256) != hashlib.sha256().digest_size * 2 or not all(c in "0123456789abcdef" for c in sha256):
            return None
        stem = self.folder / sha256[:2] / sha256
        # A look for each of the few names that there are costs the same however many files lie beside it.
        return next((path for name in EXTENSIONS if (path := stem.with_name(sha256 + name)).is_file()), None)

    def files_older_than(self, before: float, within: str = "??") -> list[Path]:
        """The kept files that were last kept before a time (Unix seconds); keeping a file again makes it new.

        Args:
            before: the time.
            within: the first two digits (hex) of their hashes; any by default.
        """
        found = []
        for path in self.folder.glob(f"{within}/*.*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before:
                    found.append(path)
        return found

    def remove(self, path: Path, before: float) -> bool:
        """Remove a kept file, unless it was kept again meanwhile; whether it was removed."""
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
                self._remove_markers(path.name.partition(".")[0])
                return True
        return False

    def _remove_markers(self, sha256: str) -> None:
        for mark in (self.folder / "made").glob(f"*/{sha256[:2]}/{sha256}"):
            mark.unlink(missing_ok=True)

    def hash_of(self, path: Path) -> str | None:
        """The hash under which a path is kept here, or None for a path that is not ours.

        It is ours however the folder is written: through links, relative, or by another name of the same place.
        """
        name = path.name.partition(".")[0]
        kept = self.find(name)
        try:
            return name if kept is not None and (kept == path or kept.samefile(path)) else None
        except (OSError, ValueError):
            return None

    def _artifact_path(self, sha256: str, content_type: str) -> Path:
        return self.folder / sha256[:2] / f"{sha256}{extension_of(content_type)}"


def _write_error(folder: Path) -> StorageFailed:
    return StorageFailed(
        f"The results folder {folder} cannot be written.",
        hint="Free some space, or set ROTOSCOPE_HOME to another folder.",
    )
