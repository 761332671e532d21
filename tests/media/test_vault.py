"""The vault: content under its hash, whole or not at all."""

import hashlib
from pathlib import Path

import pytest

from rotoscope.errors import StorageFailed
from rotoscope.media.vault import Vault


def test_content_is_kept_under_its_hash_for_its_owner_only(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    kept = vault.keep(b"pixels", "image/png")
    assert kept.sha256 == hashlib.sha256(b"pixels").hexdigest()
    assert kept.path.read_bytes() == b"pixels"
    assert kept.path.suffix == ".png"
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert vault.find(kept.sha256) == kept.path
    assert kept.uri == f"artifact://{kept.sha256}"


def test_the_same_content_is_kept_once(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    assert vault.keep(b"a", "image/png") == vault.keep(b"a", "image/png")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "*" * 64, "A" * 64, "0" * 64, "0" * 63])
def test_what_is_no_hash_of_ours_finds_nothing(tmp_path: Path, name: str) -> None:
    assert Vault(tmp_path).find(name) is None


def test_a_path_of_ours_is_told_from_a_path_of_others(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    kept = vault.keep(b"a", "image/png")
    twin = tmp_path / kept.path.name
    twin.write_bytes(b"b")
    assert vault.hash_of(kept.path) == kept.sha256
    assert vault.hash_of(twin) is None


def test_a_folder_that_cannot_be_written_is_told_as_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="cannot be written"):
        Vault(tmp_path / "file" / "vault").keep(b"a", "image/png")
