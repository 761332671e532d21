"""Stored replies to the first requests of a session, and what makes them usable.

Everything here stands between a client and its first reply: the standard library alone, and little of that. Whoever
uses it says where the file is and what it was made from; a file that cannot be read counts as none, because the server
itself can always answer, only later.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["CachedReplies", "is_installed", "read_replies"]


class CachedReplies:
    """What the server answers before anything was asked of it.

    Attributes:
        made_from: what the replies depend on, by name: versions, fingerprints.
        latest: the revision that `initialize` settles on when the asked one is unknown.
        handshake: by revision of the handshake era, the names of the parts of each method's result.
        modern: the same for revisions whose requests carry an envelope.
    """

    __slots__ = ("_parts", "handshake", "latest", "made_from", "modern")

    def __init__(
        self,
        made_from: Mapping[str, str],
        latest: str,
        handshake: Mapping[str, Mapping[str, Sequence[str]]],
        modern: Mapping[str, Mapping[str, Sequence[str]]],
        parts: Mapping[str, Mapping[str, object]],
    ) -> None:
        self.made_from = made_from
        self.latest = latest
        self.handshake = handshake
        self.modern = modern
        self._parts = parts

    def reply_line(self, parts: Sequence[str], request_id: int | str) -> bytes:
        """The reply to a request, as one line."""
        whole = {key: value for name in parts for key, value in self._parts[name].items()}
        result = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
        return f'{{"jsonrpc":"2.0","id":{json.dumps(request_id)},"result":{result}}}\n'.encode()


def read_replies(file: str) -> CachedReplies | None:
    """The stored replies; None when the file cannot be used."""
    try:
        with open(file, "rb") as stored:  # noqa: PTH123 - pathlib takes 4 ms to load
            kept = json.loads(stored.read())
        return CachedReplies(dict(kept["made_from"]), kept["latest"], kept["handshake"], kept["modern"], kept["parts"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def is_installed(package: str, version: str, places: Iterable[str] | None = None) -> bool:
    """Whether the package that would be imported is of this version. `importlib.metadata` takes 20 ms to say so.

    Args:
        package: the name that is imported.
        version: as its installer wrote it.
        places: where packages are looked for, in order; None for `sys.path`.
    """
    for place in sys.path if places is None else places:
        if os.path.isfile(os.path.join(place, package, "__init__.py")):  # noqa: PTH113, PTH118 - as above
            return os.path.isdir(os.path.join(place, f"{package}-{version}.dist-info"))  # noqa: PTH112, PTH118 - as above
    return False
