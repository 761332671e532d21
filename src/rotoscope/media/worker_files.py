"""Files that a worker process makes: it writes scratch files, and its parent process puts them into the vault."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rotoscope.errors import StorageFailed
from rotoscope.media.vault import StoredFile, Vault, file_sha256

__all__ = ["ScratchVault", "WorkerFile", "store_worker_files"]

_PUTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class WorkerFile:
    """A file that a worker made: its path, the SHA-256 (hex) of its content, and its media type."""

    path: Path
    sha256: str
    content_type: str


@dataclass(slots=True)
class ScratchVault:
    """Writes what a worker makes to scratch files, and lists them for the parent process.

    Attributes:
        stem: the path with which the names of all its files begin.
        files: what has been written.
    """

    stem: Path
    files: list[WorkerFile] = field(default_factory=list)

    def keep(self, content: bytes, content_type: str) -> StoredFile:
        """Write a file.

        Raises:
            StorageFailed: the disk is full or fails.
        """
        path = self.stem.with_name(f"{self.stem.name}-{len(self.files)}")
        try:
            path.write_bytes(content)
        except OSError as error:
            raise StorageFailed(
                "A file of the result could not be written.", hint="Free some space in the results folder."
            ) from error
        made = WorkerFile(path, hashlib.sha256(content).hexdigest(), content_type)
        self.files.append(made)
        return StoredFile(made.sha256, len(content), content_type)

    def path_for(self, name: str) -> Path:
        """A path for a file that is too large to be held in memory; `take` lists it once it is written."""
        return self.stem.with_name(f"{self.stem.name}-{name}")

    def take(self, path: Path, content_type: str) -> StoredFile:
        """List a file that was written to `path_for`."""
        made = WorkerFile(path, file_sha256(path), content_type)
        self.files.append(made)
        return StoredFile(made.sha256, path.stat().st_size, content_type)


def store_worker_files(vault: Vault, files: Sequence[WorkerFile]) -> None:
    """Put what a worker made into the vault. Hashes are computed again: a hostile file may have taken the worker over.

    Raises:
        StorageFailed: a file has another hash than the worker reported, or the vault does not take it.
    """

    def store(made: WorkerFile) -> None:
        try:
            found = file_sha256(made.path)
        except OSError:
            found = ""
        if found != made.sha256:
            raise StorageFailed("A file of the result was changed while it was kept.", hint="Look at the disk.")
        vault.put(made.path, made.sha256, made.content_type)

    if vault.is_local or len(files) == 1:
        for made in files:
            store(made)
        return
    from concurrent.futures import ThreadPoolExecutor  # a worker needs none

    # A store answers each call after some hundredths of a second, and a result may have hundreds of masks.
    with ThreadPoolExecutor(_PUTS_AT_ONCE) as threads:
        for _ in threads.map(store, files):
            pass
