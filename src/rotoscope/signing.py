"""What we sign and believe later: addresses of files, tickets, the state of a question. Pure: the time comes in.

The first secret signs. The others still verify for a day what they have signed: a secret is changed by putting a new
one in front of it, and leaving it out a day later. The time of signing is a part of what is signed, so that an old
secret that became known opens nothing new after that day. What is signed for one purpose is worth nothing for another.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field

__all__ = ["DAY", "Signer"]

DAY = 86_400.0  # seconds
_CLOCK_DIFFERENCE = 300.0  # seconds by which the clock of the replica that signed may be ahead
_TOKEN = re.compile(r"([0-9a-f]{1,12})\.([0-9a-f]{1,12})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs and verifies.

    Attributes:
        secrets: the newest first; at least one.
    """

    secrets: tuple[str, ...] = field(repr=False)

    def sign(self, purpose: str, text: str, now: float, seconds: float) -> str:
        """A token that shows that a text was signed: letters, digits, dots, dashes and underscores, about 60 of them.

        Args:
            purpose: what it is signed for.
            text: what is signed; it is not in the token.
            now: the time of signing, in Unix seconds.
            seconds: for how long it is valid.
        """
        signed, expires = int(now), int(now + seconds)
        digest = _digest(self.secrets[0], purpose, text, signed, expires)
        return f"{signed:x}.{expires:x}.{digest}"

    def is_signed(self, purpose: str, text: str, token: str, now: float) -> bool:
        """Whether a token was given out for a text and a purpose, and is valid at a time (Unix seconds)."""
        found = _TOKEN.fullmatch(token)
        if found is None:
            return False
        signed, expires = int(found[1], 16), int(found[2], 16)
        if expires <= now or signed > now + _CLOCK_DIFFERENCE:
            return False
        # All are computed, so that the time says nothing of which one fits.
        fits = [
            hmac.compare_digest(_digest(one, purpose, text, signed, expires), found[3])
            and (n == 0 or now - signed <= DAY)
            for n, one in enumerate(self.secrets)
        ]
        return any(fits)

    def keys(self, purpose: str) -> tuple[bytes, ...]:
        """A key of 32 bytes of each secret for a purpose, in the order of the secrets."""
        return tuple(_purpose_key(one, purpose) for one in self.secrets)


def _digest(secret: str, purpose: str, text: str, signed: int, expires: int) -> str:
    message = f"{signed:x}.{expires:x}.{text}".encode()
    found = hmac.new(_purpose_key(secret, purpose), message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(found).decode().rstrip("=")


def _purpose_key(secret: str, purpose: str) -> bytes:
    return hmac.new(secret.encode(), f"rotoscope {purpose}".encode(), hashlib.sha256).digest()
