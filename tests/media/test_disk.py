"""Durable files on systems that the tests do not run on: their answers are simulated."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from vaults import stored_path

from rotoscope.errors import StorageFailed
from rotoscope.media.disk import Disk, system_disk
from rotoscope.media.vault import FolderVault


def _ignore(_: int) -> None:
    pass


def _fsync_of_windows(opened: int) -> None:
    """What `_commit` of Microsoft's runtime does with a descriptor that cannot be written."""
    if fcntl.fcntl(opened, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")


def _refusing(code: int) -> Callable[[int], None]:
    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def test_a_file_is_flushed_through_a_descriptor_that_is_open_for_writing(tmp_path: Path) -> None:
    vault = FolderVault(tmp_path / "vault", Disk(_fsync_of_windows, None, can_open_folders=False))
    kept = vault.put_bytes(b"content", "image/png")
    vault.write_id("an id")
    assert stored_path(vault, kept.sha256).read_bytes() == b"content"
    assert vault.read_id() == "an id"


def test_the_drive_itself_is_waited_for_where_the_system_can(tmp_path: Path) -> None:
    waited: list[int] = []
    FolderVault(tmp_path, Disk(_refusing(errno.EIO), waited.append, can_open_folders=True)).put_bytes(
        b"content", "image/png"
    )
    assert len(waited) == 2, "the file, and the folder with its name"


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_file_system_without_a_full_flush_is_flushed_as_usual(tmp_path: Path, code: int) -> None:
    flushed: list[int] = []
    FolderVault(tmp_path, Disk(flushed.append, _refusing(code), can_open_folders=True)).put_bytes(
        b"content", "image/png"
    )
    assert len(flushed) == 2


def test_a_disk_that_fails_is_a_storage_failure_and_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        FolderVault(tmp_path, Disk(_refusing(errno.EIO), None, can_open_folders=True)).put_bytes(
            b"content", "image/png"
        )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_files_and_folders_are_flushed_on_this_system(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"content")
    system_disk().flush_file(file)
    system_disk().flush_folder(tmp_path)


def test_no_folder_is_opened_where_folders_cannot_be_flushed(tmp_path: Path) -> None:
    Disk(_ignore, None, can_open_folders=False).flush_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        Disk(_ignore, None, can_open_folders=True).flush_folder(tmp_path / "nowhere")
