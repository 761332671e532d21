"""What is known of a file in the vault, whichever vault it is, and how its hash is found."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

__all__ = ["FileAddress", "StoredFile", "artifact_hash", "enter_in_thread", "file_sha256", "is_content_hash"]

_HASH_LENGTH = hashlib.sha256().digest_size * 2
_HEX_DIGITS = frozenset("0123456789abcdef")
Entered = TypeVar("Entered")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the vault: SHA-256 (hex), size in bytes and media type."""

    sha256: str
    size: int
    content_type: str

    @property
    def uri(self) -> str:
        """The link that every tool takes as input."""
        return f"artifact://{self.sha256}"


@dataclass(frozen=True, slots=True)
class FileAddress:
    """Where a stored file can be read.

    Attributes:
        name: the SHA-256 (hex) and the extension of its media type, such as `3f…a9.png`.
        url: `file://` for a folder of this machine; of an object store the address that it has signed, by which
            anybody may read the file until it expires; None where only this process can give the file.
        path: absolute, on this machine; None where the vault is elsewhere.
        expires_at: until when the URL works, in Unix seconds; None: as long as the file is kept.
    """

    name: str
    url: str | None
    path: Path | None
    expires_at: float | None = None

    @property
    def uri(self) -> str:
        """The link that every tool takes as input."""
        return f"artifact://{self.name.partition('.')[0]}"

    @property
    def is_on_web(self) -> bool:
        """Whether its URL opens in a browser that may be on another machine."""
        return self.url is not None and self.url.startswith(("https://", "http://"))

    @property
    def place(self) -> str:
        """The path where there is one, else the URL or the link: for people."""
        return self.url or self.uri if self.path is None else str(self.path)


def artifact_hash(uri: str) -> str:
    """The hash in an `artifact://` link; what is no hash is looked for in vain."""
    return uri.partition("://")[2].strip("/")


def file_sha256(path: Path) -> str:
    """The SHA-256 (hex) of a file's content.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def is_content_hash(text: str) -> bool:
    """Whether a text is written as the hash of a stored file is."""
    return len(text) == _HASH_LENGTH and _HEX_DIGITS.issuperset(text)


@asynccontextmanager
async def enter_in_thread(manager: AbstractContextManager[Entered]) -> AsyncIterator[Entered]:
    """Enter and leave a context manager in a thread, because both may wait for a disk or a network.

    It is left even when the task is cancelled. It does not see an exception of the block.
    """
    import anyio.to_thread  # not needed in the workers, and slow to load

    entered = await anyio.to_thread.run_sync(manager.__enter__)
    try:
        yield entered
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(manager.__exit__, None, None, None)
