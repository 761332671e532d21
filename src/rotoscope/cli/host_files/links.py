"""Links that add rotoscope to a client by one click: the entry itself stands in the link, and never a key."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from rotoscope.cli.clients.entries import plain_entry
from rotoscope.cli.host_files.facts import Variable
from rotoscope.cli.host_files.launch import NEWEST, PACKAGE
from rotoscope.cli.host_files.snippets import cursor_entry, vscode_entry, vscode_inputs
from rotoscope.cli.host_files.texts import Document

__all__ = ["InstallLink", "make_install_links"]


@dataclass(frozen=True, slots=True)
class InstallLink:
    """A way into one client.

    Attributes:
        client: its name for people.
        web: a page that opens the client; GitHub and PyPI show no other links.
        direct: what the client itself is opened by.
    """

    client: str
    web: str
    direct: str


def make_install_links(keys: Sequence[Variable]) -> tuple[InstallLink, ...]:
    """The links of every client that takes one.

    Args:
        keys: the variables that the entry passes on by name.
    """
    cursor = {"name": PACKAGE, "config": _base64(cursor_entry(keys))}
    studio = {"name": PACKAGE, "config": _base64(plain_entry(NEWEST))}
    return (
        InstallLink(
            "Cursor",
            f"https://cursor.com/en-US/install-mcp?{_query(cursor)}",
            f"cursor://anysphere.cursor-deeplink/mcp/install?{_query(cursor)}",
        ),
        _vscode_link("VS Code", "vscode", "", keys),
        _vscode_link("VS Code Insiders", "vscode-insiders", "&quality=insiders", keys),
        InstallLink(
            "LM Studio",
            f"https://lmstudio.ai/install-mcp?{_query(studio)}",
            f"lmstudio://add_mcp?{_query(studio)}",
        ),
    )


def _vscode_link(client: str, scheme: str, quality: str, keys: Sequence[Variable]) -> InstallLink:
    entry, inputs = vscode_entry(keys), vscode_inputs(keys)
    parts = {"name": PACKAGE, "inputs": _compact(inputs), "config": _compact(entry)}
    whole: Document = {"name": PACKAGE, **entry, "inputs": inputs}
    return InstallLink(
        client,
        f"https://insiders.vscode.dev/redirect/mcp/install?{_query(parts)}{quality}",
        f"{scheme}:mcp/install?{quote(_compact(whole), safe='')}",
    )


def _query(parts: dict[str, str]) -> str:
    return urlencode(parts, quote_via=quote, safe="")


def _base64(document: Document) -> str:
    return base64.b64encode(_compact(document).encode()).decode()


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
