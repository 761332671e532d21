"""Codes, tokens, links and cookies: random texts, of which only hashes are kept. Pure, but for the source of chance."""

import base64
import hashlib
import hmac
import re
import secrets

from rotoscope.store.grants import TokenHashes

__all__ = ["TokenPair", "hash_secret", "is_secret", "make_secret", "pair_hashes", "successors_of"]

_SECRET = re.compile(r"[A-Za-z0-9_-]{20,200}")
_ACCESS, _REFRESH = "rsa_", "rsr_"  # so that scanners for leaked secrets, and people, know what they found

TokenPair = tuple[str, str]
"""An access and a refresh token."""


def make_secret() -> str:
    """A text that nobody can guess: 256 random bits."""
    return secrets.token_urlsafe(32)


def is_secret(text: object) -> bool:
    """Whether a text has the form of one of ours; anything else is not even looked for."""
    return isinstance(text, str) and _SECRET.fullmatch(text) is not None


def hash_secret(text: str) -> str:
    """What is kept of a secret: its SHA-256. Enough for random texts, and no protection for chosen ones."""
    return hashlib.sha256(text.encode()).hexdigest()


def successors_of(token: str, seed: str) -> TokenPair:
    """The tokens that replace a refresh token, or that a code is exchanged for: always the same for the same seed.

    Args:
        token: the refresh token or the code.
        seed: random, kept in the ledger. Whoever reads the ledger alone cannot make them, nor can who has the token.
    """
    return _ACCESS + _derive(token, seed, b"access"), _REFRESH + _derive(token, seed, b"refresh")


def pair_hashes(pair: TokenPair, *, renews: bool) -> TokenHashes:
    """The hashes of a pair; without the refresh token for a client that renews nothing."""
    access, refresh = pair
    return TokenHashes(hash_secret(access), hash_secret(refresh) if renews else None)


def _derive(token: str, seed: str, purpose: bytes) -> str:
    digest = hmac.new(seed.encode(), purpose + b"\0" + token.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
