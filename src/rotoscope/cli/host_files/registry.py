"""server.json: the entry in the MCP registry, by its schema of 2025-12-11."""

from dataclasses import dataclass

from rotoscope.cli.host_files.facts import ProjectFacts, Variable
from rotoscope.cli.host_files.launch import NEWEST, PACKAGE
from rotoscope.cli.host_files.texts import Document, HostFile, json_text

__all__ = ["Bundle", "make_registry_file", "server_document", "server_name"]

_SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
_HOST_VARIABLE = "rotoscope_host"  # the registry takes an address once: a bare {host} would be anybody's


@dataclass(frozen=True, slots=True)
class Bundle:
    """A packed .mcpb as a release carries it.

    Attributes:
        url: where it is downloaded.
        sha256: of exactly that file, in lower-case hex digits.
    """

    url: str
    sha256: str


def make_registry_file(facts: ProjectFacts) -> HostFile:
    """manifests/server.json, without a bundle: a checksum belongs to one packed file."""
    return HostFile("server.json", json_text(server_document(facts)))


def server_name(facts: ProjectFacts) -> str:
    """The name in the registry; the README repeats it, which proves that the package is ours."""
    return f"io.github.{facts.owner}/{PACKAGE}"


def server_document(facts: ProjectFacts, bundle: Bundle | None = None) -> Document:
    """The whole entry.

    Args:
        facts: of the project.
        bundle: the packed bundle of a release, offered beside the package.
    """
    return {
        "$schema": _SCHEMA,
        "name": server_name(facts),
        "title": PACKAGE,
        "description": facts.description,
        "version": facts.version,
        **_links(facts),
        "packages": [_package(facts), *([_bundle_package(facts, bundle)] if bundle else [])],
        "remotes": [_remote()],
    }


def _links(facts: ProjectFacts) -> Document:
    """Where the project is; nothing until that is known. The name cannot be left out: the schema wants it."""
    if not facts.repository:
        return {}
    icon = f"{facts.repository}/raw/v{facts.version}/manifests/mcpb/icon.png"
    return {
        "websiteUrl": f"{facts.repository}#readme",
        "repository": {"url": facts.repository, "source": "github"},
        "icons": [{"src": icon, "mimeType": "image/png", "sizes": ["512x512"]}],
    }


def _package(facts: ProjectFacts) -> Document:
    return {
        "registryType": "pypi",
        "identifier": PACKAGE,
        "version": facts.version,
        "runtimeHint": NEWEST.command,
        "transport": {"type": "stdio"},
        "packageArguments": [{"type": "positional", "value": one} for one in NEWEST.arguments[1:]],
        "environmentVariables": [_input(one) for one in (*facts.keys, *facts.settings)],
    }


def _bundle_package(facts: ProjectFacts, bundle: Bundle) -> Document:
    return {
        "registryType": "mcpb",
        "identifier": bundle.url,
        "version": facts.version,
        "fileSha256": bundle.sha256,
        "transport": {"type": "stdio"},
    }


def _input(variable: Variable) -> Document:
    entry: dict[str, object] = {
        "name": variable.name,
        "description": variable.meaning,
        "isRequired": False,
        "isSecret": variable.is_secret,
        "format": variable.format,
    }
    if variable.default is not None:
        entry["default"] = variable.default
    if variable.choices:
        entry["choices"] = list(variable.choices)
    return entry


def _remote() -> Document:
    """A server of one's own: there is none of ours. With `people` or an identity provider no header is needed."""
    return {
        "type": "streamable-http",
        "url": f"https://{{{_HOST_VARIABLE}}}/mcp",
        "variables": {
            _HOST_VARIABLE: {
                "description": "Host name of your own rotoscope server (docs/self-hosting.md).",
                "isRequired": True,
                "placeholder": "rotoscope.example",
            }
        },
        "headers": [
            {
                "name": "Authorization",
                "description": "Bearer TOKEN, where the server gives out tokens; empty where it has a sign-in page.",
                "isRequired": False,
                "isSecret": True,
            }
        ],
    }
