"""What the wire is told of providers: their doors, and how long their replies are waited for."""

from dataclasses import dataclass, field

from rotoscope.wire.secrets import blotted

__all__ = ["Door", "Times"]


@dataclass(frozen=True, slots=True)
class Door:
    """What the wire must know of a provider.

    Attributes:
        header, prefix: the header that carries its key, and what stands before the key in it.
        output_hosts: where its outputs may come from; `*.` means every name below.
        upload_hosts: where files may be brought that its replies name an address for.
        bases: the origins that the key may go to; empty: wherever a request with the key is worded for.
        trusted: hosts (`name` or `name:port`) that the operator named for it; they may be http and private.
    """

    header: str
    prefix: str
    key: str = field(repr=False)
    output_hosts: tuple[str, ...] = ()
    upload_hosts: tuple[str, ...] = ()
    bases: frozenset[str] = frozenset()
    trusted: frozenset[str] = frozenset()

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries the key."""
        return {self.header: self.prefix + self.key}

    def without_key(self, content: bytes) -> bytes:
        """The same bytes with the key blotted out: a provider may repeat it, and it goes no further than this."""
        return blotted(content, self.key)


@dataclass(frozen=True, slots=True)
class Times:
    """How long a reply is waited for, in seconds: to what may change something, to a question, and at the most."""

    submit: float = 30.0
    ask: float = 10.0
    longest: float = 3600.0
