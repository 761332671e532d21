"""`rotoscope install` and `rotoscope uninstall` on files as people have them."""

import io
import json
import os
import stat
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import json5
import pytest
import yaml
from file_keyring import use_file_keyring
from mcp import Client, StdioServerParameters

from rotoscope.cli.clients.surroundings import Surroundings
from rotoscope.cli.clients.table import CLIENTS, config_file
from rotoscope.cli.commands import run_command

KEY = "r8_0123456789abcdef"
DESKTOP = (
    '{\n  "globalShortcut": "Ctrl+Space",\n  "mcpServers": {\n    "fs": {"command": "npx", "args": ["-y"]}\n  }\n}\n'
)
TEXTS = {
    "claude-desktop": DESKTOP,
    "claude-code": '{\n  "numStartups": 12,\n  "projects": {"/p": {"mcpServers": {"rotoscope": {}}}}\n}\n',
    "cursor": '{\n\t// my servers\n\t"mcpServers": {\n\t\t"fs": {"command": "npx"}, // files\n\t},\n}\n',
    "vscode": '{\r\n\t"inputs": [],\r\n\t"servers": {\r\n\t\t"fs": {"type": "stdio", "command": "npx"}\r\n\t}\r\n}\r\n',
    "codex": 'model = "gpt"  # mine\n\n[mcp_servers.fs]\ncommand = "npx"\n\n[tui]\nnotifications = true\n',
    "gemini-cli": '{"security": {"auth": {"selectedType": "oauth-personal"}}}',
    "goose": "GOOSE_MODEL: x  # mine\nextensions:\n  developer:\n    enabled: true\n    type: builtin\n# the end\n",
    "windsurf": '{"mcpServers": {}}\n',
    "zed": '// Zed settings\n{\n  "theme": "Ünö", // dark\n  "vim_mode": true,\n}\n',
    "lm-studio": '{\n  "mcpServers": {}\n}\n',
}
PARSERS: dict[str, Callable[[str], Any]] = {"codex": tomllib.loads, "goose": yaml.safe_load}
Run = Callable[..., int]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("ROTOSCOPE_", "XDG_", "CODEX_", "CLAUDE_")) or name.endswith(("_TOKEN", "_KEY")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def file_of(name: str, home: Path, text: str | bytes | None) -> Path:
    """A client's file, with its folder; None leaves the file out."""
    path = Path(config_file(CLIENTS[name], Surroundings("linux", str(home), {})))
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Let a person at a terminal type these lines."""
    typed = io.StringIO("".join(f"{line}\n" for line in lines))
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", typed)


def entry_in(name: str, path: Path) -> dict[str, Any]:
    parse = PARSERS.get(name, json5.loads)
    entry: dict[str, Any] = parse(path.read_bytes().decode("utf-8-sig"))[CLIENTS[name].container]["rotoscope"]
    return entry


def copies_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.*.bak"))


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_gets_the_entry_and_loses_it_again_byte_for_byte(name: str, home: Path) -> None:
    path = file_of(name, home, TEXTS[name])
    assert run_command(["install", name, "--yes"]) == 0
    entry = entry_in(name, path)
    assert Path(entry.get("command") or entry["cmd"]).is_absolute()
    (copy,) = copies_of(path)
    assert copy.read_bytes() == TEXTS[name].encode()
    assert run_command(["uninstall", name, "--yes"]) == 0
    assert path.read_bytes() == TEXTS[name].encode()


@pytest.mark.parametrize("name", CLIENTS)
def test_a_file_that_is_not_there_is_made_and_removed_again(name: str, home: Path) -> None:
    path = file_of(name, home, None)
    assert run_command(["install", name, "--yes", "--force"]) == 0
    assert entry_in(name, path)
    assert run_command(["uninstall", name, "--yes"]) == 0
    assert not path.exists()


@pytest.mark.parametrize("name", CLIENTS)
def test_the_entry_goes_and_what_came_later_stays(name: str, home: Path) -> None:
    path = file_of(name, home, TEXTS[name])
    assert run_command(["install", name, "--yes"]) == 0
    assert run_command(["install", name, "--yes", "--name", "other"]) == 0
    assert run_command(["uninstall", name, "--yes"]) == 0
    servers = PARSERS.get(name, json5.loads)(path.read_text())[CLIENTS[name].container]
    assert "other" in servers
    assert "rotoscope" not in servers


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbf" + DESKTOP.encode(),
        DESKTOP.replace("\n", "\r\n").encode(),
        DESKTOP.replace("  ", "\t").encode(),
        b"",
        b"{}",
        b"\n\n",
    ],
    ids=["byte order mark", "CRLF", "tabs", "empty", "empty object", "blank lines"],
)
def test_odd_bytes_are_kept(raw: bytes, home: Path) -> None:
    path = file_of("claude-desktop", home, raw)
    assert run_command(["install", "claude-desktop", "--yes"]) == 0
    after = path.read_bytes()
    assert after[:3] == b"\xef\xbb\xbf" if raw.startswith(b"\xef") else after[:1] != b"\xef"
    assert (b"\r\n" in after) == (b"\r\n" in raw)
    assert (b"\n" in after.replace(b"\r\n", b"")) == (b"\r\n" not in raw and raw != b"{}")
    assert entry_in("claude-desktop", path)["args"] == ["serve"]
    assert run_command(["uninstall", "claude-desktop", "--yes"]) == 0
    assert path.read_bytes() == raw


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gemini-cli", '{\n  "theme": "x",\n  "mcpServers": {\n    "fs": {},\n  },\n}\n', "a trailing comma in line "),
        ("claude-code", '{\n  // mine\n  "mcpServers": {}\n}\n', "a comment in line 2"),
    ],
)
def test_a_file_that_its_client_refuses_is_written_and_the_line_is_named(
    name: str, text: str, words: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(name, home, text)
    assert run_command(["install", name, "--yes"]) == 0
    shown = capsys.readouterr().out
    assert f"{CLIENTS[name].title} does not read this file as long as there is {words}" in shown
    if "comma" in words:
        number = int(shown.partition(words)[2].partition(".")[0])
        assert path.read_text().splitlines()[number - 1].endswith("},")
        assert path.read_text().splitlines()[number].strip() == "},"
    assert run_command(["install", name, "--yes"]) == 0
    assert words in capsys.readouterr().out


def test_a_second_time_changes_nothing_and_a_moved_command_is_written_in_place(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of("cursor", home, TEXTS["cursor"])
    assert run_command(["install", "cursor", "--yes"]) == 0
    once = path.read_text()
    assert run_command(["install", "cursor", "--yes"]) == 0
    assert "says this already" in capsys.readouterr().out
    command = entry_in("cursor", path)["command"]
    own = '"args": ["serve"],\n\t\t\t"disabled": true, "env": {"ROTOSCOPE_UNPRICED": "run"}'
    path.write_text(once.replace(command, "/old/rotoscope").replace('"args": ["serve"]', own))
    assert run_command(["install", "cursor", "--yes"]) == 0
    assert entry_in("cursor", path) == {
        "command": command,
        "args": ["serve"],
        "disabled": True,
        "env": {"ROTOSCOPE_UNPRICED": "run"},
    }
    assert path.read_text().startswith(TEXTS["cursor"][: TEXTS["cursor"].index("// files")])
    assert run_command(["uninstall", "cursor", "--yes"]) == 0
    assert path.read_text() == TEXTS["cursor"]


@pytest.mark.parametrize("name", CLIENTS)
def test_print_shows_an_entry_that_parses_and_writes_nothing(
    name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["install", name, "--print"]) == 0
    printed = PARSERS.get(name, json.loads)(capsys.readouterr().out)
    assert list(printed) == [CLIENTS[name].container]
    assert not list(home.iterdir())


def test_a_dry_run_shows_lines_that_come_and_hides_secrets_near_them(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DESKTOP.replace('["-y"]', '["-y"], "env": {"API_KEY": "sk-verysecret"}')
    path = file_of("claude-desktop", home, text)
    assert run_command(["install", "claude-desktop", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert '+    "rotoscope": {' in shown
    assert "verysecret" not in shown
    assert path.read_text() == text
    assert not copies_of(path)
    assert not (home / ".local").exists()


def test_a_person_who_says_no_has_an_unchanged_file(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of("cursor", home, TEXTS["cursor"])
    answer(monkeypatch, "")
    assert run_command(["install", "cursor"]) == 0
    assert "Nothing was written." in capsys.readouterr().out
    assert path.read_text() == TEXTS["cursor"]


def test_where_nobody_can_be_asked_nothing_is_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of("cursor", home, TEXTS["cursor"])
    assert run_command(["install", "cursor"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert path.read_text() == TEXTS["cursor"]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run_command(["install", *arguments]) in {1, 2}
    lines = [line for line in capsys.readouterr().err.strip().splitlines() if "rotoscope explain" not in line]
    assert len(lines) == 1, "an error is one line"
    return lines[0]


def test_a_client_that_is_not_installed_is_named_and_force_writes_anyway(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = refusal(capsys, "zed", "--yes")
    assert "Zed does not seem to be installed" in words
    assert "--force" in words
    assert run_command(["install", "zed", "--yes", "--force"]) == 0
    assert (home / ".config" / "zed" / "settings.json").is_file()


def test_an_unknown_client_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean windsurf?" in refusal(capsys, "windsrf")


def test_a_broken_file_is_named_with_the_place_and_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of("cursor", home, '{"mcpServers": {\n')
    words = refusal(capsys, "cursor", "--yes")
    assert f"{path} is not JSON (line 2, column 1" in words
    assert "--print cursor" in words
    assert path.read_text() == '{"mcpServers": {\n'


def test_a_server_of_that_name_that_is_not_ours_is_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '{"mcpServers": {"rotoscope": {"command": "node", "args": ["film.js"]}}}'
    path = file_of("cursor", home, text)
    assert "--name NAME" in refusal(capsys, "cursor", "--yes")
    assert run_command(["uninstall", "cursor", "--yes"]) == 2
    assert "was not written by rotoscope install" in capsys.readouterr().err
    assert path.read_text() == text
    assert run_command(["install", "cursor", "--yes", "--name", "films"]) == 0
    assert set(json.loads(path.read_text())["mcpServers"]) == {"rotoscope", "films"}


def test_a_read_only_file_and_a_read_only_folder_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of("cursor", home, TEXTS["cursor"])
    path.chmod(0o444)
    assert f"The file {path} is read-only" in refusal(capsys, "cursor", "--yes")
    path.chmod(0o600)
    path.parent.chmod(0o555)
    assert f"The folder {path.parent} is read-only" in refusal(capsys, "cursor", "--yes")
    path.parent.chmod(0o700)
    assert path.read_text() == TEXTS["cursor"]


def test_a_huge_file_is_refused_before_it_is_read_whole(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of("cursor", home, None)
    with path.open("wb") as file:
        file.truncate(1 << 40)  # holes
    assert "larger than 16 MiB" in refusal(capsys, "cursor", "--yes")


def test_a_file_that_is_no_text_a_folder_and_a_circle_of_links_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of("cursor", home, '{"a": "ü"}'.encode("utf-16"))
    assert "not text in UTF-8" in refusal(capsys, "cursor", "--yes")
    path.unlink()
    path.mkdir()
    assert "is a folder" in refusal(capsys, "cursor", "--yes")
    path.rmdir()
    path.symlink_to(path)
    assert "cannot be read" in refusal(capsys, "cursor", "--yes")


def test_a_linked_file_is_changed_where_it_really_is_and_keeps_its_mode(home: Path) -> None:
    real = home / "dotfiles" / "cursor.json"
    real.parent.mkdir()
    real.write_text(TEXTS["cursor"])
    real.chmod(0o640)
    path = file_of("cursor", home, None)
    path.symlink_to(real)
    assert run_command(["install", "cursor", "--yes"]) == 0
    assert path.is_symlink()
    assert entry_in("cursor", real)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert [stat.S_IMODE(one.stat().st_mode) for one in copies_of(real)] == [0o640]
    assert run_command(["uninstall", "cursor", "--yes"]) == 0
    assert real.read_text() == TEXTS["cursor"]


def test_a_project_gets_its_own_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert run_command(["install", "claude-code", "--project", "--yes"]) == 0
    assert entry_in("claude-code", home / ".mcp.json")["type"] == "stdio"
    assert run_command(["uninstall", "claude-code", "--project", "--yes"]) == 0
    assert not (home / ".mcp.json").exists()


def test_a_client_without_project_files_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "LM Studio has no file of a project" in refusal(capsys, "lm-studio", "--project")


def test_a_server_over_http_is_registered_and_taken_out_by_its_address(home: Path) -> None:
    path = file_of("windsurf", home, TEXTS["windsurf"])
    url = "http://127.0.0.1:8000/mcp"
    assert run_command(["install", "windsurf", "--yes", "--http", url]) == 0
    assert entry_in("windsurf", path) == {"serverUrl": url}
    path.write_text(path.read_text() + "\n")  # changed since
    assert run_command(["uninstall", "windsurf", "--yes"]) == 0
    assert json.loads(path.read_text()) == {"mcpServers": {}}


def test_claude_desktop_says_where_a_server_over_http_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Connectors" in refusal(capsys, "claude-desktop", "--http", "https://x.example/mcp")


@pytest.mark.parametrize("url", ["x.example", "https://ana:secret@x.example/mcp", "https://x.example/a b"])
def test_an_address_that_is_none_or_holds_a_password_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = refusal(capsys, "cursor", "--http", url, "--yes")
    assert "--http needs the address" in words
    assert "secret" not in words


def test_another_home_folder_is_passed_on_to_the_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of("cursor", home, None)
    monkeypatch.setenv("ROTOSCOPE_HOME", str(home / "mine"))
    assert run_command(["install", "cursor", "--yes"]) == 0
    assert entry_in("cursor", path)["env"] == {"ROTOSCOPE_HOME": str(home / "mine")}


def test_a_key_goes_to_a_private_file_where_there_is_no_key_store_and_never_to_the_client(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", KEY)
    path = file_of("cursor", home, TEXTS["cursor"])
    assert run_command(["install", "cursor", "--yes"]) == 0
    kept = home / ".local" / "share" / "rotoscope" / "keys.env"
    assert kept.read_text() == f"REPLICATE_API_TOKEN={KEY}\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert KEY not in path.read_text() + capsys.readouterr().out
    assert run_command(["uninstall", "cursor", "--yes"]) == 0
    assert "--keys forgets it" in capsys.readouterr().out
    assert kept.exists()
    assert run_command(["uninstall", "cursor", "--yes", "--keys"]) == 0
    assert not kept.exists()


def test_a_key_goes_to_the_key_store_where_there_is_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = use_file_keyring(home)
    monkeypatch.setenv("FAL_KEY", KEY)
    file_of("cursor", home, TEXTS["cursor"])
    assert run_command(["install", "cursor", "--yes"]) == 0
    assert "kept FAL_KEY in the key store of this system" in capsys.readouterr().out
    assert json.loads(store.read_text()) == {"rotoscope/FAL_KEY": KEY}
    folder = home / ".local" / "share" / "rotoscope"
    assert not (folder / "keys.env").exists()
    assert all(KEY not in file.read_text() for file in folder.iterdir())
    monkeypatch.delenv("FAL_KEY")
    assert run_command(["models", "list", "--json"]) == 0
    assert run_command(["uninstall", "cursor", "--yes", "--keys"]) == 0
    assert json.loads(store.read_text()) == {}
    assert not (folder / "keys.json").exists()


def test_a_key_that_is_typed_is_kept_and_a_wrong_one_is_asked_for_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file_of("cursor", home, TEXTS["cursor"])
    answer(monkeypatch, "y", "nobody", "replicate", "replicate", "")
    typed = iter(["has a blank", KEY])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    assert run_command(["install", "cursor"]) == 0
    kept = home / ".local" / "share" / "rotoscope" / "keys.env"
    assert kept.read_text() == f"REPLICATE_API_TOKEN={KEY}\n"
    shown = capsys.readouterr().out
    assert "There is no provider 'nobody'" in shown
    assert KEY not in shown


def test_keys_are_left_alone_on_request(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", KEY)
    file_of("cursor", home, TEXTS["cursor"])
    assert run_command(["install", "cursor", "--yes", "--no-keys"]) == 0
    assert not (home / ".local" / "share" / "rotoscope" / "keys.env").exists()


@pytest.mark.slow
@pytest.mark.parametrize("store", ["key store", "file"])
@pytest.mark.anyio
async def test_the_written_command_serves_with_an_empty_path_and_finds_the_kept_key(
    store: str, home: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store == "key store":
        use_file_keyring(home)
    monkeypatch.setenv("FAL_KEY", KEY)
    path = file_of("claude-desktop", home, DESKTOP)
    assert run_command(["install", "claude-desktop", "--yes"]) == 0
    entry = entry_in("claude-desktop", path)
    environ = {"HOME": str(home), "PATH": "", **entry.get("env", {})}
    command = StdioServerParameters(command=entry["command"], args=entry["args"], env=environ, cwd="/")
    with anyio.fail_after(180):
        async with Client(command) as client:
            assert "segment_image" in {tool.name for tool in (await client.list_tools()).tools}
            box = {"left": 1, "top": 1, "right": 50, "bottom": 50}
            asked = {"image": str(photo), "box": box, "dry_run": True}
            plan = (await client.call_tool("segment_image", asked)).structured_content
            while plan is not None and plan["status"] == "queued":  # it is still being checked
                plan = (await client.call_tool("segment_image", asked)).structured_content
    assert plan is not None
    assert (plan["provider"], plan["sandbox"]) == ("fal", False), plan
    assert KEY not in json.dumps(plan)
