"""codex/, cursor/ and vscode/: what a person puts into the configuration of a client, keys by name alone."""

import json
from collections.abc import Sequence

from rotoscope.cli.clients.entries import CALL_SECONDS, START_SECONDS, plain_entry, typed_entry
from rotoscope.cli.clients.table import CLIENTS
from rotoscope.cli.host_files.facts import ProjectFacts, Variable
from rotoscope.cli.host_files.launch import NEWEST, PACKAGE
from rotoscope.cli.host_files.texts import Document, HostFile, json_text

__all__ = ["codex_table", "cursor_entry", "make_snippet_files", "vscode_entry", "vscode_inputs"]


def make_snippet_files(facts: ProjectFacts) -> tuple[HostFile, ...]:
    """One snippet a client."""
    return (
        HostFile("codex/config.toml", codex_table(facts.keys)),
        HostFile("cursor/mcp.json", json_text({CLIENTS["cursor"].container: {PACKAGE: cursor_entry(facts.keys)}})),
        HostFile("vscode/mcp.json", json_text(_vscode_file(facts.keys))),
    )


def codex_table(keys: Sequence[Variable]) -> str:
    """The table of Codex's config.toml."""
    names = "".join(f"    {json.dumps(one.name)},\n" for one in keys)
    return f"""# A part of ~/.codex/config.toml.
[{CLIENTS["codex"].container}.{PACKAGE}]
command = {json.dumps(NEWEST.command)}
args = {json.dumps(list(NEWEST.arguments))}
# Passed on by name from the environment that Codex is started in.
env_vars = [
{names}]
# The first start may install the package.
startup_timeout_sec = {START_SECONDS}
tool_timeout_sec = {CALL_SECONDS}
# Else the first turn may begin without the tools.
required = true
"""


def cursor_entry(keys: Sequence[Variable]) -> Document:
    """The entry of Cursor's mcp.json; it fills in the environment."""
    return plain_entry(NEWEST.with_environment({one.name: f"${{env:{one.name}}}" for one in keys}))


def vscode_entry(keys: Sequence[Variable]) -> Document:
    """The entry of VS Code's mcp.json; VS Code asks for each input once and keeps it in its secret store."""
    passed = {one.name: f"${{input:{_input_id(one)}}}" for one in _asked(keys)}
    return typed_entry(NEWEST.with_environment(passed))


def vscode_inputs(keys: Sequence[Variable]) -> list[Document]:
    """What VS Code asks for; an empty answer means that there is none."""
    return [
        {
            "type": "promptString",
            "id": _input_id(one),
            "description": f"{one.title} ({one.name}); leave it empty if you have none",
            "password": one.is_secret,
        }
        for one in _asked(keys)
    ]


def _vscode_file(keys: Sequence[Variable]) -> Document:
    return {"inputs": vscode_inputs(keys), CLIENTS["vscode"].container: {PACKAGE: vscode_entry(keys)}}


def _asked(keys: Sequence[Variable]) -> list[Variable]:
    """Every input is a question at the first start, so the usual ones alone; others reach the server by VS Code's own
    environment.
    """
    return [one for one in keys if not one.needs_more]


def _input_id(variable: Variable) -> str:
    return variable.name.lower().replace("_", "-")
