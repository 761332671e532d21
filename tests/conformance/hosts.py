"""Every file for a host is accepted by the host's own tool, and starts the server as it says.

    python tests/conformance/hosts.py [--only WORD]

The tools come through npm: Anthropic's packer of bundles, Claude Code, Gemini CLI and Codex, each with its own home.
A wheel of this checkout stands in for the published package, beside its dependencies; uv gets nothing from elsewhere.
Each entry is filled in as its client does it for a person who has set no key, and the server that it starts is asked by
the SDK's client in both eras. Exit codes as in `run.py`.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
from hatchling.builders.wheel import WheelBuilder
from mcp import Client, StdioServerParameters
from run import CANNOT, FAILED, OK, TOP, CannotRunError, environment, install
from snippets import picture

from clients import innermost
from rotoscope import __version__
from rotoscope.cli.host_files.claude_plugin import make_plugin_files
from rotoscope.cli.host_files.facts import read_facts
from rotoscope.cli.host_files.links import make_install_links
from rotoscope.contracts.tools import TOOLS

PACKAGES = {
    "@anthropic-ai/mcpb": "2.1.2",
    "@anthropic-ai/claude-code": "2.1.332",
    "@google/gemini-cli": "0.61.0",
    "@openai/codex": "0.171.0",
    "node": "24",
}
MANIFESTS = TOP / "manifests"
PUBLISHED = replace(read_facts(), owner="somebody")
SECONDS = 120
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
QUIET = {"CI": "true", "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
UNSET = ("REPLICATE_API_TOKEN", "FAL_KEY", "SEGMIND_API_KEY", "GATEWAY_API_KEY", "GATEWAY_BASE_URL")


@dataclass(frozen=True)
class Place:
    """Where a check runs.

    Attributes:
        folder: its own, and the home of the host's tool.
        house: the wheels.
    """

    folder: Path
    house: Path

    def environment(self) -> dict[str, str]:
        """Of a person who has uv and the host, and no key; uv finds the wheels and asks nobody."""
        found = {name: value for name, value in environment().items() if name not in UNSET}
        found["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{found['PATH']}"
        uv = {"UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(self.house), "UV_PYTHON": sys.executable}
        uv["UV_CACHE_DIR"] = str(self.house.parent / "uv")
        ours = {"ROTOSCOPE_HOME": str(self.folder / "rotoscope"), "ROTOSCOPE_INLINE_SECONDS": str(SECONDS)}
        return {**found, **QUIET, **uv, **ours, "HOME": str(self.folder)}

    def run(self, *command: str, **added: str) -> subprocess.CompletedProcess[str]:
        """Run a host's tool."""
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS, cwd=self.folder,
            stdin=subprocess.DEVNULL, env={**self.environment(), **added},
        )  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What a client starts, with everything filled in."""

    command: list[str]
    environment: Mapping[str, str]


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--only", default="", help="run the checks whose name holds this")
    only = asked.parse_args().only
    failures = []
    with tempfile.TemporaryDirectory() as temporary:
        try:
            install(PACKAGES)
            house = build_house(Path(temporary))
        except CannotRunError as error:
            print(error, file=sys.stderr)
            return CANNOT
        for name, check in CHECKS.items():
            if only in name:
                folder = Path(temporary) / name.replace(" ", "-")
                folder.mkdir()
                found = [f"{name}: {failure}" for failure in check(Place(folder, house))]
                print(f"{name}: {len(found)} failures", flush=True)
                failures += found
    print("\n".join(failures) or "Every host takes its file and starts the server.")
    return FAILED if failures else OK


def build_house(folder: Path) -> Path:
    """A folder of wheels: ours, and what it depends on.

    Raises:
        CannotRunError: pip cannot get them.
    """
    house = folder / "house"
    (wheel,) = WheelBuilder(str(TOP)).build(directory=str(house))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--dest", str(house)]
    done = subprocess.run(
        [*pip, "-c", str(TOP / "constraints.txt"), wheel], check=False, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise CannotRunError(f"pip cannot get the dependencies: {done.stderr.strip()[-300:]!r}")
    return house


def load(path: str) -> dict[str, Any]:
    return json.loads((MANIFESTS / path).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def check_server(place: Place, entry: Entry) -> Iterator[str]:
    """Start what a client starts, and ask it; what is wrong, in words."""
    command, *arguments = entry.command
    found = place.environment() | dict(entry.environment)
    program = shutil.which(command, path=found["PATH"])
    if program is None:
        yield f"{command} is not on the path"
        return
    for era in ("legacy", "auto"):
        served = StdioServerParameters(command=program, args=arguments, env=found, cwd=place.folder)
        try:
            yield from anyio.run(ask_server, served, era)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is its line in the report
            yield f"{era}: {innermost(error)!r}"


async def ask_server(served: StdioServerParameters, era: str) -> list[str]:
    wrong = []
    with anyio.fail_after(SECONDS):
        async with Client(served, mode=era) as client:
            listed = {tool.name for tool in (await client.list_tools()).tools}
            image = f"data:image/png;base64,{picture()}"
            answer = await client.call_tool("segment_image", {"image": image, "instruction": "a boy", "dry_run": True})
            version = client.server_info.version if client.server_info else None
    if version != __version__:
        wrong.append(f"{era}: version {version}")
    if listed != set(TOOLS):
        wrong.append(f"{era}: tools {sorted(listed)}")
    # A reference that the client left as it is would count as a key: then the sandbox is out of the way.
    if answer.is_error or not (answer.structured_content or {}).get("sandbox"):
        wrong.append(f"{era}: no sandbox: {answer}")
    return wrong


def fill_in(entry: Mapping[str, Any], value: Callable[[str], str]) -> Entry:
    passed = {name: value(text) for name, text in entry.get("env", {}).items()}
    return Entry([value(part) for part in (entry["command"], *entry["args"])], passed)


def keep(text: str) -> str:
    """As a client does that leaves a variable alone that is not set."""
    return text


def empty(text: str) -> str:
    """As a client does that puts nothing in its place."""
    return re.sub(r"\$\{[^}]*\}|\$\w+", "", text)


def check_registry(place: Place) -> Iterator[str]:
    """As clients of the registry start a package from PyPI: hint, identifier with the version, arguments."""
    (package,) = load("server.json")["packages"]
    command = [package["runtimeHint"], f"{package['identifier']}=={package['version']}"]
    command += [argument["value"] for argument in package["packageArguments"]]
    defaults = {one["name"]: one["default"] for one in package["environmentVariables"] if "default" in one}
    yield from check_server(place, Entry(command, defaults))


def check_bundle(place: Place) -> Iterator[str]:
    """The packer takes the manifest; what it packed is unpacked elsewhere and starts with the form left as it is."""
    packed, unpacked = place.folder / "rotoscope.mcpb", place.folder / "unpacked"
    for command in (
        ("mcpb", "validate", str(MANIFESTS / "mcpb" / "manifest.json")),
        ("mcpb", "pack", str(MANIFESTS / "mcpb"), str(packed)),
        ("mcpb", "unpack", str(packed), str(unpacked)),
    ):
        done = place.run(*command)
        if done.returncode or "rror" in done.stdout + done.stderr:
            yield f"{command[1]}: {done.stdout}{done.stderr}"
            return
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    if files != {"manifest.json", "pyproject.toml", "icon.png", "server/main.py"}:
        yield f"packed: {sorted(files)}"
    # uv resolves for every system at once; the wheels here are for this one alone.
    with (unpacked / "pyproject.toml").open("a", encoding="utf-8") as project:
        project.write(f"environments = [\"sys_platform == '{sys.platform}' and python_version == '{PYTHON}'\"]\n")
    manifest = json.loads((unpacked / "manifest.json").read_text(encoding="utf-8"))
    values = {f"user_config.{name}": question["default"] for name, question in manifest["user_config"].items()}
    values["__dirname"] = str(unpacked)
    for given in (values, {"__dirname": str(unpacked)}):

        def value(text: str, given: Mapping[str, str] = given) -> str:
            return re.sub(r"\$\{([\w.]+)\}", lambda found: given.get(found[1], found[0]), text)

        yield from check_server(place, fill_in(manifest["server"]["mcp_config"], value))


def check_plugin(place: Place) -> Iterator[str]:
    """Claude Code takes the plugin as its directory of plugins would, installs it, and connects to its server."""
    published = write_marketplace(place)
    for path, options in ((MANIFESTS / "claude-plugin", ("--profile", "directory")), (published, ())):
        done = place.run("claude", "plugin", "validate", str(path), "--strict", *options)
        if done.returncode:
            yield f"validate {path}: {done.stdout}{done.stderr}"
    yield from install_plugin(place, str(MANIFESTS / "claude-plugin"))
    yield from check_server(place, fill_in(load("claude-plugin/.mcp.json")["mcpServers"]["rotoscope"], empty))


def check_marketplace(place: Place) -> Iterator[str]:
    """As `check_plugin`, from the address of the marketplace file: it names the repository, for which a copy stands."""
    repository = place.folder / "repository"
    shutil.copytree(MANIFESTS, repository / "manifests")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example", "-C", str(repository))
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "a"), ("tag", f"v{__version__}")):
        place.run(*git, *command)
    file = write_marketplace(place)
    text = file.read_text(encoding="utf-8")
    file.write_text(
        re.sub(r'"https://github\.com/[^"]+\.git"', json.dumps(repository.as_uri()), text), encoding="utf-8"
    )
    with serving_files(place.folder) as url:
        yield from install_plugin(place, f"{url}/marketplace.json")


def write_marketplace(place: Place) -> Path:
    """The marketplace file as it is once somebody publishes the project."""
    (text,) = [one.text for one in make_plugin_files(PUBLISHED) if one.path == "marketplace.json"]
    file = place.folder / "marketplace.json"
    file.write_text(text, encoding="utf-8")
    return file


@contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    """A folder over HTTP, on loopback; its URL."""
    handler = partial(QuietRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class QuietRequestHandler(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the standard library
        """Say nothing."""


def install_plugin(place: Place, marketplace: str) -> Iterator[str]:
    done = place.run("claude", "plugin", "install", "rotoscope", "--marketplace", marketplace, "--json")
    if done.returncode or json.loads(done.stdout.splitlines()[-1]).get("outcome") != "ok":
        yield f"install: {done.stdout}{done.stderr}"
    listed = place.run("claude", "mcp", "list").stdout
    if not re.search(r"rotoscope:rotoscope: uvx rotoscope@\S+ serve - .*Connected", listed):
        yield f"mcp list: {listed}"


def check_claude_command(place: Place) -> Iterator[str]:
    """The command of the README is taken, and the server answers."""
    yield from add_by_command(place, "Claude Code", r"rotoscope: uvx rotoscope serve - .*Connected")


def check_gemini_command(place: Place) -> Iterator[str]:
    yield from add_by_command(place, "Gemini CLI", r"rotoscope: uvx rotoscope serve \(stdio\) - Connected")


def check_codex_command(place: Place) -> Iterator[str]:
    yield from add_by_command(place, "Codex", r"rotoscope +uvx +rotoscope serve .*enabled")


def add_by_command(place: Place, client: str, listed: str) -> Iterator[str]:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    command = re.search(rf"^\| {client} \| `(.+)` \|$", readme, re.MULTILINE)
    if command is None:
        yield "the README has no command"
        return
    words = command[1].split()
    (place.folder / ".codex").mkdir()
    trusted = {"GEMINI_CLI_TRUST_WORKSPACE": "true"}
    done = place.run(*words, **trusted)
    shown = place.run(words[0], "mcp", "list", **trusted)
    if done.returncode or not re.search(listed, shown.stdout + shown.stderr):
        yield f"{done.stdout}{done.stderr}{shown.stdout}{shown.stderr}"


def check_extension(place: Place) -> Iterator[str]:
    """Gemini CLI takes the extension, installs it, and connects to its server."""
    folder, trusted = str(MANIFESTS / "gemini-extension"), {"GEMINI_CLI_TRUST_WORKSPACE": "true"}
    for command in (("validate", folder), ("install", folder, "--consent", "--skip-settings")):
        done = place.run("gemini", "extensions", *command, **trusted)
        if done.returncode or "successfully" not in done.stdout + done.stderr:
            yield f"{command[0]}: {done.stdout}{done.stderr}"
    listed = place.run("gemini", "mcp", "list", **trusted)
    if not re.search(r"rotoscope .*: uvx rotoscope@\S+ serve \(stdio\) - Connected", listed.stdout + listed.stderr):
        yield f"mcp list: {listed.stdout}{listed.stderr}"
    extension = load("gemini-extension/gemini-extension.json")
    yield from check_server(place, fill_in(extension["mcpServers"]["rotoscope"], keep))


def check_codex(place: Place) -> Iterator[str]:
    """Codex reads the snippet, and each of its facts is what Codex says of it."""
    snippet = MANIFESTS / "codex" / "config.toml"
    home = place.folder / ".codex"
    home.mkdir()
    shutil.copy(snippet, home / "config.toml")
    done = place.run("codex", "mcp", "get", "rotoscope", "--json", CODEX_HOME=str(home))
    table = tomllib.loads(snippet.read_text(encoding="utf-8"))["mcp_servers"]["rotoscope"]
    read = json.loads(done.stdout or "{}")
    transport = read.get("transport", {})
    seen = {**{name: transport.get(name) for name in ("command", "args", "env_vars")}, "required": True}
    seen |= {name: read.get(name) for name in ("startup_timeout_sec", "tool_timeout_sec")}
    if seen != table:
        yield f"read: {done.stdout}{done.stderr}"
    yield from check_server(place, fill_in(table, keep))


def check_cursor(place: Place) -> Iterator[str]:
    yield from check_server(place, fill_in(load("cursor/mcp.json")["mcpServers"]["rotoscope"], keep))


def check_vscode(place: Place) -> Iterator[str]:
    yield from check_server(place, fill_in(load("vscode/mcp.json")["servers"]["rotoscope"], empty))


def check_studio_link(place: Place) -> Iterator[str]:
    """LM Studio has no file of ours: its link is the entry."""
    (link,) = (one for one in make_install_links(read_facts().keys) if one.client == "LM Studio")
    config = parse_qs(urlsplit(link.direct).query)["config"][0]
    yield from check_server(place, fill_in(json.loads(base64.b64decode(config)), keep))


CHECKS: Mapping[str, Callable[[Place], Iterator[str]]] = {
    "registry": check_registry,
    "bundle": check_bundle,
    "plugin": check_plugin,
    "marketplace": check_marketplace,
    "extension": check_extension,
    "codex": check_codex,
    "cursor": check_cursor,
    "vscode": check_vscode,
    "lm studio": check_studio_link,
    "claude command": check_claude_command,
    "gemini command": check_gemini_command,
    "codex command": check_codex_command,
}


if __name__ == "__main__":
    sys.exit(main())
