"""What this process knows of the files in an object store, so that naming a file costs no request each time.

A file that was put, read or looked up is taken to be there for a while. One that another process removes meanwhile is
still named until then: its address answers 404, and to open it finds out. Retention removes only what no job needs,
so that happens where somebody else empties the store.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["KnownFile", "KnownFiles"]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file in the store.

    Attributes:
        key: in the store.
        name: the hash and the extension.
        size: in bytes.
        url: the address that the store signed for it; None: it signs none, or was not asked.
        expires_at: when the address stops to work, in Unix seconds.
    """

    key: str
    name: str
    size: int
    url: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class KnownFiles:
    """The files that were seen a short time ago, by their hashes. Threads may share it.

    Attributes:
        clock: seconds that only go forward.
        seconds: for how long a file is taken to be there.
        most: how many files are remembered, the last ones that were asked for.
    """

    clock: Callable[[], float]
    seconds: float = 600.0
    most: int = 20_000
    _seen: OrderedDict[str, tuple[float, KnownFile]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, sha256: str, *, however_old: bool = False) -> KnownFile | None:
        """A file that was seen a short time ago, or at all."""
        with self._lock:
            seen_at, known = self._seen.get(sha256, (0.0, None))
            if known is None or (self.clock() - seen_at > self.seconds and not however_old):
                return None
            self._seen.move_to_end(sha256)
            return known

    def add(self, sha256: str, known: KnownFile) -> None:
        """Remember a file that is in the store now."""
        with self._lock:
            self._seen[sha256] = (self.clock(), known)
            self._seen.move_to_end(sha256)
            while len(self._seen) > self.most:
                self._seen.popitem(last=False)

    def forget(self, sha256: str) -> None:
        """Forget a file that is gone, or may be."""
        with self._lock:
            self._seen.pop(sha256, None)
