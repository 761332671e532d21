"""The file of bearer tokens: whose each is and when it was made, its SHA-256 and its last characters; no token.

It is written as a whole under a lock, to a new file that then takes the place of the old one: a reader sees the one or
the other, and of two writers each keeps what the other has written. Its methods block for a moment.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rotoscope.errors import InvalidInput
from rotoscope.ownership import find_fault, make_private

__all__ = ["PREFIX", "FileStamp", "StoredToken", "TokenFile", "hash_token"]

PREFIX = "rotoscope_"
"""What every token of ours begins with, so that scanners for secrets find one that was published."""

_VERSION = 1
_MAX_BYTES, _MAX_TOKENS = 4 * 1024 * 1024, 10_000
_SECRET_BYTES, _ID_BYTES, _LAST_CHARS = 32, 4, 4
_READ_BY_ALL = 0o004
_NAME = re.compile(r"[A-Za-z0-9@._-]{1,128}")
_HEX = re.compile(r"[0-9a-f]{64}")

FileStamp = tuple[int, int, int] | None
"""What differs between two states of a file: when it was written, its size, its inode; None where it is missing."""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """What is kept of a token.

    Attributes:
        id: names it for `revoke`; it is no secret.
        name: its principal.
        sha256: its hash, as hex.
        last: its last characters, by which its owner knows it again.
        made_at: in Unix seconds.
    """

    id: str
    name: str
    sha256: str
    last: str
    made_at: float


def hash_token(token: str) -> str:
    """The SHA-256 of a token, as hex. A token has 256 random bits, so a slow hash would protect it no better."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class TokenFile:
    """The file, whether or not it is there."""

    path: Path

    def stamp(self) -> FileStamp:
        """The state of the file, without reading it.

        Raises:
            InvalidInput: it cannot be looked at.
        """
        try:
            facts = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refusal("cannot be read") from error
        return facts.st_mtime_ns, facts.st_size, facts.st_ino

    def read(self) -> Sequence[StoredToken]:
        """Every token, the oldest first; none where there is no file.

        Raises:
            InvalidInput: others may write or read it, or it is no file of tokens; the message is one sentence.
        """
        try:
            with self.path.open("rb") as file:
                fault, mode = find_fault(self.path), os.fstat(file.fileno()).st_mode
                if fault is not None or (os.name != "nt" and mode & _READ_BY_ALL):
                    raise self._refusal(fault or "can be read by all users")
                content = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._refusal("cannot be read") from error
        return self._parse(content)

    def add(self, name: str, now: float) -> tuple[StoredToken, str]:
        """Make a token and keep its hash.

        Returns:
            What is kept of it, and the token itself, which is nowhere else.

        Raises:
            InvalidInput: the name cannot be used, or the file cannot.
        """
        if _NAME.fullmatch(name) is None:
            raise InvalidInput(
                f"{name[:80]!r} is no name for a token.", hint="Use letters, digits and @._- only, at most 128."
            )
        token = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        made = StoredToken(secrets.token_hex(_ID_BYTES), name, hash_token(token), token[-_LAST_CHARS:], now)
        self._rewrite(lambda known: [*known, made])
        return made, token

    def revoke(self, which: str) -> Sequence[StoredToken]:
        """Remove the token of an id, or all of a name; returns what was removed.

        Raises:
            InvalidInput: there is none, or the file cannot be used.
        """
        removed: list[StoredToken] = []

        def without(known: Sequence[StoredToken]) -> list[StoredToken]:
            found = [one for one in known if one.id == which] or [one for one in known if one.name == which]
            removed.extend(found)
            return [one for one in known if one not in found]

        self._rewrite(without)
        if not removed:
            raise InvalidInput(f"There is no token {which[:80]!r}.", hint="See rotoscope tokens list.")
        return removed

    def _rewrite(self, change: Callable[[Sequence[StoredToken]], list[StoredToken]]) -> None:
        try:
            make_private(self.path.parent)
            with _hold_lock(self.path.with_name(f"{self.path.name}.lock")):
                before = self.read()
                after = change(before)
                if len(after) > _MAX_TOKENS:
                    raise InvalidInput(f"There are {_MAX_TOKENS} tokens already.", hint="Revoke some of them.")
                if after != list(before):
                    self._replace({"version": _VERSION, "tokens": [asdict(one) for one in after]})
        except OSError as error:
            raise self._refusal("cannot be written") from error

    def _replace(self, content: object) -> None:
        scratch = self.path.with_name(f"{self.path.name}.{secrets.token_hex(6)}")
        try:
            opened = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(opened, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(file.fileno())  # a token that was revoked must not come back after a power cut
            scratch.replace(self.path)
        finally:
            scratch.unlink(missing_ok=True)

    def _parse(self, content: bytes) -> Sequence[StoredToken]:
        try:
            known = json.loads(content) if len(content) <= _MAX_BYTES else None
            if not isinstance(known, dict) or known.get("version") != _VERSION:
                raise self._refusal("is no file of tokens that this version reads")
            found = [StoredToken(**row) for row in known["tokens"]]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._refusal("is broken") from error
        if len(found) > _MAX_TOKENS or not all(map(_is_whole, found)):
            raise self._refusal("is broken")
        return tuple(found)

    def _refusal(self, fault: str) -> InvalidInput:
        return InvalidInput(
            f"The file of tokens {self.path} {fault}, so no token in it is accepted.",
            hint="Make it its owner's alone (chmod 600), or move it away and add tokens again: rotoscope tokens add.",
        )


def _is_whole(one: StoredToken) -> bool:
    texts = all(isinstance(value, str) for value in (one.id, one.name, one.sha256, one.last))
    return (
        texts
        and isinstance(one.made_at, int | float)
        and _NAME.fullmatch(one.name) is not None
        and _HEX.fullmatch(one.sha256) is not None
    )


@contextmanager
def _hold_lock(path: Path) -> Iterator[None]:
    """Hold a lock that other processes wait for; it ends with the process, however that ends."""
    opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(opened, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore] # Windows has it
        else:
            import fcntl

            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
