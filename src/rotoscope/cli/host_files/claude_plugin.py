"""claude-plugin/: the plugin of Claude Code, and the marketplace file that offers it.

Skills are added by their folder, `skills/NAME/SKILL.md`: Claude Code finds them, and nothing here names them.
"""

from rotoscope.cli.clients.entries import plain_entry
from rotoscope.cli.host_files.facts import ProjectFacts
from rotoscope.cli.host_files.launch import PACKAGE, launch_of_version
from rotoscope.cli.host_files.texts import Document, HostFile, json_text

__all__ = ["make_plugin_files", "marketplace_address"]

_FOLDER = "claude-plugin"


def make_plugin_files(facts: ProjectFacts) -> tuple[HostFile, ...]:
    """The files of the plugin, but its icon and skills."""
    return (
        HostFile(f"{_FOLDER}/.claude-plugin/plugin.json", json_text(_plugin(facts))),
        HostFile(f"{_FOLDER}/.claude-plugin/marketplace.json", json_text(_marketplace(facts, "./"))),
        HostFile(f"{_FOLDER}/.mcp.json", json_text(_servers(facts))),
        HostFile(f"{_FOLDER}/README.md", _readme(facts)),
        *_published_marketplace(facts),
    )


def marketplace_address(facts: ProjectFacts) -> str:
    """Where Claude Code reads the marketplace file: the published one, else that of a checkout.

    An address at github.com it would clone as a whole.
    """
    if not facts.repository:
        return f"./manifests/{_FOLDER}"
    return f"https://raw.githubusercontent.com/{facts.owner}/{PACKAGE}/main/manifests/marketplace.json"


def _plugin(facts: ProjectFacts) -> Document:
    return {
        "name": PACKAGE,
        "version": facts.version,
        "description": facts.description,
        "author": {"name": facts.author},
        **({"homepage": facts.repository, "repository": facts.repository} if facts.repository else {}),
        "license": facts.licence,
        "keywords": list(facts.keywords),
        "network": {"hosts": list(facts.hosts)},
    }


def _published_marketplace(facts: ProjectFacts) -> tuple[HostFile, ...]:
    """The file that names the plugin in the repository; none where there is no repository to name."""
    if not facts.repository:
        return ()
    return (HostFile("marketplace.json", json_text(_marketplace(facts, _published_source(facts)))),)


def _published_source(facts: ProjectFacts) -> Document:
    """The plugin in the repository, of this version."""
    folder = f"manifests/{_FOLDER}"
    return {"source": "git-subdir", "url": f"{facts.repository}.git", "path": folder, "ref": f"v{facts.version}"}


def _marketplace(facts: ProjectFacts, source: str | Document) -> Document:
    """A marketplace of this one plugin.

    Args:
        facts: of the project.
        source: `./` in a checkout, the folder above `.claude-plugin`; else where to get the plugin.
    """
    return {
        "name": PACKAGE,
        "description": facts.description,
        "owner": {"name": facts.author},
        "plugins": [
            {
                "name": PACKAGE,
                "source": source,
                "description": facts.description,
                "version": facts.version,
                "category": "media",
            }
        ],
    }


def _servers(facts: ProjectFacts) -> Document:
    passed = {one.name: f"${{{one.name}:-}}" for one in facts.keys}
    return {"mcpServers": {PACKAGE: plain_entry(launch_of_version(facts.version).with_environment(passed))}}


def _readme(facts: ProjectFacts) -> str:
    keys = ", ".join(f"`{one.name}`" for one in facts.keys if one.is_secret and not one.needs_more)
    tools = "\n".join(f"- `{tool.name}`: {tool.description}" for tool in facts.tools)
    return f"""# rotoscope

{facts.description}

Install it with one line{"" if facts.repository else ", from a checkout of the project"}:

```
/plugin install rotoscope --marketplace {marketplace_address(facts)}
```

It needs `uvx` (which comes with uv) on the path, and no key: without one a built-in sandbox computes real results on
your machine. To use the hosted models, set one or more of {keys} in the
environment that Claude Code is started from. A run that costs more than 5 US dollars, or a day that costs more than 20,
is refused until you say otherwise; `dry_run: true` shows the price and spends nothing.

{tools}

Long work answers with a job id; `get_job` follows it, and a job is still there when the session has ended.
"""
