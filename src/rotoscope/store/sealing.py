"""Encryption of what the ledger keeps for its principals: a text is sealed together with whom and what it is for.

Fernet (AES-128-CBC with HMAC-SHA256) of the `cryptography` package, its keys derived from the operator's by HKDF: the
ledger, or a copy of it, gives no key away without them. What was sealed for one principal is refused for another, so a
row that is copied to somebody else's name opens nothing.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, StorageFailed

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

__all__ = ["Opened", "Sealer"]

_PURPOSE = b"rotoscope: provider keys of principals"
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Opened:
    """A text that was sealed, and whether it was with an older key: then it is to be sealed again."""

    text: str
    is_old: bool


class Sealer:
    """Seals and opens texts.

    Args:
        secrets: the operator's keys; the first seals, all open.

    Raises:
        InvalidInput: there is none, or the package for it is not installed.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise InvalidInput(
                "ROTOSCOPE_KEYS=principal needs ROTOSCOPE_ENCRYPTION_KEYS, to encrypt the principals' keys with.",
                hint="Set it to 32 characters or more that nobody can guess, such as from openssl rand -hex 32.",
            )
        try:
            import cryptography.fernet
        except ModuleNotFoundError:
            raise InvalidInput(
                "Provider keys of principals need a package that is not installed.",
                hint="Run pip install 'rotoscope[server]'.",
            ) from None
        self._invalid = cryptography.fernet.InvalidToken
        self._fernets = [cryptography.fernet.Fernet(_derive_key(one)) for one in secrets]

    def seal(self, owner: str, purpose: str, text: str) -> str:
        """A text, readable again only with the same owner and purpose."""
        content = json.dumps([owner, purpose, text]).encode()
        return self._fernets[0].encrypt(content).decode("ascii")

    def open(self, owner: str, purpose: str, sealed: str) -> Opened:
        """What was sealed for an owner and a purpose.

        Raises:
            StorageFailed: none of the keys opens it, or it was sealed for something else.
        """
        for number, fernet in enumerate(self._fernets):
            content = self._try_open(fernet, sealed)
            if content is None:
                continue
            whose, what, text = json.loads(content)
            if (whose, what) != (owner, purpose):
                raise StorageFailed(
                    f"What the ledger keeps as the key of {owner} for {purpose} was sealed for somebody else.",
                    hint="Somebody has changed the ledger. Enter the key again.",
                )
            return Opened(text, is_old=number > 0)
        raise StorageFailed(
            f"The key of {owner} for {purpose} was encrypted with a key that is not set now.",
            hint="Add it to ROTOSCOPE_ENCRYPTION_KEYS behind the new one, or enter the provider's key again.",
        )

    def _try_open(self, fernet: "Fernet", sealed: str) -> bytes | None:
        try:
            return fernet.decrypt(sealed.encode())
        except self._invalid:
            return None


def _derive_key(secret: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(SHA256(), _KEY_BYTES, salt=None, info=_PURPOSE).derive(secret.encode())
    return base64.urlsafe_b64encode(derived)
