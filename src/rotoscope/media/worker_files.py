"""Files that a worker process makes: it writes them where it was told to, and its parent takes them into the vault."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rotoscope.errors import StorageFailed
from rotoscope.media.vault import StoredFile, Vault, file_sha256

__all__ = ["ScratchVault", "WorkerFile", "store_worker_files"]


@dataclass(frozen=True, slots=True)
class WorkerFile:
    """A file that was made: where it lies, the SHA-256 (hex) of its content, and its media type."""

    path: Path
    sha256: str
    content_type: str


@dataclass(slots=True)
class ScratchVault:
    """Takes what a worker makes; it looks like a vault to who makes it.

    Attributes:
        stem: the path with which the names of all its files begin.
        files: what was made.
    """

    stem: Path
    files: list[WorkerFile] = field(default_factory=list)

    def keep(self, content: bytes, content_type: str) -> StoredFile:
        """Write a file.

        Raises:
            StorageFailed: the disk does not take it.
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


def store_worker_files(vault: Vault, files: Sequence[WorkerFile]) -> None:
    """Keep what a worker has made. Its word on the content is not taken: a file may have taken the worker over.

    Raises:
        StorageFailed: a file is not what it is said to be, or the disk does not take it.
    """
    for made in files:
        try:
            found = file_sha256(made.path)
        except OSError:
            found = ""
        if found != made.sha256:
            raise StorageFailed("A file of the result was changed while it was kept.", hint="Look at the disk.")
        vault.put(made.path, made.sha256, made.content_type)
