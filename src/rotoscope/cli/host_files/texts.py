"""Files as texts: where each one stands, and how JSON is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Document", "HostFile", "json_text"]

Document = Mapping[str, object]
"""One JSON object in a host's own form, on its way to a file or a link."""


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file for a host.

    Attributes:
        path: below `manifests/`.
        text: what stands in it.
    """

    path: str
    text: str


def json_text(document: Document) -> str:
    """A JSON file as people read it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
