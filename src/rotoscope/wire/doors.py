"""What the wire is told of providers: their doors, and how long their replies are waited for."""

from dataclasses import dataclass, field

__all__ = ["Door", "Times"]

_SECRET_LENGTH = 8  # characters; a shorter key is the sandbox's, and an ordinary word


@dataclass(frozen=True, slots=True)
class Door:
    """What the wire must know of a provider: the header with its key, and where its outputs may come from."""

    header: str
    prefix: str
    key: str = field(repr=False)
    output_hosts: tuple[str, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries the key."""
        return {self.header: self.prefix + self.key}

    def without_key(self, content: bytes) -> bytes:
        """The same bytes with the key blotted out: a provider may repeat it, and it goes no further than this."""
        return content.replace(self.key.encode(), b"[key]") if len(self.key) >= _SECRET_LENGTH else content


@dataclass(frozen=True, slots=True)
class Times:
    """How long a reply is waited for, in seconds: to what may change something, to a question, and at the most."""

    submit: float = 30.0
    ask: float = 10.0
    longest: float = 3600.0
