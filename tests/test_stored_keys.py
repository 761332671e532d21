"""Provider keys that are kept: the environment wins, nothing is read that is not needed, and what cannot be is said."""

import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from file_keyring import use_file_keyring

from rotoscope import key_store
from rotoscope.errors import InvalidInput, MissingKey
from rotoscope.key_store import KeyStoreFailed
from rotoscope.settings import Settings, read_settings
from rotoscope.stored_keys import add_stored_keys, find_key_names, forget_keys, keep_in_file, keep_in_store

WANTED = ("REPLICATE_API_TOKEN", "FAL_KEY", "FAL_KEY_ID")


def settings_of(home: Path, **variables: str) -> Settings:
    return read_settings({"ROTOSCOPE_HOME": str(home), **variables})


def refuse(names: Collection[str], environ: Mapping[str, str]) -> Mapping[str, str]:
    pytest.fail(f"the key store was asked for {names}")


def test_the_file_gives_what_the_environment_does_not_set(home: Path) -> None:
    keep_in_file(home, {"REPLICATE_API_TOKEN": "kept", "FAL_KEY": "kept too"})
    found = add_stored_keys(settings_of(home, REPLICATE_API_TOKEN="mine", FAL_KEY=""), WANTED, refuse)
    assert [found.variable(name) for name in WANTED] == ["mine", "kept too", None]
    assert "kept too" not in repr(found)


def test_a_file_written_by_hand_is_read_as_people_write_it(home: Path) -> None:
    file = home / "keys.env"
    file.write_text(
        "\ufeff# mine\nexport FAL_KEY = \"a=b\"\r\n\nREPLICATE_API_TOKEN='c'\nHTTPS_PROXY=http://x\nnonsense\n"
    )
    file.chmod(0o600)
    found = add_stored_keys(settings_of(home), WANTED, refuse)
    assert (found.variable("FAL_KEY"), found.variable("REPLICATE_API_TOKEN")) == ("a=b", "c")
    assert found.variable("HTTPS_PROXY") is None, "only what providers read is taken from it"


@pytest.mark.skipif(os.name != "posix", reason="there are no modes like these")
@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606])
def test_a_file_that_others_can_read_or_write_is_refused(mode: int, home: Path) -> None:
    keep_in_file(home, {"FAL_KEY": "kept"}).chmod(mode)
    with pytest.raises(InvalidInput) as refused:
        add_stored_keys(settings_of(home), WANTED, refuse)
    assert "chmod 600" in refused.value.hint


def test_the_file_is_private_whatever_was_there(home: Path) -> None:
    assert stat.S_IMODE(keep_in_file(home, {"FAL_KEY": "kept"}).stat().st_mode) == 0o600
    assert not [one for one in home.iterdir() if one.name.startswith(".")]


@pytest.mark.parametrize("variables", [{"ROTOSCOPE_SANDBOX": "always"}, {"ROTOSCOPE_KEYS": "principal"}])
def test_nothing_is_read_where_no_key_of_the_operator_is_used(variables: dict[str, str], home: Path) -> None:
    (home / "keys.json").write_text('{"key_store": ["FAL_KEY"]}')
    given = settings_of(home, **variables)
    assert add_stored_keys(given, WANTED, refuse) is given


def test_the_key_store_is_not_asked_for_what_is_set_or_is_not_there(home: Path) -> None:
    (home / "keys.json").write_text('{"key_store": ["FAL_KEY"]}')
    given = settings_of(home, FAL_KEY="mine")
    assert add_stored_keys(given, WANTED, refuse) is given
    (home / "keys.json").unlink()
    assert add_stored_keys(settings_of(home), WANTED, refuse).variable("FAL_KEY") is None


def test_the_key_store_gives_back_what_it_has_taken_and_forgets_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    store = use_file_keyring(home)
    keep_in_file(home, {"FAL_KEY": "old"})
    keep_in_store(home, {"FAL_KEY": "new"}, os.environ)
    assert find_key_names(home).in_file == frozenset()
    assert "new" not in (home / "keys.json").read_text()
    assert add_stored_keys(settings_of(home, HOME=str(home)), WANTED).variable("FAL_KEY") == "new"
    assert forget_keys(home, os.environ) == {"FAL_KEY"}
    assert store.read_text() == "{}"
    assert find_key_names(home) == find_key_names(home / "nowhere")


def test_a_locked_key_store_is_an_error_and_never_the_sandbox(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    use_file_keyring(home)
    keep_in_store(home, {"FAL_KEY": "new"}, os.environ)
    (home / "locked").touch()
    with pytest.raises(MissingKey) as missing:
        add_stored_keys(settings_of(home, HOME=str(home)), WANTED)
    assert "FAL_KEY is kept there" in missing.value.message
    assert "Unlock it" in missing.value.hint


def test_a_key_that_somebody_has_removed_from_the_store_is_named(home: Path) -> None:
    (home / "keys.json").write_text('{"key_store": ["FAL_KEY"]}')
    with pytest.raises(MissingKey) as missing:
        add_stored_keys(settings_of(home), WANTED, lambda _names, _environ: {})
    assert "FAL_KEY is no longer in the key store" in missing.value.message


def test_a_store_that_gives_a_key_only_to_this_session_keeps_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    store = use_file_keyring(home)
    (home / ".config").rename(home / "cfg")
    with pytest.raises(KeyStoreFailed):  # a server that a client starts has no XDG_CONFIG_HOME
        keep_in_store(home, {"FAL_KEY": "new"}, {**os.environ, "XDG_CONFIG_HOME": str(home / "cfg")})
    assert store.read_text() == "{}"
    assert find_key_names(home).in_store == frozenset()


def test_a_store_that_does_not_answer_is_given_up(home: Path) -> None:
    with pytest.raises(KeyStoreFailed) as failed:
        key_store.read_values(["FAL_KEY"], {**os.environ, "HOME": str(home)}, seconds=0.001)
    assert "did not answer" in str(failed.value)


def test_a_system_without_a_key_store_has_none(home: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("DBUS", "XDG"))}
    null = {**bare, "HOME": str(home), "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    assert key_store.find_store(null) is None


def test_a_server_is_left_the_variables_that_clients_leave() -> None:
    environ = {"HOME": "/h", "PATH": "/b", "FAL_KEY": "k", "XDG_CONFIG_HOME": "/x", "Path": "/w"}
    assert key_store.server_environment(environ) == {"HOME": "/h", "PATH": "/b", "Path": "/w"}
