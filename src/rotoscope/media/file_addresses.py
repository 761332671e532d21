"""The addresses at which stored files are read over HTTP: signed, and valid for a day. Pure but for the clock.

Whoever has an address may read its file, as an address must open in a chat, where nobody signs in. It names the file by
its hash, says how it is shown, and ends by itself.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from rotoscope.media.sniff import EXTENSIONS, content_type_of_name
from rotoscope.signing import DAY, Signer

__all__ = ["FILES_PATH", "Disposition", "FileAddresses", "SignedAddress", "disposition_of", "is_file_name"]

FILES_PATH = "/files/"
Disposition = Literal["inline", "attachment"]

_PURPOSE = "file"
_NAME = re.compile(r"([0-9a-f]{64})(\.[a-z0-9]{2,5})")
_STEP = 900.0  # seconds; within it a file has one address, so that the same question gets the same answer


def is_file_name(name: str) -> bool:
    """Whether a text may be the name of a stored file: its hash and the extension of its media type."""
    found = _NAME.fullmatch(name)
    return found is not None and found[2] in EXTENSIONS


def disposition_of(content_type: str) -> Disposition:
    """How a file is shown: pictures and films in the browser, all else is saved."""
    return "inline" if content_type.startswith(("image/", "video/")) else "attachment"


@dataclass(frozen=True, slots=True)
class SignedAddress:
    """An address and when it ends to open, in Unix seconds."""

    url: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class FileAddresses:
    """Makes and checks addresses.

    Attributes:
        base: the address at which clients reach the server, without a slash at its end.
        signer: signs them.
        clock: the time in Unix seconds.
        seconds: for how long one opens, at most; at most a day, as long as an older secret verifies.
    """

    base: str
    signer: Signer
    clock: Callable[[], float]
    seconds: float = DAY

    def sign(self, name: str) -> SignedAddress:
        """The address of a file.

        Args:
            name: its hash and the extension of its media type.
        """
        shown = disposition_of(content_type_of_name(name))
        now = math.floor(self.clock() / _STEP) * _STEP
        token = self.signer.sign(_PURPOSE, f"{shown} {name}", now, self.seconds)
        return SignedAddress(f"{self.base}{FILES_PATH}{name}?{shown}={token}", now + self.seconds)

    def can_read(self, name: str, shown: str, token: str) -> bool:
        """Whether an address with this file, way of showing and token was given out, and still opens."""
        return self.signer.is_signed(_PURPOSE, f"{shown} {name}", token, self.clock())

    def hash_of(self, url: str) -> str | None:
        """The hash of the file that an address of this server names, valid or not; None for any other address."""
        plain = url.partition("?")[0]
        if not plain.startswith(f"{self.base}{FILES_PATH}") or urlsplit(url).fragment:
            return None
        found = _NAME.fullmatch(plain.removeprefix(f"{self.base}{FILES_PATH}"))
        return found[1] if found else None
