"""Homes and what is kept in them: their owner's alone."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rotoscope.errors import InvalidInput
from rotoscope.media.vault import FolderVault
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.ownership import find_fault, make_private
from rotoscope.settings import read_settings
from rotoscope_sandbox.predictions import AcceptedRequest
from rotoscope_sandbox.store import Store, UploadedFile

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no owners and modes like these")
PROVIDERS = manifest_folder() / "providers.toml"


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> tuple[set[int], set[int]]:
    """The rights of all folders and of all files."""
    every = [folder, *folder.rglob("*")]
    return tuple({stat.S_IMODE(one.stat().st_mode) for one in every if one.is_dir() is kind} for kind in (True, False))  # type: ignore[return-value]  # of two


def test_a_private_folder_and_those_above_it_are_private_whatever_the_umask_says(tmp_path: Path, umask: int) -> None:
    make_private(tmp_path / "a" / "b" / "c")
    make_private(tmp_path / "a" / "b" / "c")
    assert modes(tmp_path / "a") == ({0o700}, set())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="exists"):
        make_private(tmp_path / "file")


def test_what_the_vault_keeps_is_private(tmp_path: Path, umask: int) -> None:
    vault = FolderVault(tmp_path / "home" / "vault")
    vault.mark_prepared(vault.put_bytes(b"content", "image/png").sha256, "image")
    assert modes(tmp_path / "home") == ({0o700}, {0o600})


def test_what_the_sandbox_keeps_is_private(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "sandbox"
    store = Store(folder)
    order = AcceptedRequest("a" * 26, "replicate", "m", "", {}, 1.0, 1, 0.0, 0.0)
    store.add(order)
    store.progress(order.id, 1.0, ["log"])
    store.save_output(order.id, "out.png", b"x")
    with store.scratch(order.id) as scratch:
        (scratch / "film.mp4").write_bytes(b"x")
        store.keep_output(order.id, "film.mp4", scratch / "film.mp4")
    store.key("fal")
    upload = UploadedFile("b" * 26, "a.png", "image/png", 1.0)
    with store.receive_part(upload, 1) as part:
        part.write(b"x")
        part.settle()
    store.join(upload, [1])
    assert modes(folder) == ({0o700}, {0o600})


def test_a_sandbox_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    for name in ("predictions", "files", "keys"):
        (tmp_path / name).mkdir(mode=0o755)
    Store(tmp_path)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("predictions", "files", "keys")} == {0o700}


@pytest.mark.parametrize(
    ("mode", "fault"),
    [
        (0o700, None),
        (0o755, None),
        (0o775, "written by other"),
        (0o707, "written by other"),
        (0o1777, "written by other"),
    ],
)
def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path: Path, mode: int, fault: str | None) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(mode)
    found = find_fault(tmp_path / "home")
    assert fault in (found or "") if fault else found is None


def test_what_somebody_else_owns_is_not_trusted_nor_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "home")
    owner = (tmp_path / "home").stat().st_uid
    for name in ("home", "link"):
        assert find_fault(tmp_path / name, uid=owner) is None
        if owner:  # what the administrator owns is trusted
            assert find_fault(tmp_path / name, uid=owner + 1) == "belongs to another user"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_providers_file_that_another_user_put_there_is_not_read(tmp_path: Path) -> None:
    planted = PROVIDERS.read_text(encoding="utf-8").replace("https://api.replicate.com", "https://evil.example")
    file = tmp_path / "providers.toml"
    file.write_text(planted, encoding="utf-8")
    assert "evil.example" in repr(load_catalog(manifest_folder(), tmp_path).providers["replicate"])
    os.chown(file, 65534, 65534)
    (tmp_path / "link.toml").symlink_to(file)
    catalog = load_catalog(manifest_folder(), tmp_path)
    assert "evil.example" not in repr(catalog.providers)
    assert any("providers.toml belongs to another user" in problem for problem in catalog.problems)


def test_a_providers_file_that_anybody_may_write_to_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "providers.toml"
    file.write_text(PROVIDERS.read_text(encoding="utf-8").replace("https://api.replicate.com", "https://evil.example"))
    file.chmod(0o666)
    catalog = load_catalog(manifest_folder(), tmp_path)
    assert "evil.example" not in repr(catalog.providers)
    assert any("can be written by other users" in problem for problem in catalog.problems)


@pytest.mark.parametrize("written", ["~/kept", "{cwd}/kept", "kept", "./kept", "../{name}/kept"])
def test_a_home_may_be_written_in_any_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    home = read_settings({"ROTOSCOPE_HOME": written.format(cwd=tmp_path, name=tmp_path.name)}).home
    assert home.is_absolute()
    assert home.resolve() == (tmp_path / "kept").resolve()


def test_a_home_of_a_user_that_is_not_known_gets_one_clear_sentence() -> None:
    with pytest.raises(InvalidInput, match="ROTOSCOPE_HOME needs the home directory"):
        read_settings({"ROTOSCOPE_HOME": "~nobody-of-that-name/x"})
