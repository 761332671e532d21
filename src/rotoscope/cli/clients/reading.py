"""What a client's configuration says: the servers in it, and what keeps the client itself from reading it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rotoscope.cli.clients.files import ConfigFile
from rotoscope.cli.clients.jsonc import Oddity, find_oddities
from rotoscope.cli.clients.table import Client

__all__ = ["ListedServer", "Obstacle", "find_unreadable_part", "list_servers"]

_MAX_SERVERS = 500  # of one table
_EVERY_KEY = "*"
_REMEDIES: Mapping[Oddity, str] = {
    "byte order mark": "Save it as UTF-8 without that mark.",
    "comment": "Take its comments out.",
    "trailing comma": "Take out the commas before closing brackets.",
}


@dataclass(frozen=True, slots=True)
class ListedServer:
    """A server as it stands in a file.

    Attributes:
        name: of its entry.
        entry: what is said of it; empty where that is no table.
        is_in_container: whether it stands where `rotoscope install` writes.
    """

    name: str
    entry: Mapping[str, object]
    is_in_container: bool


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a client does not read a file that we can read.

    Attributes:
        words: what there is, and in which line.
        remedy: what to do, as a sentence.
    """

    words: str
    remedy: str


def list_servers(client: Client, text: str) -> Iterator[ListedServer]:
    """The servers that a text names, in every place where the client looks for them.

    Raises:
        EditRefused: it is not of the client's format.
    """
    data = client.form.read(text)
    for path in ((client.container,), *client.other_tables):
        for table in _tables_at(data, path):
            for name, entry in list(table.items())[:_MAX_SERVERS]:
                fields: Mapping[str, object] = entry if isinstance(entry, Mapping) else {}
                yield ListedServer(str(name), fields, path == (client.container,))


def find_unreadable_part(client: Client, file: ConfigFile, text: str) -> Obstacle | None:
    """What makes a file unreadable for its client, where we know of such a thing.

    Args:
        client: whose file it is.
        file: as it was read.
        text: what stands in it, or is to.
    """
    found: dict[Oddity, str] = {}
    if file.mark:
        found["byte order mark"] = "a byte order mark at its beginning"
    if client.refuses and not _is_plain_json(text):
        lines = find_oddities(text)
        found |= {oddity: f"a {oddity} in line {line}" for oddity, line in lines.items()}
    refused = next((oddity for oddity in found if oddity in client.refuses), None)
    return None if refused is None else Obstacle(found[refused], _REMEDIES[refused])


def _tables_at(data: object, path: tuple[str, ...]) -> Iterator[Mapping[str, object]]:
    if not isinstance(data, Mapping):
        return
    if not path:
        yield data
        return
    inner = list(data.values()) if path[0] == _EVERY_KEY else [data.get(path[0])]
    for one in inner:
        yield from _tables_at(one, path[1:])


def _is_plain_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
