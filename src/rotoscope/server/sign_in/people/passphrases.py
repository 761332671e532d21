"""Passphrases: how they are hashed (argon2id) and compared, with the same work for a name that is unknown."""

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from rotoscope.errors import InvalidInput

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["MAX_CHARS", "MIN_CHARS", "Passphrases", "check_length"]

MIN_CHARS, MAX_CHARS = 12, 256
_AT_ONCE = 2  # each takes 64 MiB and a processor for a twentieth of a second
_NOBODY = "correct horse battery staple"  # what is compared for an unknown name; it lets nobody in


@dataclass(slots=True)
class Passphrases:
    """Hashes and compares passphrases, in threads, few at once.

    Attributes:
        memory_kib: how much memory a guess costs; 64 MiB is OWASP's and RFC 9106's advice for servers.
        rounds: how often that memory is gone over.
    """

    memory_kib: int = 65_536
    rounds: int = 3
    _hasher: "PasswordHasher | None" = field(default=None, init=False)
    _nobody: str = field(default="", init=False)
    _limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(_AT_ONCE), init=False)

    async def hash(self, passphrase: str) -> str:
        """The hash that is kept of a passphrase.

        Raises:
            InvalidInput: it is too short, or too long to be typed.
        """
        check_length(passphrase)
        return await anyio.to_thread.run_sync(self._hash, passphrase, limiter=self._limiter)

    async def is_right(self, passphrase: str, kept: str | None) -> bool:
        """Whether a passphrase is the one of a hash. Without a hash it takes as long, and is wrong."""
        if len(passphrase) > MAX_CHARS:
            passphrase = passphrase[:MAX_CHARS] + "\0"  # too long to be anybody's, and none the cheaper
        return await anyio.to_thread.run_sync(self._is_right, passphrase, kept, limiter=self._limiter)

    def needs_hash(self, kept: str) -> bool:
        """Whether a hash was made with less work than is asked for now."""
        return self._open().check_needs_rehash(kept)

    def _open(self) -> "PasswordHasher":
        if self._hasher is None:
            from argon2 import PasswordHasher

            self._hasher = PasswordHasher(time_cost=self.rounds, memory_cost=self.memory_kib, parallelism=1)
        return self._hasher

    def _hash(self, passphrase: str) -> str:
        return self._open().hash(_spell(passphrase))

    def _is_right(self, passphrase: str, kept: str | None) -> bool:
        from argon2.exceptions import Argon2Error, InvalidHashError

        if not self._nobody:
            self._nobody = self._hash(_NOBODY)  # by the first sign-in of this process, whoever's it is
        try:
            right = self._open().verify(kept or self._nobody, _spell(passphrase))
        except (Argon2Error, InvalidHashError):
            return False
        return right and kept is not None


def check_length(passphrase: str) -> None:
    """Check that a passphrase can be one.

    Raises:
        InvalidInput: it is too short, or too long to be typed.
    """
    if not MIN_CHARS <= len(_spell(passphrase)) <= MAX_CHARS:
        raise InvalidInput(
            f"A passphrase has {MIN_CHARS} to {MAX_CHARS} characters.", hint="A few words are easy to remember."
        )


def _spell(passphrase: str) -> str:
    """The same characters however a keyboard composes them (NFKC, as RFC 8265 has it)."""
    return unicodedata.normalize("NFKC", passphrase)
