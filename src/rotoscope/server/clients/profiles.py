"""What each client can bear, as data (`manifests/clients.toml`). It tunes delivery and is never a permission."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ClientProfile", "ClientProfiles", "ClientRow", "ClientVariant", "read_client_profiles"]

_MAX_SECONDS = 45.0
_MAX_VIEW_BYTES = 45_000  # 60,000 characters of base64, which some clients pass on as text
_DEFAULT_VIEW_BYTES = 16_000
_WILDCARD = "*"  # at the end of a name: whatever follows


class ClientProfile(BaseModel):
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

    inline_seconds: float = Field(ge=0, le=_MAX_SECONDS)
    wait_seconds: float | None = Field(default=None, ge=0, le=_MAX_SECONDS)
    view_bytes: int = Field(default=_DEFAULT_VIEW_BYTES, ge=0, le=_MAX_VIEW_BYTES)
    learns: bool = False
    links: bool = False
    pictures: bool = False
    evidence: str = ""


class ClientVariant(BaseModel):
    """One of several clients that call themselves alike, told by what else they say; what it says beats its row.

    Attributes:
        protocol: the protocol revision that it speaks.
        declares: its capabilities, all of them, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str
    declares: frozenset[str]
    inline_seconds: float | None = Field(default=None, ge=0, le=_MAX_SECONDS)
    wait_seconds: float | None = Field(default=None, ge=0, le=_MAX_SECONDS)
    view_bytes: int | None = Field(default=None, ge=0, le=_MAX_VIEW_BYTES)
    learns: bool | None = None
    evidence: str

    @property
    def overrides(self) -> dict[str, object]:
        """What it says of itself, for its row."""
        return self.model_dump(exclude={"protocol", "declares"}, exclude_none=True)


class ClientRow(ClientProfile):
    """All clients of one name.

    Attributes:
        kinds: those among them that can be told apart.
    """

    kinds: tuple[ClientVariant, ...] = ()

    def variant_for(self, protocol: str, declares: frozenset[str]) -> ClientProfile:
        """The client of this name that speaks a revision and declares some capabilities."""
        for kind in self.kinds:
            if (kind.protocol, kind.declares) == (protocol, declares):
                return self.model_copy(update=kind.overrides)
        return self


class ClientProfiles(BaseModel):
    """Every client we know by its `clientInfo.name`, and what holds for all others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: ClientProfile
    clients: Mapping[str, ClientRow]

    def has_client(self, name: str) -> bool:
        """Whether a client of that name has a row."""
        return self._find_row(name) is not None

    def profile_for(
        self, name: str | None, protocol: str = "", declares: frozenset[str] = frozenset()
    ) -> ClientProfile:
        """What a client can bear, by its exact name, or by how it begins where its row ends with a star.

        Args:
            name: as it calls itself; the careful default stands for one that is unknown or says nothing.
            protocol: the revision that it speaks.
            declares: the names of its capabilities.
        """
        row = self._find_row(name or "")
        return self.default if row is None else row.variant_for(protocol, declares)

    def _find_row(self, name: str) -> ClientRow | None:
        exact = self.clients.get(name)
        if exact is not None:
            return exact
        begun = (
            row for of, row in self.clients.items() if of.endswith(_WILDCARD) and name.startswith(of[: -len(_WILDCARD)])
        )
        return next(begun, None)


def read_client_profiles(file: Path) -> ClientProfiles:
    """Read the table that is shipped."""
    return ClientProfiles.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
