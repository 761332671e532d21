"""The parts of README.md, docs/clients.md and docs/install.md that say how and where a client is added."""

from collections.abc import Mapping

from rotoscope.cli.clients.entries import plain_entry
from rotoscope.cli.clients.surroundings import Surroundings
from rotoscope.cli.clients.table import CLIENTS, config_file
from rotoscope.cli.host_files.claude_plugin import marketplace_address
from rotoscope.cli.host_files.facts import read_facts
from rotoscope.cli.host_files.launch import NEWEST, PACKAGE
from rotoscope.cli.host_files.links import InstallLink, make_install_links
from rotoscope.cli.host_files.registry import server_name
from rotoscope.cli.host_files.snippets import codex_table
from rotoscope.cli.host_files.texts import json_text

__all__ = ["client_parts"]

_WINDOWS = Surroundings("win32", "%USERPROFILE%", {"APPDATA": "%APPDATA%"})
_COMMAND = f"{NEWEST.command} {' '.join(NEWEST.arguments)}"
_ADD = {
    "Claude Code": f"claude mcp add {PACKAGE} -- {_COMMAND}",
    "Codex": f"codex mcp add {PACKAGE} -- {_COMMAND}",
    "Gemini CLI": f"gemini mcp add --scope user {PACKAGE} {_COMMAND}",
}


def client_parts() -> Mapping[str, str]:
    """The generated parts by the names of their markers."""
    facts = read_facts()
    links = {link.client: link for link in make_install_links(facts.keys)}
    plugin = f"/plugin install {PACKAGE} --marketplace {marketplace_address(facts)}"
    return {
        "registry name": f"<!-- mcp-name: {server_name(facts)} -->",
        "clients": _one_step_table(links),
        **{f"{client} link": _link_lines(link) for client, link in links.items()},
        "Claude Code command": _fenced("sh", _ADD["Claude Code"]),
        "Claude Code plugin": _fenced("text", plugin),
        "Codex command": _fenced("sh", _ADD["Codex"]),
        "Codex entry": _fenced("toml", codex_table(facts.keys).rstrip()),
        "Gemini command": _fenced("sh", _ADD["Gemini CLI"]),
        "places": _places_table(),
        "plain entry": _fenced("json", json_text({"mcpServers": {PACKAGE: plain_entry(NEWEST)}}).rstrip()),
    }


def _one_step_table(links: Mapping[str, InstallLink]) -> str:
    """The table of the README: commands to paste, and links that a page on the web shows as such."""
    shown = {client: f"[Add to {client}]({link.web})" for client, link in links.items()}
    rows = {
        **{client: f"`{command}`" for client, command in _ADD.items()},
        "Claude Desktop": "open `rotoscope.mcpb`: a release has it, `make mcpb` makes it",
        "Cursor": shown["Cursor"],
        "LM Studio": shown["LM Studio"],
        "VS Code": f"{shown['VS Code']} · {shown['VS Code Insiders']}",
    }
    lines = [f"| {client} | {rows[client]} |" for client in sorted(rows)]
    return "\n".join(["| client | one step |", "| --- | --- |", *lines])


def _places_table() -> str:
    """The table of docs/install.md: where the configuration of each client is."""
    systems = (Surroundings("darwin", "~", {}), Surroundings("linux", "~", {}), _WINDOWS)
    lines = ["| client | macOS | Linux | Windows | with `--project` |", "| --- | --- | --- | --- | --- |"]
    for client in CLIENTS.values():
        files = [str(config_file(client, around)) for around in systems]
        project = f"`{client.project_file}`" if client.project_file else "-"
        lines.append(f"| `{client.name}` | {' | '.join(f'`{file}`' for file in files)} | {project} |")
    return "\n".join(lines)


def _link_lines(link: InstallLink) -> str:
    words = "or open this with the client on your machine"
    return f"[Add to {link.client}]({link.web}), {words}:\n\n{_fenced('text', link.direct)}"


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
