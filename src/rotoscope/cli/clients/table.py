"""The assistants that we can be registered with: their files, and the form of an entry in each.

Facts are of the clients' own documentation; where a file is on each system follows from the platform, the home
directory and the environment alone. What a client refuses was seen with Claude Code 2.1.197 and Gemini CLI 0.61.0.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from rotoscope.cli.clients.edits import Entry, Format
from rotoscope.cli.clients.entries import (
    CALL_SECONDS,
    Launch,
    codex_entry,
    gemini_entry,
    goose_entry,
    goose_url_entry,
    plain_entry,
    typed_entry,
    zed_entry,
)
from rotoscope.cli.clients.jsonc import JSONC, Oddity
from rotoscope.cli.clients.surroundings import Surroundings
from rotoscope.cli.clients.toml_text import TOML
from rotoscope.cli.clients.yaml_text import YAML_FORMAT
from rotoscope.errors import InvalidInput

__all__ = ["CLIENTS", "Client", "config_file", "config_files", "find_client", "install_marks"]


@dataclass(frozen=True, slots=True)
class Client:
    """One assistant.

    Attributes:
        name: as it is typed.
        title: as people call it.
        file: where its configuration is.
        container: the top-level table of servers in it.
        form: the format of that file.
        start_entry: the entry of a server that is started.
        url_entry: the entry of a server that is reached over HTTP; None where the file has none.
        next_step: what to do afterwards, as a sentence.
        project_file: the file of one project, below its folder; "" where there is none.
        no_url_reason: where a server over HTTP is entered instead, as a sentence.
        mark: what is there where the client is installed, beside the folder of its file.
        other_files: what its other editions and earlier versions have in place of the file; they are only read.
        other_tables: where else in a file servers may stand, as keys; `*` is every key. They are only read.
        is_graphical: it is started from a desktop, so its search path for commands is not the terminal's.
        refuses: what of JSON as editors write it makes the file unreadable for the client.
    """

    name: str
    title: str
    file: Callable[[Surroundings], PurePath]
    container: str
    form: Format
    start_entry: Callable[[Launch], Entry]
    url_entry: Callable[[str], Entry] | None
    next_step: str
    project_file: str = ""
    no_url_reason: str = ""
    mark: Callable[[Surroundings], PurePath] | None = None
    other_files: Callable[[Surroundings], tuple[PurePath, ...]] = lambda _: ()
    other_tables: tuple[tuple[str, ...], ...] = ()
    is_graphical: bool = True
    refuses: frozenset[Oddity] = frozenset()


def find_client(name: str) -> Client:
    """The client of a name.

    Raises:
        InvalidInput: there is none; the hint has the nearest name.
    """
    client = CLIENTS.get(name.lower())
    if client is not None:
        return client
    near = difflib.get_close_matches(name.lower(), CLIENTS, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise InvalidInput(f"There is no client {name[:80]!r} here.", hint=f"{hint}Clients: {', '.join(CLIENTS)}.")


def config_file(client: Client, around: Surroundings) -> PurePath:
    """Where the configuration of a client is."""
    return client.file(around)


def config_files(client: Client, around: Surroundings) -> tuple[PurePath, ...]:
    """Every place where a configuration of a client may be, the usual one first."""
    return (client.file(around), *client.other_files(around))


def install_marks(client: Client, around: Surroundings) -> tuple[PurePath, ...]:
    """The places of which one is there where the client is installed."""
    file = client.file(around)
    return (file, file.parent) if client.mark is None else (file, client.mark(around))


def _other_vs_code_files(around: Surroundings) -> tuple[PurePath, ...]:
    return tuple(around.app_data / edition / "User" / "mcp.json" for edition in ("Code - Insiders", "VSCodium"))


def _goose_file(around: Surroundings) -> PurePath:
    if around.platform == "win32":
        return around.app_data / "Block" / "goose" / "config" / "config.yaml"
    return around.dot_config / "goose" / "config.yaml"


def _zed_file(around: Surroundings) -> PurePath:
    if around.platform == "win32":
        return around.app_data / "Zed" / "settings.json"
    return around.dot_config / "zed" / "settings.json"


_ALL = (
    Client(
        "claude-desktop",
        "Claude Desktop",
        lambda around: around.app_data / "Claude" / "claude_desktop_config.json",
        "mcpServers",
        JSONC,
        plain_entry,
        None,
        "Quit Claude Desktop and start it again.",
        no_url_reason="Claude Desktop's file takes no servers over HTTP: add the address in its Settings, under "
        "Connectors.",
    ),
    Client(
        "claude-code",
        "Claude Code",
        lambda around: around.folder("CLAUDE_CONFIG_DIR") / ".claude.json",
        "mcpServers",
        JSONC,
        typed_entry,
        lambda url: {"type": "http", "url": url},
        "Start Claude Code again; /mcp shows rotoscope.",
        ".mcp.json",
        mark=lambda around: around.folder("CLAUDE_CONFIG_DIR", ".claude"),
        other_tables=(("projects", "*", "mcpServers"),),
        is_graphical=False,
        refuses=frozenset({"comment", "trailing comma"}),  # and puts a file of its own in its place
    ),
    Client(
        "cursor",
        "Cursor",
        lambda around: around.below_home(".cursor", "mcp.json"),
        "mcpServers",
        JSONC,
        plain_entry,
        lambda url: {"url": url},
        "Start Cursor again, and switch rotoscope on in its settings under MCP.",
        ".cursor/mcp.json",
    ),
    Client(
        "vscode",
        "VS Code",
        lambda around: around.app_data / "Code" / "User" / "mcp.json",
        "servers",
        JSONC,
        typed_entry,
        lambda url: {"type": "http", "url": url},
        "Run `MCP: List Servers` in VS Code and start rotoscope.",
        ".vscode/mcp.json",
        other_files=_other_vs_code_files,
        other_tables=(("mcp", "servers"),),
    ),
    Client(
        "codex",
        "Codex",
        lambda around: around.folder("CODEX_HOME", ".codex") / "config.toml",
        "mcp_servers",
        TOML,
        codex_entry,
        lambda url: {"url": url, "tool_timeout_sec": CALL_SECONDS},
        "Start Codex again; /mcp shows rotoscope.",
        ".codex/config.toml",
        is_graphical=False,
    ),
    Client(
        "gemini-cli",
        "Gemini CLI",
        lambda around: around.below_home(".gemini", "settings.json"),
        "mcpServers",
        JSONC,
        gemini_entry,
        lambda url: {"httpUrl": url, "timeout": CALL_SECONDS * 1000},
        "Start Gemini CLI again; /mcp shows rotoscope.",
        ".gemini/settings.json",
        is_graphical=False,
        refuses=frozenset({"trailing comma", "byte order mark"}),
    ),
    Client(
        "goose",
        "Goose",
        _goose_file,
        "extensions",
        YAML_FORMAT,
        goose_entry,
        goose_url_entry,
        "Start a new session of Goose.",
    ),
    Client(
        "windsurf",
        "Windsurf",
        lambda around: around.below_home(".codeium", "windsurf", "mcp_config.json"),
        "mcpServers",
        JSONC,
        plain_entry,
        lambda url: {"serverUrl": url},
        "Refresh the list of MCP servers in Windsurf's Cascade panel.",
    ),
    Client(
        "zed",
        "Zed",
        _zed_file,
        "context_servers",
        JSONC,
        zed_entry,
        lambda url: {"url": url},
        "Zed reads it at once: see the Agent Panel's settings.",
        ".zed/settings.json",
    ),
    Client(
        "lm-studio",
        "LM Studio",
        lambda around: around.below_home(".lmstudio", "mcp.json"),
        "mcpServers",
        JSONC,
        plain_entry,
        lambda url: {"url": url},
        "Switch rotoscope on in LM Studio, in the Program tab.",
        other_files=lambda around: (around.below_home(".cache", "lm-studio", "mcp.json"),),
    ),
)
CLIENTS: Mapping[str, Client] = {client.name: client for client in _ALL}
"""Every client, by its name."""
