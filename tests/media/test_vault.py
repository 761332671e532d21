"""What every vault guarantees, and what a folder of this machine gives besides."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from object_store import ObjectServer, object_server, open_object_vault, running_server
from vaults import MemoryVault, stored_path

from rotoscope.errors import StorageFailed
from rotoscope.media.vault import FolderVault, StoredFile, Vault, enter_in_thread, scratch_path

__all__ = ["object_server", "running_server"]
PIXELS = hashlib.sha256(b"pixels").hexdigest()


@dataclass(frozen=True, slots=True)
class VaultUnderTest:
    """A vault, a way to make a file of it older, and the folder of its temporary files."""

    vault: Vault
    put_at: Callable[[StoredFile, float], None]
    scratch: Path

    def put_old(self, content: bytes, at: float) -> StoredFile:
        stored = self.vault.put_bytes(content, "image/png")
        self.put_at(stored, at)
        return stored


def folder_vault(folder: Path) -> VaultUnderTest:
    vault = FolderVault(folder / "vault")
    return VaultUnderTest(
        vault, lambda stored, at: os.utime(stored_path(vault, stored.sha256), (at, at)), folder / "vault" / "scratch"
    )


def memory_vault(folder: Path) -> VaultUnderTest:
    now = [1e9]
    vault = MemoryVault(folder / "scratch", lambda: now[0])

    def put_at(stored: StoredFile, at: float) -> None:
        now[0], before = at, now[0]
        vault.renew(stored.sha256)
        now[0] = before

    return VaultUnderTest(vault, put_at, folder / "scratch")


def object_vault(folder: Path, server: ObjectServer) -> VaultUnderTest:
    bucket = server.make_bucket()
    vault = open_object_vault(server, folder / "objects", bucket, sleep=lambda _: None)
    return VaultUnderTest(
        vault, lambda stored, at: server.set_written_at(bucket, stored.sha256, at), folder / "objects" / "scratch"
    )


@pytest.fixture(params=["folder", "memory", "object store"])
def tested(request: pytest.FixtureRequest, tmp_path: Path) -> VaultUnderTest:
    match request.param:
        case "folder":
            return folder_vault(tmp_path)
        case "memory":
            return memory_vault(tmp_path)
        case _:
            return object_vault(tmp_path, request.getfixturevalue("object_server"))


@pytest.fixture
def vault(tested: VaultUnderTest) -> Vault:
    return tested.vault


def content_of(vault: Vault, sha256: str) -> bytes | None:
    with vault.open(sha256) as path:
        return None if path is None else path.read_bytes()


def test_content_is_stored_under_its_hash(vault: Vault) -> None:
    stored = vault.put_bytes(b"pixels", "image/png")
    assert stored == StoredFile(PIXELS, 6, "image/png")
    assert stored.uri == f"artifact://{PIXELS}"
    assert content_of(vault, PIXELS) == b"pixels"


def test_an_address_has_the_name_of_the_open_file(vault: Vault) -> None:
    stored = vault.put_bytes(b"pixels", "image/png")
    address = vault.address(stored.sha256)
    assert address is not None
    assert address.name == f"{PIXELS}.png"
    assert address.uri == stored.uri
    assert address.place in (address.url, str(address.path))
    assert (address.path is None) != vault.is_local
    with vault.open(stored.sha256) as path:
        assert path is not None
        assert path.name == address.name


def test_the_same_content_can_be_put_twice(vault: Vault) -> None:
    assert vault.put_bytes(b"a", "image/png") == vault.put_bytes(b"a", "image/png")


def test_no_scratch_file_is_left(tested: VaultUnderTest) -> None:
    tested.vault.put_bytes(b"a", "image/png")
    with tested.vault.open(hashlib.sha256(b"a").hexdigest()):
        pass
    with scratch_path(tested.vault) as path:
        path.write_bytes(b"a")
        path.with_name(f"{path.name}-more").write_bytes(b"b")
    assert list(tested.scratch.iterdir()) == []


def test_scratch_files_that_a_crash_left_are_removed_by_their_age(tested: VaultUnderTest) -> None:
    old, new = tested.vault.new_scratch_path(), tested.vault.new_scratch_path()
    for path, at in ((old, 1000.0), (new, 2000.0)):
        path.write_bytes(b"")
        os.utime(path, (at, at))
    tested.vault.remove_old_scratch(before=1500)
    assert list(tested.scratch.iterdir()) == [new]


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "*" * 64, "A" * 64, "0" * 64, "0" * 63])
def test_nothing_is_found_under_what_is_no_stored_hash(vault: Vault, name: str) -> None:
    assert vault.address(name) is None
    assert content_of(vault, name) is None
    assert vault.renew(name) is None
    assert not vault.delete(name, before=1e12)


def test_a_file_is_deleted_with_its_notes_unless_it_was_put_again(tested: VaultUnderTest) -> None:
    vault, stored = tested.vault, tested.put_old(b"a", at=1000)
    vault.mark_prepared(stored.sha256, "image")
    assert vault.is_prepared(stored.sha256, "image")
    assert not vault.is_prepared(stored.sha256, "video")
    assert not vault.delete(stored.sha256, before=1000)
    assert content_of(vault, stored.sha256) == b"a"
    assert vault.delete(stored.sha256, before=1001)
    assert vault.address(stored.sha256) is None
    assert not vault.is_prepared(stored.sha256, "image")
    assert not vault.delete(stored.sha256, before=1001)


@pytest.mark.parametrize("again", ["put", "renewed"])
def test_a_file_that_is_put_or_renewed_is_new_again(tested: VaultUnderTest, again: str) -> None:
    vault, stored = tested.vault, tested.put_old(b"\x89PNG\r\n\x1a\n", at=1000)
    given = vault.put_bytes(b"\x89PNG\r\n\x1a\n", "image/png") if again == "put" else vault.renew(stored.sha256)
    assert given == stored
    assert not vault.delete(stored.sha256, before=2000)


def test_old_files_are_listed_by_their_hashes(tested: VaultUnderTest) -> None:
    vault, old, new = tested.vault, tested.put_old(b"old", at=1000), tested.put_old(b"new", at=2000)
    assert vault.hashes_older_than(1500) == [old.sha256]
    assert set(vault.hashes_older_than(2500)) == {old.sha256, new.sha256}
    assert vault.hashes_older_than(2500, old.sha256[:2]) == [old.sha256]
    assert vault.hashes_older_than(1500, new.sha256[:2]) == []


def test_what_is_held_is_in_the_vault_once_it_is_put(vault: Vault) -> None:
    assert not vault.has_files()
    stored = vault.hold_bytes(b"\x89PNG\r\n\x1a\n", "image/png")
    assert content_of(vault, stored.sha256) == b"\x89PNG\r\n\x1a\n", "it can be read at once"
    assert vault.put_held(stored.sha256) == stored
    assert vault.put_held(stored.sha256) == stored
    assert vault.put_all_held() == 0
    assert vault.has_files()
    assert vault.put_held("0" * 64) is None


def test_the_id_of_a_vault_is_what_was_written_last(vault: Vault) -> None:
    assert vault.read_id() is None
    for vault_id in ("one", "two"):
        vault.write_id(vault_id)
        assert vault.read_id() == vault_id


@pytest.mark.anyio
async def test_what_was_entered_in_a_thread_is_left_after_a_failure() -> None:
    steps: list[str] = []

    @contextmanager
    def watched() -> Iterator[str]:
        steps.append("entered")
        try:
            yield "value"
        finally:
            steps.append("left")

    async def use() -> None:
        async with enter_in_thread(watched()) as value:
            steps.append(value)
            raise StorageFailed("The disk is full.", hint="Free some space.")

    with pytest.raises(StorageFailed):
        await use()
    assert steps == ["entered", "value", "left"]


def test_a_folder_keeps_a_file_for_its_owner_only(tmp_path: Path) -> None:
    vault = FolderVault(tmp_path / "vault")
    path = stored_path(vault, vault.put_bytes(b"pixels", "image/png").sha256)
    assert path == tmp_path / "vault" / PIXELS[:2] / f"{PIXELS}.png"
    assert path.read_bytes() == b"pixels"
    assert path.stat().st_mode & 0o777 == 0o600
    with vault.open(PIXELS) as opened:
        assert opened == path


def test_only_the_path_of_a_stored_file_has_a_hash(tmp_path: Path) -> None:
    vault = FolderVault(tmp_path / "vault")
    stored = vault.put_bytes(b"a", "image/png")
    path = stored_path(vault, stored.sha256)
    twin = tmp_path / path.name
    twin.write_bytes(b"b")
    assert vault.hash_of(path) == stored.sha256
    assert vault.hash_of(twin) is None


def test_a_folder_that_cannot_be_written_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="cannot be written"):
        FolderVault(tmp_path / "file" / "vault").put_bytes(b"a", "image/png")
