"""What each client can bear, as data (`manifests/clients.toml`). It tunes delivery and is never a permission."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Client", "Clients", "read_clients"]

_CEILING = 45.0


class Client(BaseModel):
    """What one client can bear.

    Attributes:
        inline_seconds: the longest time that a call may stay open before it answers with a job handle.
        links: resource_link blocks are safe in its tool results.
        pictures: image blocks are safe in results that also carry structured content.
        evidence: how we know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    inline_seconds: float = Field(ge=0, le=_CEILING)
    links: bool = False
    pictures: bool = False
    evidence: str = ""


class Clients(BaseModel):
    """Every client we know by its `clientInfo.name`, and what holds for all others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Client
    clients: Mapping[str, Client]

    def named(self, name: str | None) -> Client:
        """The row of a client, by its exact name; the careful default for one that is unknown or says nothing."""
        return self.clients.get(name or "", self.default)


def read_clients(file: Path) -> Clients:
    """Read the table that is shipped."""
    return Clients.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
