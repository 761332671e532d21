"""How written bytes are made durable: each system has a call of its own that does it.

- Linux: `fsync` of the file, and of its folder, so that the new name stays too.
- macOS: `fsync` only hands the bytes to the drive, which may keep them in its cache; `F_FULLFSYNC` waits for the drive
  (Apple, fsync(2)). On file systems that do not have it, such as network ones, `fsync` is used.
- Windows: `fsync` needs a descriptor that is open for writing, and folders cannot be flushed.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Disk", "system_disk"]


@dataclass(frozen=True, slots=True)
class Disk:
    """The calls of this system that make files durable.

    Attributes:
        fsync: flushes what was written to a descriptor.
        full_fsync: the same, and waits for the drive; None where the system has no such call.
        can_open_folders: whether a folder can be opened, so that the names in it can be flushed.
    """

    fsync: Callable[[int], None]
    full_fsync: Callable[[int], None] | None
    can_open_folders: bool

    def flush_file(self, path: Path) -> None:
        """Flush a file's content.

        Raises:
            OSError: the disk is full or fails.
        """
        self._flush_path(path, os.O_RDWR)

    def flush_folder(self, path: Path) -> None:
        """Flush the names in a folder.

        Raises:
            OSError: the disk is full or fails.
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
    """The calls of the system that this process runs on."""
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
