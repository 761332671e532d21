"""How bytes are brought to the disk to stay: each system has a call of its own that keeps this promise.

- Linux: `fsync` of the file, and of its folder, so that the new name stays too.
- macOS: `fsync` only hands the bytes to the drive, which may keep them in its cache; `F_FULLFSYNC` waits for the drive
  (Apple, fsync(2)). File systems that do not know it, such as those of a network, are told by `fsync`.
- Windows: `fsync` takes descriptors that can be written only, and there is nothing to do for a folder.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Disk", "system_disk"]


@dataclass(frozen=True, slots=True)
class Disk:
    """What this system offers.

    Attributes:
        fsync: brings what was written through a descriptor to the disk.
        full_fsync: the same, and waits for the drive itself; None where there is no such thing.
        can_open_folders: whether a folder can be opened, and its names be brought to the disk.
    """

    fsync: Callable[[int], None]
    full_fsync: Callable[[int], None] | None
    can_open_folders: bool

    def flush_file(self, path: Path) -> None:
        """Bring a file to the disk.

        Raises:
            OSError: the disk does not take it.
        """
        self._flush_path(path, os.O_RDWR)

    def flush_folder(self, path: Path) -> None:
        """Bring the names in a folder to the disk.

        Raises:
            OSError: the disk does not take them.
        """
        if self.can_open_folders:
            self._flush_path(path, os.O_RDONLY)

    def _flush_path(self, path: Path, flags: int) -> None:
        opened = os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            self._sync_descriptor(opened)
        finally:
            os.close(opened)

    def _sync_descriptor(self, opened: int) -> None:
        if self.full_fsync is not None:
            with contextlib.suppress(OSError):  # not every file system has it
                self.full_fsync(opened)
                return
        self.fsync(opened)


def system_disk() -> Disk:
    """What the system that we run on offers."""
    return Disk(os.fsync, _full_fsync(), can_open_folders=os.name != "nt")


def _full_fsync() -> Callable[[int], None] | None:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    command: int | None = getattr(fcntl, "F_FULLFSYNC", None)
    if command is None:
        return None

    def sync(opened: int) -> None:
        fcntl.fcntl(opened, command)

    return sync
