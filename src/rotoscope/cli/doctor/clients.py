"""Which MCP clients are on this machine, and whether their configuration starts rotoscope.

Files are only read; of what they hold, the command's name and the address of a server are kept, never its arguments
and its environment, which may hold keys.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rotoscope.cli.clients.edits import EditRefused
from rotoscope.cli.clients.entries import (
    OUR_NAME,
    is_entry_name,
    read_address,
    read_command,
    runs_rotoscope,
    starts_rotoscope,
)
from rotoscope.cli.clients.files import ConfigFile, read_config
from rotoscope.cli.clients.reading import ListedServer, Obstacle, find_unreadable_part, list_servers
from rotoscope.cli.clients.surroundings import Surroundings
from rotoscope.cli.clients.table import CLIENTS, Client, config_files, install_marks
from rotoscope.errors import RotoscopeError
from rotoscope.variables import variable_value

__all__ = ["FoundClient", "ServerEntry", "find_clients"]


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """An entry that starts or addresses rotoscope: its name in the file, and its command or its address.

    Attributes:
        name: in the file.
        command: the program; "" for a server over HTTP.
        url: its address, without user, query and fragment.
        is_replaceable: whether `rotoscope install` puts a new entry in its place.
    """

    name: str
    command: str = ""
    url: str = ""
    is_replaceable: bool = False


@dataclass(frozen=True, slots=True)
class FoundClient:
    """A client whose folder or file is on this machine.

    Attributes:
        client: what is known of it.
        file: the configuration that was read; the usual place where there is none yet.
        is_usual_file: whether `rotoscope install` writes there unasked.
        entries: those that are ours.
        fault: why the file cannot be read, as a sentence; empty where it can.
        obstacle: why the client itself does not read it, though we can.
    """

    client: Client
    file: Path
    is_usual_file: bool
    entries: tuple[ServerEntry, ...] = ()
    fault: str = ""
    obstacle: Obstacle | None = None


def find_clients(platform: str, home: Path, environ: Mapping[str, str]) -> tuple[FoundClient, ...]:
    """The clients that are here, with what their configuration says of us.

    Args:
        platform: as `sys.platform` has it.
        home: the user's home directory.
        environ: the environment: some clients let their folder be moved by a variable.
    """
    ours = (variable_value(environ, "ROTOSCOPE_PUBLIC_URL") or "").rstrip("/")
    around = Surroundings(platform, str(home), environ)
    return tuple(found for client in CLIENTS.values() if (found := _look_at(client, around, ours)) is not None)


def _look_at(client: Client, around: Surroundings, own_url: str) -> FoundClient | None:
    """Of several files of a client the one that has us, else one that cannot be read, else the first."""
    # Forward slashes are read on every system.
    usual, *others = (Path(one.as_posix()) for one in config_files(client, around))
    marks = [Path(one.as_posix()) for one in install_marks(client, around)]
    there = [usual] if any(map(_exists, marks)) else []
    there += [one for one in others if _exists(one.parent)]
    found = [_read(client, file, file == usual, own_url) for file in there]
    ranked = sorted(found, key=lambda one: (not one.entries, not one.fault))
    return ranked[0] if ranked else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _read(client: Client, path: Path, is_usual: bool, own_url: str) -> FoundClient:
    try:
        file = read_config(path)
        entries = tuple(_own_entries(list_servers(client, file.text), own_url))
    except RotoscopeError as error:
        return FoundClient(client, path, is_usual, fault=error.message)
    except EditRefused as refusal:
        return FoundClient(client, path, is_usual, fault=f"{path} {refusal}.")
    return FoundClient(client, path, is_usual, entries, obstacle=_obstacle_in(client, file))


def _obstacle_in(client: Client, file: ConfigFile) -> Obstacle | None:
    return None if not file.text.strip() else find_unreadable_part(client, file, file.text)


def _own_entries(servers: Iterable[ListedServer], own_url: str) -> Iterator[ServerEntry]:
    for server in servers:
        command, words = read_command(server.entry)
        url, is_named = read_address(server.entry), OUR_NAME in server.name.lower()
        if command:
            if is_named or runs_rotoscope(command, words):
                is_ours = server.is_in_container and is_entry_name(server.name) and starts_rotoscope(server.entry)
                yield ServerEntry(server.name, command, is_replaceable=is_ours)
        elif url and (is_named or OUR_NAME in url.lower() or (own_url and url.startswith(own_url))):
            yield ServerEntry(server.name, url=_plain_address(url))


def _plain_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{host}{port}{parts.path}"
