"""How long each client waits for a call, as data (`manifests/clients.toml`). It tunes delivery, never permission."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Clients", "Patience", "read_clients"]

_CEILING = 45.0


class Patience(BaseModel):
    """What one client can bear.

    Attributes:
        inline_seconds: the longest time that a call may stay open before it answers with a job handle.
        resource_links: resource_link blocks are safe in its tool results.
        inline_images: image blocks are safe in results that also carry structured content.
        evidence: how we know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    inline_seconds: float = Field(ge=0, le=_CEILING)
    resource_links: bool = False
    inline_images: bool = False
    evidence: str = ""


class Clients(BaseModel):
    """Every client we know by its `clientInfo.name`, and what holds for all others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Patience
    clients: Mapping[str, Patience]

    def inline_seconds(self, name: str | None, override: float | None) -> float:
        """The budget of a call: the operator's word, else the client's row, else the default."""
        if override is not None:
            return override
        return self.clients.get(name or "", self.default).inline_seconds


def read_clients(file: Path) -> Clients:
    """Read the table that is shipped."""
    return Clients.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
