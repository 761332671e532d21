"""The stored replies: they are the server's own, and they are used only while nothing they depend on has changed."""

import json
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

import rotoscope
from rotoscope.cli.generate_replies import build_replies_file, record_replies, write_replies_file
from rotoscope.cli.stored_replies import (
    FILE,
    find_manifests_folder,
    find_obstacle,
    fingerprint_of_manifests,
    read_stored_replies,
)
from rotoscope.environment import SETTINGS
from rotoscope.errors import InvalidInput
from rotoscope.models.catalog import manifest_folder
from rotoscope.settings import read_settings

EVERYTHING = {
    "roots": {"listChanged": True},
    "sampling": {"tools": {}, "context": {}},
    "elicitation": {"form": {}, "url": {}},
    "extensions": {
        "io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]},
        "io.modelcontextprotocol/tasks": {},
    },
}


@pytest.mark.anyio
async def test_the_file_is_what_the_server_answers_now() -> None:
    assert Path(FILE).read_text(encoding="utf-8") == await build_replies_file(), "run `make replies`"


@pytest.mark.anyio
@pytest.mark.parametrize("capabilities", [{}, EVERYTHING], ids=["nothing", "everything"])
@pytest.mark.parametrize("revision", [*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS])
async def test_a_stored_reply_is_the_servers_own_whatever_the_client_can_do(
    environment: dict[str, str], revision: str, capabilities: dict[str, Any]
) -> None:
    stored, _ = read_stored_replies(environment)
    assert stored is not None
    parts = {**stored.handshake, **stored.modern}[revision]
    found = await record_replies(revision, capabilities)
    assert set(found) == set(parts)
    for method, result in found.items():
        assert json.loads(stored.reply_line(parts[method], "id")) == {"jsonrpc": "2.0", "id": "id", "result": result}


def test_every_revision_of_the_sdk_is_stored(environment: dict[str, str]) -> None:
    stored, _ = read_stored_replies(environment)
    assert stored is not None
    assert (tuple(stored.handshake), tuple(stored.modern)) == (HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS)


def test_the_check_tells_whether_the_file_is_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rotoscope.cli.generate_replies.FILE", str(tmp_path / "replies.json"))
    assert write_replies_file(["--check"]) == 1
    assert "make replies" in capsys.readouterr().out
    assert write_replies_file([]) == 0
    assert write_replies_file(["--check"]) == 0
    (tmp_path / "replies.json").write_text("{}", encoding="utf-8")
    assert write_replies_file(["--check"]) == 1


# What they depend on.


@pytest.mark.parametrize("what", ["rotoscope", "mcp", "mcp_types", "manifests"])
def test_another_version_or_manifest_makes_them_ignored(environment: dict[str, str], tmp_path: Path, what: str) -> None:
    stored = json.loads(Path(FILE).read_text(encoding="utf-8"))
    stored["made_from"][what] += "0"
    (tmp_path / "replies.json").write_text(json.dumps(stored), encoding="utf-8")
    assert read_stored_replies(environment, str(tmp_path / "replies.json"))[0] is None


@pytest.mark.parametrize(
    "broken",
    ["", "{", "[]", "{}", '{"made_from": {}}', '{"made_from": null}'],
)
def test_a_file_that_cannot_be_used_is_ignored(environment: dict[str, str], tmp_path: Path, broken: str) -> None:
    file = tmp_path / "replies.json"
    file.write_text(broken, encoding="utf-8")
    assert read_stored_replies(environment, str(file))[0] is None
    assert read_stored_replies(environment, str(tmp_path / "none.json"))[0] is None


def made_from() -> dict[str, str]:
    found: dict[str, str] = json.loads(Path(FILE).read_text(encoding="utf-8"))["made_from"]
    return found


def test_the_first_package_on_the_path_is_the_one_that_counts(environment: dict[str, str], tmp_path: Path) -> None:
    def installed(place: str, version: str) -> str:
        for name in ("mcp", "mcp_types"):
            (tmp_path / place / name).mkdir(parents=True)
            (tmp_path / place / name / "__init__.py").touch()
            (tmp_path / place / f"{name}-{version}.dist-info").mkdir()
        return str(tmp_path / place)

    right, wrong = installed("right", made_from()["mcp"]), installed("wrong", "2.99.0")
    assert not find_obstacle(made_from(), environment, places=[right, wrong])
    assert find_obstacle(made_from(), environment, places=[wrong, right])
    assert find_obstacle(made_from(), environment, places=[])


@pytest.mark.parametrize("change", ["edit", "add", "remove", "rename"])
def test_any_change_of_a_shipped_manifest_makes_them_ignored(
    environment: dict[str, str], tmp_path: Path, change: str
) -> None:
    folder = tmp_path / "manifests"
    for file in (*manifest_folder().glob("*.toml"), *manifest_folder().glob("models/*.toml")):
        copy = folder / file.relative_to(manifest_folder())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    assert not find_obstacle(made_from(), environment, str(folder))
    one = folder / "models" / "vace-14b.toml"
    match change:
        case "edit":
            one.write_bytes(one.read_bytes() + b"# a word more\n")
        case "add":
            (folder / "models" / "more.toml").touch()
        case "remove":
            one.unlink()
        case "rename":
            one.rename(folder / "models" / "zz.toml")
    assert find_obstacle(made_from(), environment, str(folder))


def test_a_manifest_of_the_users_own_changes_no_list_and_leaves_them_in_use(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.toml").write_text("nonsense", encoding="utf-8")
    assert not find_obstacle(made_from(), {"ROTOSCOPE_HOME": str(tmp_path)})


@given(
    st.sampled_from([setting.name for setting in SETTINGS]),
    st.one_of(
        st.sampled_from(["auto", "never", "http://127.0.0.1:1", "https://x", "30", "0.5", "", "$NAME", "${NAME}"]),
        st.text(string.printable, max_size=12),
        st.floats().map(str),
    ),
)
@example("ROTOSCOPE_INLINE_SECONDS", "9" * 400)
@example("ROTOSCOPE_INLINE_SECONDS", "-1")
@example("ROTOSCOPE_INLINE_SECONDS", "\u00b2")
@example("ROTOSCOPE_SANDBOX", "perhaps")
@example("ROTOSCOPE_AT_ONCE", "0")
@example("ROTOSCOPE_UNPRICED", "perhaps")
@example("ROTOSCOPE_MAX_USD_PER_DAY", "all")
def test_a_setting_that_the_server_refuses_makes_them_ignored(name: str, value: str) -> None:
    """Else a client would be welcomed by a server that cannot start."""
    environ = {"ROTOSCOPE_HOME": "/nowhere", name: value}
    try:
        read_settings(environ)
    except InvalidInput:
        assert find_obstacle(made_from(), environ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROTOSCOPE_INLINE_SECONDS", "0"),
        ("ROTOSCOPE_INLINE_SECONDS", "3.5"),
        ("ROTOSCOPE_SANDBOX", "never"),
        ("ROTOSCOPE_SANDBOX", "http://127.0.0.1:8765"),
        ("ROTOSCOPE_UNPRICED", "refuse"),
        ("ROTOSCOPE_MAX_USD_PER_DAY", "20"),
        ("ROTOSCOPE_MAX_USD_PER_DAY", "none"),
        ("ROTOSCOPE_ASK_ABOVE_USD", "never"),
        ("ROTOSCOPE_AT_ONCE", "8"),
        ("ROTOSCOPE_AT_ONCE", "replicate=4,fal=2"),
        ("ROTOSCOPE_HOME", "~/elsewhere"),
        ("ROTOSCOPE_HOME", "${HOME_OF_MINE}"),
        ("ROTOSCOPE_DATABASE_URL", "sqlite:////tmp/ledger.sqlite3"),
        ("ROTOSCOPE_OF_TOMORROW", "1"),
        ("FAL_KEY", "key"),
    ],
)
def test_a_value_that_the_server_accepts_leaves_them_in_use(environment: dict[str, str], name: str, value: str) -> None:
    read_settings({**environment, name: value})
    assert read_stored_replies({**environment, name: value})[0] is not None


def test_every_default_and_word_of_the_settings_table_is_accepted() -> None:
    for setting in SETTINGS:
        for word in re.findall(r"`([^`]+)`", f"{setting.default} {setting.meaning}"):
            if not word.startswith(("ROTOSCOPE_", "models/")):
                assert not find_obstacle(made_from(), {"ROTOSCOPE_HOME": "/nowhere", setting.name: word}), word


def test_no_setting_is_read_that_the_table_does_not_hold() -> None:
    source = Path(rotoscope.__file__).parent
    texts = [file.read_text(encoding="utf-8") for file in source.rglob("*.py")]
    named = {name for text in texts for name in re.findall(r"[\"'](ROTOSCOPE_[A-Z_]+)[\"']", text)}
    assert named == {setting.name for setting in SETTINGS}


def test_the_manifests_are_those_of_the_catalog() -> None:
    assert Path(find_manifests_folder()).resolve() == manifest_folder().resolve()
    assert made_from()["manifests"] == fingerprint_of_manifests(str(manifest_folder()))
