"""mcpb/: the bundle that Claude Desktop installs by a double click, by its format 0.4 with a server of type uv.

The bundle holds no packages: uv installs the published one of its version at the first start.
"""

from collections.abc import Mapping

from rotoscope.cli.host_files.facts import ProjectFacts, Prompt, Variable
from rotoscope.cli.host_files.launch import PACKAGE
from rotoscope.cli.host_files.texts import Document, HostFile, json_text

__all__ = ["make_bundle_files"]

_ENTRY_POINT = "server/main.py"
_MAIN = '''"""Starts rotoscope from the bundle; uv has installed it, as pyproject.toml says."""

import sys

from rotoscope.__main__ import main

if __name__ == "__main__":
    sys.argv[1:] = ["serve"]
    raise SystemExit(main())
'''
_IGNORED = ".venv/\nuv.lock\n__pycache__/\n"
# What a person decides in the form; every other setting stays as it is.
_ASKED_SETTINGS = ("ROTOSCOPE_HOME", "ROTOSCOPE_MAX_USD_PER_CALL", "ROTOSCOPE_MAX_USD_PER_DAY")


def make_bundle_files(facts: ProjectFacts) -> tuple[HostFile, ...]:
    """The files that are packed, but the icon, and the list of those that never are."""
    return (
        HostFile("mcpb/manifest.json", json_text(_manifest(facts))),
        HostFile("mcpb/pyproject.toml", _project(facts)),
        HostFile(f"mcpb/{_ENTRY_POINT}", _MAIN),
        HostFile("mcpb/.mcpbignore", _IGNORED),
    )


def _manifest(facts: ProjectFacts) -> Document:
    asked = (*facts.keys, *(one for one in facts.settings if one.name in _ASKED_SETTINGS))
    return {
        "manifest_version": "0.4",
        "name": PACKAGE,
        "display_name": PACKAGE,
        "version": facts.version,
        "description": facts.description,
        "long_description": (
            "Works without a key: a built-in sandbox computes real results on this machine. With a key of Replicate, "
            "fal or Segmind the hosted models answer. Every run has a price cap, and none is paid for twice."
        ),
        **_links(facts),
        "icon": "icon.png",
        "license": facts.licence,
        "keywords": list(facts.keywords),
        "server": _server(asked),
        "tools": [{"name": tool.name, "description": tool.description} for tool in facts.tools],
        "prompts": [_prompt(prompt) for prompt in facts.prompts],
        "compatibility": {"platforms": ["darwin", "linux", "win32"], "runtimes": {"python": ">=3.11"}},
        "user_config": {_config_name(one): _question(one) for one in asked},
    }


def _links(facts: ProjectFacts) -> Document:
    """Who made it, and where more of it is."""
    if not facts.repository:
        return {"author": {"name": facts.author}}
    return {
        "author": {"name": facts.author, "url": facts.repository},
        "repository": {"type": "git", "url": facts.repository},
        "homepage": facts.repository,
        "documentation": f"{facts.repository}/blob/v{facts.version}/docs/clients.md",
        "support": f"{facts.repository}/issues",
    }


def _server(asked: tuple[Variable, ...]) -> Document:
    values: Mapping[str, str] = {one.name: f"${{user_config.{_config_name(one)}}}" for one in asked}
    return {
        "type": "uv",
        "entry_point": _ENTRY_POINT,
        "mcp_config": {
            "command": "uv",
            "args": ["run", "--directory", "${__dirname}", _ENTRY_POINT],
            "env": dict(values),
        },
    }


def _config_name(variable: Variable) -> str:
    return variable.name.removeprefix("ROTOSCOPE_").lower()


def _question(variable: Variable) -> Document:
    question: dict[str, object] = {
        "type": "directory" if variable.format == "filepath" else "string",
        "title": variable.title,
        "description": variable.meaning,
        "required": False,
        # Without a default some hosts pass the name of the setting on instead of its value.
        "default": variable.default or "",
    }
    return {**question, "sensitive": True} if variable.is_secret else question


def _prompt(prompt: Prompt) -> Document:
    """A prompt with the arguments that it needs; the server itself offers those that it may have besides."""
    return {
        "name": prompt.name,
        "description": prompt.description,
        "arguments": list(prompt.arguments),
        "text": prompt.function(**{name: f"${{arguments.{name}}}" for name in prompt.arguments}),
    }


def _project(facts: ProjectFacts) -> str:
    return f"""[project]
name = "{PACKAGE}-bundle"
version = "{facts.version}"
requires-python = ">=3.11"
dependencies = ["{PACKAGE}=={facts.version}"]

[tool.uv]
package = false
"""
