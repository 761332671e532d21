"""Where each client's file is on each system, what an entry looks like there, and how we are started."""

import re
from pathlib import Path

import pytest

from rotoscope.cli.clients.entries import Launch, starts_rotoscope
from rotoscope.cli.clients.surroundings import Surroundings
from rotoscope.cli.clients.table import CLIENTS, config_file, find_client, install_marks
from rotoscope.cli.commands import run_command
from rotoscope.cli.install.launch import Installation, find_launch, read_installation
from rotoscope.errors import InvalidInput

LINUX = Surroundings("linux", "/home/ana", {})
MAC = Surroundings("darwin", "/Users/ana", {"XDG_CONFIG_HOME": "/nowhere"})
WINDOWS = Surroundings("win32", r"C:\Users\ana", {"APPDATA": r"D:\Roaming"})
LAUNCH = Launch("/opt/rotoscope", ("serve",), {"ROTOSCOPE_HOME": "/data"})
URL = "https://rotoscope.example/mcp"
PLACES = {
    "claude-desktop": (
        "/home/ana/.config/Claude/claude_desktop_config.json",
        "/Users/ana/Library/Application Support/Claude/claude_desktop_config.json",
        r"D:\Roaming\Claude\claude_desktop_config.json",
    ),
    "claude-code": ("/home/ana/.claude.json", "/Users/ana/.claude.json", r"C:\Users\ana\.claude.json"),
    "cursor": ("/home/ana/.cursor/mcp.json", "/Users/ana/.cursor/mcp.json", r"C:\Users\ana\.cursor\mcp.json"),
    "vscode": (
        "/home/ana/.config/Code/User/mcp.json",
        "/Users/ana/Library/Application Support/Code/User/mcp.json",
        r"D:\Roaming\Code\User\mcp.json",
    ),
    "codex": ("/home/ana/.codex/config.toml", "/Users/ana/.codex/config.toml", r"C:\Users\ana\.codex\config.toml"),
    "gemini-cli": (
        "/home/ana/.gemini/settings.json",
        "/Users/ana/.gemini/settings.json",
        r"C:\Users\ana\.gemini\settings.json",
    ),
    "goose": (
        "/home/ana/.config/goose/config.yaml",
        "/Users/ana/.config/goose/config.yaml",
        r"D:\Roaming\Block\goose\config\config.yaml",
    ),
    "windsurf": (
        "/home/ana/.codeium/windsurf/mcp_config.json",
        "/Users/ana/.codeium/windsurf/mcp_config.json",
        r"C:\Users\ana\.codeium\windsurf\mcp_config.json",
    ),
    "zed": (
        "/home/ana/.config/zed/settings.json",
        "/Users/ana/.config/zed/settings.json",
        r"D:\Roaming\Zed\settings.json",
    ),
    "lm-studio": ("/home/ana/.lmstudio/mcp.json", "/Users/ana/.lmstudio/mcp.json", r"C:\Users\ana\.lmstudio\mcp.json"),
}


def test_every_client_has_a_known_place() -> None:
    assert set(PLACES) == set(CLIENTS)


def test_the_help_names_every_client(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(["install", "--help"])
    named = re.search(r"CLIENT (claude-desktop.+? or [a-z-]+)", " ".join(capsys.readouterr().out.split()))
    assert named is not None
    assert set(re.split(r", | or ", named[1])) == set(CLIENTS)


@pytest.mark.parametrize("name", PLACES)
def test_the_file_of_a_client_is_where_its_documentation_says(name: str) -> None:
    assert tuple(str(config_file(CLIENTS[name], around)) for around in (LINUX, MAC, WINDOWS)) == PLACES[name]


def test_the_environment_moves_the_folders_that_it_names() -> None:
    around = Surroundings(
        "linux", "/home/ana", {"XDG_CONFIG_HOME": "/cfg", "CODEX_HOME": "/codex", "CLAUDE_CONFIG_DIR": "/claude"}
    )
    found = {name: str(config_file(CLIENTS[name], around)) for name in CLIENTS}
    assert found["zed"] == "/cfg/zed/settings.json"
    assert found["codex"] == "/codex/config.toml"
    assert found["claude-code"] == "/claude/.claude.json"
    assert [str(mark) for mark in install_marks(CLIENTS["claude-code"], around)] == ["/claude/.claude.json", "/claude"]


def test_a_windows_without_appdata_uses_the_usual_folder() -> None:
    found = config_file(CLIENTS["zed"], Surroundings("win32", r"C:\Users\ana", {}))
    assert str(found) == r"C:\Users\ana\AppData\Roaming\Zed\settings.json"


@pytest.mark.parametrize("name", CLIENTS)
def test_an_entry_starts_the_server_by_its_whole_path_and_passes_the_home_folder_on(name: str) -> None:
    entry = CLIENTS[name].start_entry(LAUNCH)
    assert entry.get("command", entry.get("cmd")) == "/opt/rotoscope"
    assert entry["args"] == ["serve"]
    assert entry.get("env", entry.get("envs")) == {"ROTOSCOPE_HOME": "/data"}
    assert starts_rotoscope(entry)


def test_an_entry_over_http_has_the_field_that_its_client_reads() -> None:
    found = {name: one.url_entry(URL) for name, one in CLIENTS.items() if one.url_entry is not None}
    assert set(CLIENTS) - set(found) == {"claude-desktop"}
    fields = {name: [field for field, value in entry.items() if value == URL] for name, entry in found.items()}
    assert fields == {
        "claude-code": ["url"],
        "cursor": ["url"],
        "vscode": ["url"],
        "codex": ["url"],
        "gemini-cli": ["httpUrl"],
        "goose": ["uri"],
        "windsurf": ["serverUrl"],
        "zed": ["url"],
        "lm-studio": ["url"],
    }
    assert {found[name]["type"] for name in ("claude-code", "vscode")} == {"http"}


def test_a_mistyped_client_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(InvalidInput) as refused:
        find_client("claud-code")
    assert "Did you mean claude-code?" in refused.value.hint


def installation(python: str, uvx: str | None = None, requirement: str = "rotoscope") -> Installation:
    folders = (Path(python).parent, Path("/usr/local/bin"))
    return Installation(Path(python), folders, None if uvx is None else Path(uvx), requirement)


@pytest.mark.parametrize(
    ("python", "there", "command"),
    [
        ("/venv/bin/python", {"/venv/bin/rotoscope", "/usr/local/bin/rotoscope"}, "/venv/bin/rotoscope"),
        ("/venv/bin/python", {"/venv/bin/rotoscope.exe"}, "/venv/bin/rotoscope.exe"),
        ("/usr/bin/python3", {"/usr/local/bin/rotoscope"}, "/usr/local/bin/rotoscope"),
        ("/usr/bin/python3", set(), "/usr/bin/python3"),
    ],
)
def test_the_command_of_this_python_is_written_by_its_whole_path(python: str, there: set[str], command: str) -> None:
    launch = find_launch(installation(python), {}, lambda path: str(path) in there)
    assert launch.command == command
    assert launch.arguments == (("serve",) if there else ("-m", "rotoscope", "serve"))


CACHED = "/home/ana/.cache/uv/archive-v0/Xy/bin/python"


@pytest.mark.parametrize(
    ("requirement", "arguments"),
    [
        ("rotoscope", ("rotoscope", "serve")),
        ("file:///tmp/r.whl", ("--from", "file:///tmp/r.whl", "rotoscope", "serve")),
    ],
)
def test_a_copy_in_the_cache_of_uv_is_started_by_uvx_again(requirement: str, arguments: tuple[str, ...]) -> None:
    launch = find_launch(installation(CACHED, "/home/ana/.local/bin/uvx", requirement), {}, lambda _: True)
    assert (launch.command, launch.arguments) == ("/home/ana/.local/bin/uvx", arguments)


def test_a_copy_in_the_cache_of_uv_is_not_registered_where_there_is_no_uvx() -> None:
    with pytest.raises(InvalidInput) as refused:
        find_launch(installation(CACHED), {}, lambda _: True)
    assert "uv tool install rotoscope" in refused.value.hint


def test_uvx_is_found_beside_the_uv_that_started_us(tmp_path: Path) -> None:
    (tmp_path / "uvx").touch()
    assert read_installation({"UV": str(tmp_path / "uv"), "PATH": ""}).uvx == tmp_path / "uvx"
    assert read_installation({"PATH": ""}).uvx is None


@pytest.mark.parametrize(
    ("entry", "is_ours"),
    [
        ({"command": "/opt/rotoscope", "args": ["serve"]}, True),
        ({"command": r"C:\py\Scripts\rotoscope.exe", "args": ["serve"]}, True),
        ({"command": "uvx", "args": ["rotoscope", "serve"]}, True),
        ({"command": "uvx", "args": ["rotoscope@0.1.0", "serve"]}, True),
        ({"cmd": "/usr/bin/python3", "args": ["-m", "rotoscope", "serve"]}, True),
        ({"command": {"path": "/opt/rotoscope", "args": ["serve"]}}, True),
        ({"command": "/opt/rotoscope"}, False),
        ({"command": "npx", "args": ["serve"]}, False),
        ({"url": "https://rotoscope.example/mcp"}, False),
        ({"command": 7, "args": "serve"}, False),
    ],
)
def test_an_entry_is_ours_when_it_starts_us(entry: dict[str, object], is_ours: bool) -> None:
    assert starts_rotoscope(entry) is is_ours
