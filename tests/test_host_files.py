"""What registries and hosts read: it says what the code says, keeps to each format's rules, and never holds a key."""

import base64
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from jsonschema import Draft7Validator

from rotoscope.cli.docs import generated_pages
from rotoscope.cli.host_files.facts import NO_OWNER, ProjectFacts, read_facts
from rotoscope.cli.host_files.icon import ICON_PATHS, draw_icon
from rotoscope.cli.host_files.launch import NEWEST
from rotoscope.cli.host_files.links import InstallLink, make_install_links
from rotoscope.cli.host_files.writing import is_same_picture, make_host_files, make_release_entry
from rotoscope.contracts.tools import TOOLS
from rotoscope.environment import SETTINGS
from rotoscope.errors import InvalidInput
from rotoscope.models.catalog import manifest_folder, read_providers
from rotoscope.server.prompts import PROMPTS

TOP = Path(__file__).parents[1]
MANIFESTS = TOP / "manifests"
FACTS = read_facts(TOP)
TEXTS = {file.path: file.text for file in make_host_files(FACTS)}
LINKS = make_install_links(FACTS.keys)
PROVIDERS = read_providers(manifest_folder() / "providers.toml").values()
KEYS = {provider.key_variables[0] for provider in PROVIDERS}
REFERENCE = re.compile(r"\$\w+|\$\{(env:|input:|user_config\.)?[\w-]+(:-)?\}")
ALLOWED_TOP = {"$schema", "name", "title", "description", "version", "websiteUrl", "repository", "icons", "packages",
               "remotes", "_meta"}  # fmt: skip


def load(path: str) -> dict[str, Any]:
    text = (MANIFESTS / path).read_text(encoding="utf-8")
    return tomllib.loads(text) if path.endswith(".toml") else json.loads(text)


def entries() -> Mapping[str, Mapping[str, Any]]:
    """The entry that starts the server, of every file and link that has one."""
    return {
        "claude-plugin": load("claude-plugin/.mcp.json")["mcpServers"]["rotoscope"],
        "gemini-extension": load("gemini-extension/gemini-extension.json")["mcpServers"]["rotoscope"],
        "mcpb": load("mcpb/manifest.json")["server"]["mcp_config"],
        "codex": load("codex/config.toml")["mcp_servers"]["rotoscope"],
        "cursor": load("cursor/mcp.json")["mcpServers"]["rotoscope"],
        "vscode": load("vscode/mcp.json")["servers"]["rotoscope"],
        "lm studio": read_base64_link(link_of("LM Studio").direct),
    }


def link_of(client: str) -> InstallLink:
    return next(link for link in LINKS if link.client == client)


def read_base64_link(url: str) -> dict[str, Any]:
    query = parse_qs(urlsplit(url).query, strict_parsing=True)
    assert query["name"] == ["rotoscope"]
    return json.loads(base64.b64decode(query["config"][0], validate=True))  # type: ignore[no-any-return]


def test_every_file_is_as_the_code_says() -> None:
    outdated = [path for path, text in TEXTS.items() if (MANIFESTS / path).read_text(encoding="utf-8") != text]
    assert not outdated, "run `make manifests`"
    for path in ICON_PATHS:
        assert is_same_picture(MANIFESTS / path, draw_icon())


def test_the_links_and_commands_on_the_pages_are_as_the_code_says() -> None:
    pages = generated_pages(TOP)
    for page in (TOP / "README.md", TOP / "docs" / "clients.md", TOP / "docs" / "install.md"):
        assert page.read_text(encoding="utf-8") == pages[page], "run `make docs`"
    for link in LINKS:
        assert link.web in pages[TOP / "README.md"]
        assert link.direct in pages[TOP / "docs" / "clients.md"]


def test_an_icon_that_shows_something_else_is_noticed(tmp_path: Path) -> None:
    other = draw_icon().rotate(90)
    other.save(tmp_path / "icon.png")
    assert not is_same_picture(tmp_path / "icon.png", draw_icon())
    assert not is_same_picture(tmp_path / "none.png", draw_icon())


def test_the_version_is_the_same_everywhere() -> None:
    version = FACTS.version
    server = load("server.json")
    named = [server["version"], *(package["version"] for package in server["packages"])]
    named += [load(path)["version"] for path in ("mcpb/manifest.json", "gemini-extension/gemini-extension.json")]
    named += [
        load("claude-plugin/.claude-plugin/plugin.json")["version"],
        load("mcpb/pyproject.toml")["project"]["version"],
    ]
    marketplace = json.loads(published_texts()["marketplace.json"])
    for document in (marketplace, load("claude-plugin/.claude-plugin/marketplace.json")):
        named += [plugin["version"] for plugin in document["plugins"]]
    assert set(named) == {version}
    assert load("mcpb/pyproject.toml")["project"]["dependencies"] == [f"rotoscope=={version}"]
    assert marketplace["plugins"][0]["source"]["ref"] == f"v{version}"


def test_tools_and_prompts_are_those_of_the_server() -> None:
    bundle = load("mcpb/manifest.json")
    assert {tool["name"]: tool["description"] for tool in bundle["tools"]} == {
        name: contract.description for name, contract in TOOLS.items()
    }
    assert [prompt["name"] for prompt in bundle["prompts"]] == [function.__name__ for _, function in PROMPTS]
    for prompt in bundle["prompts"]:
        assert set(re.findall(r"\$\{arguments\.(\w+)\}", prompt["text"])) == set(prompt["arguments"])
    for path in ("claude-plugin/README.md", "gemini-extension/GEMINI.md"):
        named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", TEXTS[path])) - {"dry_run"}
        assert named
        assert named <= set(TOOLS)


def test_every_variable_that_is_named_exists() -> None:
    known = {setting.name for setting in SETTINGS} | KEYS | {provider.base_variable for provider in PROVIDERS}
    for text in TEXTS.values():
        named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*_(?:KEY|TOKEN|URL|HOME|ROOTS|USD[A-Z_]*)\b", text))
        assert named <= known
    assert {one["name"] for one in load("server.json")["packages"][0]["environmentVariables"]} >= KEYS


def test_every_key_is_a_secret_and_stands_nowhere() -> None:
    listed = {one["name"]: one for one in load("server.json")["packages"][0]["environmentVariables"]}
    assert all(listed[name]["isSecret"] and "default" not in listed[name] for name in KEYS)
    form = load("mcpb/manifest.json")
    for name in KEYS:
        question = form["user_config"][name.lower()]
        assert question["sensitive"]
        assert question["default"] == ""
    assert all(one["password"] for one in load("vscode/mcp.json")["inputs"])
    assert all(one["sensitive"] for one in load("gemini-extension/gemini-extension.json")["settings"])


@pytest.mark.parametrize("client", entries())
def test_an_entry_passes_keys_on_by_name_alone(client: str) -> None:
    entry = entries()[client]
    for name, value in entry.get("env", {}).items():
        assert REFERENCE.fullmatch(value), f"{name}: {value}"
    passed = set(entry.get("env", {})) | set(entry.get("env_vars", ()))
    if client != "lm studio":  # which fills nothing in
        assert {"REPLICATE_API_TOKEN", "FAL_KEY", "SEGMIND_API_KEY"} <= passed


def test_no_value_of_the_environment_reaches_a_file_or_link(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "r8_a-real-looking-key")
    facts = read_facts(TOP)
    assert {file.path: file.text for file in make_host_files(facts)} == TEXTS
    assert make_install_links(facts.keys) == LINKS


def test_what_a_form_offers_is_accepted_and_means_what_is_so_without_it() -> None:
    settings = {setting.name: setting for setting in SETTINGS}
    offered = [variable for variable in FACTS.settings if variable.default is not None]
    assert len(offered) > 5
    for variable in offered:
        read, default = settings[variable.name].read, str(variable.default)
        assert read({variable.name: default}) in (read({}), float(default) if default == "0" else None), variable.name
        for choice in variable.choices:
            read({variable.name: choice})


@pytest.mark.parametrize("client", ["Cursor", "LM Studio"])
def test_both_links_of_a_client_hold_the_same_entry(client: str) -> None:
    link = link_of(client)
    entry = read_base64_link(link.direct)
    assert entry == read_base64_link(link.web)
    if client == "Cursor":
        assert entry == load("cursor/mcp.json")["mcpServers"]["rotoscope"]
    assert [entry["command"], *entry["args"]] == [NEWEST.command, *NEWEST.arguments]


@pytest.mark.parametrize(
    ("client", "scheme", "quality"),
    [("VS Code", "vscode", None), ("VS Code Insiders", "vscode-insiders", ["insiders"])],
)
def test_the_links_of_vs_code_hold_its_file(client: str, scheme: str, quality: list[str] | None) -> None:
    link, file = link_of(client), load("vscode/mcp.json")
    opened, _, whole = link.direct.partition("?")
    assert opened == f"{scheme}:mcp/install"
    assert json.loads(unquote(whole)) == {"name": "rotoscope", **file["servers"]["rotoscope"], "inputs": file["inputs"]}
    query = parse_qs(urlsplit(link.web).query, strict_parsing=True)
    assert query["name"] == ["rotoscope"]
    assert json.loads(query["config"][0]) == file["servers"]["rotoscope"]
    assert json.loads(query["inputs"][0]) == file["inputs"]
    assert query.get("quality") == quality


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.client)
def test_a_link_survives_a_page_and_a_browser(link: InstallLink) -> None:
    for url in (link.web, link.direct):
        assert re.fullmatch(r"[!-~]+", url)
        assert not set(url) & set(" \"'<>()[]{}|\\^`")
        assert len(url) < 2000
    assert link.web.startswith("https://")


def test_every_input_of_vs_code_is_used() -> None:
    file = load("vscode/mcp.json")
    used = re.findall(r"\$\{input:([\w-]+)\}", json.dumps(file["servers"]))
    assert used == [one["id"] for one in file["inputs"]]


def schema() -> Draft7Validator:
    """The registry's own schema, as the linter carries it."""
    named = load("server.json")["$schema"]
    folder = files("skillsaw") / "schemas" / "mcp_registry" / "v2025_12_11" / "server.schema.json"
    document = json.loads(folder.read_text(encoding="utf-8"))
    assert document["$id"] == named
    return Draft7Validator(document, format_checker=Draft7Validator.FORMAT_CHECKER)


def faults(document: Mapping[str, Any]) -> list[str]:
    """What the registry would refuse: by its schema, and by rules that the schema does not have."""
    found = [error.message for error in schema().iter_errors(document)]
    found += [f"unknown: {name}" for name in set(document) - ALLOWED_TOP]
    for package in document.get("packages", ()):
        if package.get("registryType") == "mcpb" and "fileSha256" not in package:
            found.append("a bundle without a checksum")
        if "registryBaseUrl" in package:
            found.append("a registry's address")
    for remote in document.get("remotes", ()):
        named = set(re.findall(r"\{(\w+)\}", remote["url"]))
        if named != set(remote.get("variables", {})):
            found.append("the address has other variables than those that are described")
    return found


def test_server_json_keeps_to_the_schema_of_the_registry() -> None:
    assert faults(load("server.json")) == faults(json.loads(published_texts()["server.json"])) == []
    name = load("server.json")["name"]
    assert f"<!-- mcp-name: {name} -->" in (TOP / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(description="a" * 101),
        lambda document: document.update(name="rotoscope"),
        lambda document: document.update(licence="MIT"),
        lambda document: document["packages"][0].pop("transport"),
        lambda document: document["packages"][0].update(version="latest"),
        lambda document: document["packages"][0]["environmentVariables"][0].update(default=5),
        lambda document: document["packages"].append({**document["packages"][0], "registryType": "mcpb"}),
        lambda document: document["remotes"][0].pop("variables"),
        lambda document: document["icons"][0].update(mimeType="text/html"),
    ],
)
def test_a_wrong_server_json_would_be_noticed(change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(published_texts()["server.json"])
    change(document)
    assert faults(document)


@pytest.mark.slow
def test_the_linter_of_manifests_finds_nothing(tmp_path: Path) -> None:
    def lint() -> int:
        command = [sys.executable, "-m", "skillsaw", "lint", "--strict", str(tmp_path)]
        return subprocess.run(command, capture_output=True, check=False, timeout=60, cwd=tmp_path).returncode

    (tmp_path / "server.json").write_text(TEXTS["server.json"], encoding="utf-8")
    assert lint() == 0
    (tmp_path / "server.json").write_text(TEXTS["server.json"].replace('"stdio"', '"pipe"'), encoding="utf-8")
    assert lint() != 0


def published() -> ProjectFacts:
    return replace(FACTS, owner="somebody")


def published_texts() -> dict[str, str]:
    return {file.path: file.text for file in make_host_files(published())}


def test_nothing_links_to_an_account_before_there_is_one() -> None:
    unowned = {file.path: file.text for file in make_host_files(replace(FACTS, owner=NO_OWNER))}
    document = json.loads(unowned["server.json"])
    assert faults(document) == []
    # The schema wants a name; a release, which alone is sent to the registry, is refused without an owner.
    assert document.pop("name") == f"io.github.{NO_OWNER}/rotoscope"
    assert NO_OWNER not in json.dumps({**unowned, "server.json": document})
    linked = [path for path, text in published_texts().items() if re.search(r"\bsomebody/rotoscope\b", text)]
    assert set(linked) == {"server.json", "mcpb/manifest.json", "marketplace.json", "claude-plugin/README.md",
                           "claude-plugin/.claude-plugin/plugin.json"}  # fmt: skip


def test_a_release_offers_its_bundle_with_the_checksum_of_that_file(tmp_path: Path) -> None:
    bundle = tmp_path / "rotoscope.mcpb"
    bundle.write_bytes(b"packed")
    document = json.loads(make_release_entry(published(), bundle))
    assert faults(document) == []
    package, packed = document["packages"]
    assert packed["fileSha256"] == hashlib.sha256(b"packed").hexdigest()
    assert packed["identifier"].startswith("https://github.com/somebody/rotoscope/releases/download/v")
    assert package == load("server.json")["packages"][0]


def test_a_release_has_an_owner_and_no_placeholder(tmp_path: Path) -> None:
    (tmp_path / "rotoscope.mcpb").write_bytes(b"packed")
    with pytest.raises(InvalidInput, match="account that publishes"):
        make_release_entry(replace(FACTS, owner=NO_OWNER), tmp_path / "rotoscope.mcpb")
    released = [file.text for file in make_host_files(published())]
    assert not [text for text in released if re.search(rf"\b{NO_OWNER}\b|\bexample\.com\b|github\.com/example\b", text)]


def test_no_file_has_a_path_of_this_machine() -> None:
    for path, text in TEXTS.items():
        assert not re.search(r"(?<![\w:/.~])/(home|root|Users|tmp|work|usr)/", text), path


def test_a_plugin_needs_no_skills_and_takes_those_that_are_there() -> None:
    plugin = load("claude-plugin/.claude-plugin/plugin.json")
    assert "skills" not in plugin  # Claude Code finds the folder by itself
    for skill in (MANIFESTS / "claude-plugin" / "skills").glob("*/"):
        text = (skill / "SKILL.md").read_text(encoding="utf-8")
        assert re.match(rf"---\n(.*\n)*name: {skill.name}\n(.*\n)*---\n", text)
