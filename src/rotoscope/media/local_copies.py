"""Files of an object store on this machine's disk: those that are held until the store takes them, and a cache.

Both keep a file as `ab…cd.png`, by its hash. The processes of one home share them. What is held is on the disk to stay
and goes only once the store has it; what is cached may go at any time, the least recently used first.
"""

import contextlib
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rotoscope.errors import StorageFailed
from rotoscope.media.disk import Disk, system_disk
from rotoscope.media.sniff import EXTENSIONS, extension_of
from rotoscope.ownership import make_private

__all__ = ["FileCache", "Spool", "link_or_copy", "read_free_bytes"]

_MIN_FREE = 256 * 1024 * 1024  # bytes of the disk that are left to others
_CACHE_SHARE = 0.5  # of what is free on the disk, with the cache itself
_TRIM_SHARE = 0.8  # of the limit, to which a cache that is full is cut

FreeBytes = Callable[[Path], int]


def read_free_bytes(folder: Path) -> int:
    """How many bytes are free on the disk of a folder.

    Raises:
        OSError: nobody knows.
    """
    return shutil.disk_usage(folder).free


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file, so that it stays whatever becomes of the first; a copy where the disk has no links.

    Raises:
        OSError: neither is possible.
    """
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


@dataclass(frozen=True, slots=True)
class Spool:
    """Files that are held on this machine until the store takes them.

    Attributes:
        folder: exists or is made at the first write, for its owner alone.
        disk: how files are brought to the disk to stay.
        free_bytes: how much is free on a folder's disk.
    """

    folder: Path
    disk: Disk = field(default_factory=system_disk)
    free_bytes: FreeBytes = read_free_bytes

    def hold(self, source: Path, sha256: str, content_type: str) -> int:
        """Move a file of the same disk here, to stay; its size in bytes.

        Raises:
            StorageFailed: the disk is nearly full, or cannot be written.
        """
        held = self.folder / f"{sha256}{extension_of(content_type)}"
        try:
            make_private(self.folder)
            if self.free_bytes(self.folder) < _MIN_FREE:
                raise _full_error(self.folder)
            size = source.stat().st_size
            self.disk.flush_file(source)
            source.chmod(0o600)
            source.replace(held)
            self.disk.flush_folder(self.folder)
        except OSError as error:
            raise _full_error(self.folder) from error
        return size

    def find(self, sha256: str) -> Path | None:
        """The file of a hash, if it is held here."""
        return _find_by_hash(self.folder, sha256)

    def hashes(self, before: float = math.inf) -> list[str]:
        """The hashes of what is held that was written before a moment (Unix seconds), the oldest first."""
        return [path.stem for written_at, path in sorted(_files_by_age(self.folder)) if written_at < before]


@dataclass(frozen=True, slots=True)
class FileCache:
    """Copies of the store's files that were written or read here, as many bytes as fit.

    Attributes:
        folder: exists or is made at the first write, for its owner alone.
        max_bytes: of all files together; never more than half of what the disk has for them.
        free_bytes: how much is free on a folder's disk.
    """

    folder: Path
    max_bytes: int = 2 * 1024**3
    free_bytes: FreeBytes = read_free_bytes

    def add(self, path: Path, name: str) -> None:
        """Move a whole file of the same disk here; what cannot be kept goes."""
        with contextlib.suppress(OSError):
            make_private(self.folder)
            path.replace(self.folder / name)
            self._trim()
            return
        path.unlink(missing_ok=True)

    def find(self, sha256: str, size: int | None = None) -> Path | None:
        """The copy of a hash; one of another size than it must have is removed."""
        found = _find_by_hash(self.folder, sha256)
        if found is None:
            return None
        try:
            if size is not None and found.stat().st_size != size:
                found.unlink()
                return None
            os.utime(found)
        except OSError:
            return None
        return found

    def remove(self, sha256: str) -> None:
        """Remove the copy of a hash."""
        with contextlib.suppress(OSError):
            found = _find_by_hash(self.folder, sha256)
            if found is not None:
                found.unlink()

    def _trim(self) -> None:
        """Remove what was not used for longest, if all files together are too large."""
        files = [(used_at, path, _size_of(path)) for used_at, path in _files_by_age(self.folder)]
        total = sum(size for _, _, size in files)
        most = min(self.max_bytes, int((self.free_bytes(self.folder) + total) * _CACHE_SHARE))
        if total <= most:
            return
        for _, path, size in sorted(files):
            if total <= most * _TRIM_SHARE:
                return
            path.unlink(missing_ok=True)
            total -= size


def _find_by_hash(folder: Path, sha256: str) -> Path | None:
    return next((path for name in EXTENSIONS if (path := folder / f"{sha256}{name}").is_file()), None)


def _files_by_age(folder: Path) -> list[tuple[float, Path]]:
    files = list[tuple[float, Path]]()
    for path in folder.glob("*.*"):
        with contextlib.suppress(OSError):  # another process has removed it
            files.append((path.stat().st_mtime, path))
    return files


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _full_error(folder: Path) -> StorageFailed:
    return StorageFailed(
        f"The disk of {folder}, where files wait for the object store, is full or cannot be written.",
        hint="Free some space, or set ROTOSCOPE_HOME to another folder.",
    )
