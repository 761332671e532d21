"""Which clients the doctor finds, in files as people and clients write them, and what it says of their commands."""

import json
from pathlib import Path

import pytest

from rotoscope.cli.clients.files import MAX_BYTES
from rotoscope.cli.doctor.client_checks import CommandFacts, check_clients
from rotoscope.cli.doctor.clients import FoundClient, find_clients
from rotoscope.cli.doctor.records import Finding

COMMAND = "/opt/venv/bin/rotoscope"
SERVERS = {"rotoscope": {"command": COMMAND, "args": ["serve"], "env": {"FAL_KEY": "id:secret"}}}


def put(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    file.write_text(text, encoding="utf-8")
    return file


def look(home: Path, platform: str = "linux", **environ: str) -> dict[str, FoundClient]:
    return {one.client.name: one for one in find_clients(platform, home, environ)}


def judge(home: Path, *missing: str, elsewhere: frozenset[str] = frozenset()) -> dict[str, Finding]:
    commands = CommandFacts(frozenset(missing), elsewhere)
    return {one.id: one for one in check_clients(find_clients("linux", home, {}), commands)}


@pytest.mark.parametrize(
    ("client", "file", "content"),
    [
        ("claude-desktop", ".config/Claude/claude_desktop_config.json", {"mcpServers": SERVERS}),
        ("claude-code", ".claude.json", {"projects": {"/work/a": {"mcpServers": SERVERS}}}),
        ("claude-code", ".claude.json", {"numStartups": 3, "mcpServers": SERVERS}),
        ("cursor", ".cursor/mcp.json", {"mcpServers": SERVERS}),
        ("vscode", ".config/Code/User/mcp.json", {"servers": SERVERS, "inputs": []}),
        ("codex", ".codex/config.toml", f'model = "x"\n[mcp_servers.media]\ncommand = "{COMMAND}"\nargs = ["serve"]\n'),
        ("gemini-cli", ".gemini/settings.json", {"mcpServers": SERVERS}),
        ("goose", ".config/goose/config.yaml", f"""\
            GOOSE_MODEL: x
            extensions:
              developer:
                type: builtin
              rotoscope:
                type: stdio
                cmd: "{COMMAND}"  # ours
                args:
                  - serve
            """),
        ("windsurf", ".codeium/windsurf/mcp_config.json", {"mcpServers": SERVERS}),
        ("zed", ".config/zed/settings.json", {"context_servers": {"a": {"command": {"path": COMMAND, "args": []}}}}),
        ("lm-studio", ".lmstudio/mcp.json", {"mcpServers": SERVERS}),
    ],
)  # fmt: skip
def test_each_client_is_found_with_its_entry(home: Path, client: str, file: str, content: object) -> None:
    path = put(home / file, content)
    found = look(home)
    assert list(found) == [client]
    assert found[client].file == path
    assert [entry.command for entry in found[client].entries] == [COMMAND]
    assert "secret" not in repr(found)


def test_comments_trailing_commas_and_a_byte_order_mark_are_read(home: Path) -> None:
    text = (
        "\ufeff{\n  // editors write this\n"
        '  "context_servers": {\n    /* "old": {} */\n'
        f'    "rotoscope": {{"command": "{COMMAND}", "args": ["serve", "--x=//no,}}"],}}, // the last\n  }},\n}}\n'
    )
    put(home / ".config/zed/settings.json", text)
    assert [entry.command for entry in look(home)["zed"].entries] == [COMMAND]


@pytest.mark.parametrize(
    ("server", "is_ours"),
    [
        ({"command": "uvx", "args": ["rotoscope", "serve"]}, True),
        ({"command": "uvx", "args": ["--from", "rotoscope[server]==0.1", "x"]}, True),
        ({"command": "/usr/bin/python3", "args": ["-m", "rotoscope", "serve"]}, True),
        ({"command": "C:\\Programs\\rotoscope.exe"}, True),
        ({"url": "http://127.0.0.1:8000/mcp"}, False),
        ({"url": "https://rotoscope.example/mcp?token=secret"}, True),
        ({"serverUrl": "https://media.example/mcp"}, True),
        ({"command": "npx", "args": ["rotoscopes"]}, False),
        ({"command": 3}, False),
        ("no table", False),
    ],
)
def test_what_is_ours_is_known_by_its_command_package_or_address(home: Path, server: object, is_ours: bool) -> None:
    put(home / ".cursor/mcp.json", {"mcpServers": {"media": server}})
    found = look(home, ROTOSCOPE_PUBLIC_URL="https://media.example")["cursor"]
    assert bool(found.entries) is is_ours
    assert "secret" not in repr(found)


@pytest.mark.parametrize("content", ['{"mcpServers": [', "[" * 100_000, "null", '{"mcpServers": null}', '"\x00"'])
def test_files_that_are_no_configuration_are_reported_and_nothing_fails(home: Path, content: str) -> None:
    put(home / ".cursor/mcp.json", content)
    assert look(home)["cursor"].entries == ()
    assert "Traceback" not in judge(home)["client.cursor"].summary


def test_a_broken_file_is_a_warning_that_names_it(home: Path) -> None:
    file = put(home / ".codex/config.toml", "[mcp_servers\n")
    found = judge(home)["client.codex"]
    assert (found.state, str(file) in found.summary) == ("warning", True)


def test_a_huge_file_is_not_read(home: Path) -> None:
    file = put(home / ".cursor/mcp.json", "")
    with file.open("wb") as opened:
        opened.truncate(MAX_BYTES + 1)
    assert "larger" in look(home)["cursor"].fault


def test_a_client_without_a_file_is_found_by_its_folder(home: Path) -> None:
    (home / ".cursor").mkdir()
    findings = judge(home)
    assert findings["client.cursor"].summary == "Cursor is here and does not start rotoscope."
    assert findings["clients"].state == "warning"


def test_a_command_that_is_not_there_is_a_problem(home: Path) -> None:
    put(home / ".cursor/mcp.json", {"mcpServers": SERVERS})
    found = judge(home, COMMAND)["client.cursor"]
    assert (found.state, COMMAND in found.summary) == ("problem", True)


def test_a_bare_name_is_a_warning_in_a_program_of_the_desktop_and_none_in_a_terminal(home: Path) -> None:
    servers = {"rotoscope": {"command": "rotoscope", "args": ["serve"]}}
    put(home / ".cursor/mcp.json", {"mcpServers": servers})
    put(home / ".gemini/settings.json", {"mcpServers": servers})
    findings = judge(home)
    assert (findings["client.cursor"].state, findings["client.gemini-cli"].state) == ("warning", "ok")


def test_places_follow_the_system_and_the_variables_of_the_clients(home: Path, tmp_path: Path) -> None:
    put(home / "Library/Application Support/Claude/claude_desktop_config.json", {"mcpServers": SERVERS})
    put(home / ".config/zed/settings.json", {"context_servers": SERVERS})
    assert set(look(home, "darwin")) == {"claude-desktop", "zed"}
    put(tmp_path / "roaming" / "Block" / "goose" / "config" / "config.yaml", "extensions:\n")
    assert set(look(home, "win32", APPDATA=str(tmp_path / "roaming"))) == {"goose"}
    put(tmp_path / "codex" / "config.toml", "")
    assert set(look(tmp_path, CODEX_HOME=str(tmp_path / "codex"))) == {"codex"}


def test_a_client_without_us_is_answered_with_the_command_that_adds_us(home: Path) -> None:
    put(home / ".cursor/mcp.json", {"mcpServers": SERVERS})
    put(home / ".config/VSCodium/User/mcp.json", {"servers": {}})
    (home / ".config/zed").mkdir()
    findings = judge(home)
    assert (findings["client.zed"].state, findings["client.cursor"].advice) == ("ok", "")
    assert "rotoscope install zed." in findings["client.zed"].advice
    file = home / ".config/VSCodium/User/mcp.json"
    assert f"rotoscope install vscode --file {file}." in findings["client.vscode"].advice


@pytest.mark.parametrize("state", ["problem", "warning"])
def test_an_entry_whose_command_is_gone_or_elsewhere_is_answered_with_the_command_that_writes_it_again(
    home: Path, state: str
) -> None:
    put(home / ".cursor/mcp.json", {"mcpServers": SERVERS})
    put(home / ".gemini/settings.json", {"mcpServers": {"media": SERVERS["rotoscope"]}})
    put(home / ".claude.json", {"projects": {"/p": {"mcpServers": SERVERS}}})
    found = judge(home, COMMAND) if state == "problem" else judge(home, elsewhere=frozenset({COMMAND}))
    assert {found[f"client.{name}"].state for name in ("cursor", "gemini-cli", "claude-code")} == {state}
    assert "un rotoscope install cursor again." in found["client.cursor"].advice
    assert "un rotoscope install gemini-cli --name media again." in found["client.gemini-cli"].advice
    # An entry of one project is no place where install writes.
    assert "rotoscope install" not in found["client.claude-code"].advice


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        (".gemini/settings.json", '{\n  "mcpServers": {\n    "fs": {},\n  }\n}\n', "a trailing comma in line 3"),
        (".gemini/settings.json", "\ufeff{}", "a byte order mark"),
        (".claude.json", '{\n  // mine\n  "mcpServers": {}\n}\n', "a comment in line 2"),
    ],
)
def test_a_file_that_its_client_refuses_is_named_with_the_line(home: Path, file: str, text: str, words: str) -> None:
    path = put(home / file, text)
    (found,) = [one for name, one in judge(home).items() if name != "clients"]
    assert (found.state, f"does not read {path}: there is {words}" in found.summary) == ("warning", True)
    assert found.advice


def test_comments_are_nothing_to_a_client_that_reads_them(home: Path) -> None:
    put(home / ".gemini/settings.json", f'{{ // mine\n"mcpServers": {json.dumps(SERVERS)}}}')
    assert judge(home)["client.gemini-cli"].state == "ok"
