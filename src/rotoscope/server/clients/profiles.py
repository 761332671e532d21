"""What each client can bear, as data (`manifests/clients.toml`). It tunes delivery and is never a permission."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Client", "Clients", "Kind", "Row", "read_clients"]

_CEILING = 45.0
_MOST_BYTES = 45_000  # 60,000 characters of base64, which some clients pass on as text
_STRANGERS_BYTES = 16_000
_ANY = "*"  # at the end of a name: whatever follows


class Client(BaseModel):
    """What one client can bear.

    Attributes:
        inline_seconds: the longest time that a call may stay open before it answers with a job handle.
        wait_seconds: the same for `get_job`, which costs nothing when it is cut off; None: no longer than any call.
        view_bytes: the largest picture of `view_media`, which stands alone in its result; 0: none is safe.
        learns: how long it waits is learned in the session, beginning with these times.
        links: resource_link blocks are safe in its tool results.
        pictures: image blocks are safe in results that also carry structured content.
        evidence: how we know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    inline_seconds: float = Field(ge=0, le=_CEILING)
    wait_seconds: float | None = Field(default=None, ge=0, le=_CEILING)
    view_bytes: int = Field(default=_STRANGERS_BYTES, ge=0, le=_MOST_BYTES)
    learns: bool = False
    links: bool = False
    pictures: bool = False
    evidence: str = ""


class Kind(BaseModel):
    """One of several clients that call themselves alike, told by what else they say; what it says beats its row.

    Attributes:
        protocol: the protocol revision that it speaks.
        declares: its capabilities, all of them, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str
    declares: frozenset[str]
    inline_seconds: float | None = Field(default=None, ge=0, le=_CEILING)
    wait_seconds: float | None = Field(default=None, ge=0, le=_CEILING)
    view_bytes: int | None = Field(default=None, ge=0, le=_MOST_BYTES)
    learns: bool | None = None
    evidence: str

    @property
    def says(self) -> dict[str, object]:
        """What it says of itself, for its row."""
        return self.model_dump(exclude={"protocol", "declares"}, exclude_none=True)


class Row(Client):
    """All clients of one name.

    Attributes:
        kinds: those among them that can be told apart.
    """

    kinds: tuple[Kind, ...] = ()

    def told_by(self, protocol: str, declares: frozenset[str]) -> Client:
        """The client of this name that speaks a revision and declares some capabilities."""
        for kind in self.kinds:
            if (kind.protocol, kind.declares) == (protocol, declares):
                return self.model_copy(update=kind.says)
        return self


class Clients(BaseModel):
    """Every client we know by its `clientInfo.name`, and what holds for all others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Client
    clients: Mapping[str, Row]

    def knows(self, name: str) -> bool:
        """Whether a client of that name has a row."""
        return self._row(name) is not None

    def named(self, name: str | None, protocol: str = "", declares: frozenset[str] = frozenset()) -> Client:
        """What a client can bear, by its exact name, or by how it begins where its row ends with a star.

        Args:
            name: as it calls itself; the careful default stands for one that is unknown or says nothing.
            protocol: the revision that it speaks.
            declares: the names of its capabilities.
        """
        row = self._row(name or "")
        return self.default if row is None else row.told_by(protocol, declares)

    def _row(self, name: str) -> Row | None:
        exact = self.clients.get(name)
        if exact is not None:
            return exact
        begun = (row for of, row in self.clients.items() if of.endswith(_ANY) and name.startswith(of[: -len(_ANY)]))
        return next(begun, None)


def read_clients(file: Path) -> Clients:
    """Read the table that is shipped."""
    return Clients.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
