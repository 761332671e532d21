"""Which local files may be read."""

import os
from pathlib import Path

import pytest

from rotoscope.errors import InvalidInput, TooLarge, UnsafeSource
from rotoscope.media.paths import Roots, default_roots, open_file

LIMIT = 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"content")
    return folder


def read(text: str | Path, root: Path) -> bytes:
    with open_file(str(text), Roots((root,), root), LIMIT) as file:
        return file.read()


@pytest.mark.parametrize(
    "text", ["a.png", "./a.png", "{root}/a.png", "file://{root}/a.png", "../pictures/a.png",
             "file://localhost{root}/a.png", "FILE://{root}/%61.png"],
)  # fmt: skip
def test_a_file_inside_the_root_is_read_however_it_is_written(root: Path, text: str) -> None:
    assert read(text.format(root=root), root) == b"content"


def test_a_missing_file_is_told(root: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read("none.png", root)
    assert caught.value.code == "path_missing"


def test_a_folder_is_no_file(root: Path) -> None:
    with pytest.raises(InvalidInput, match="is a folder") as caught:
        read(root, root)
    assert caught.value.code == "path_invalid"


def test_a_pipe_is_refused_without_waiting_for_its_other_end(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    with pytest.raises(InvalidInput, match="no regular file"):
        read("pipe.png", root)


@pytest.mark.parametrize("text", ["/etc/passwd", "../outside.png", "../pictures-too/a.png", "/nowhere/at/all.png"])
def test_a_path_outside_is_refused_whether_it_exists_or_not(root: Path, text: str) -> None:
    (root.parent / "outside.png").write_bytes(b"secret")
    (root.parent / "pictures-too").mkdir()
    (root.parent / "pictures-too" / "a.png").write_bytes(b"secret")
    with pytest.raises(UnsafeSource, match="outside"):
        read(text, root)


@pytest.mark.parametrize("text", [".ssh/id_rsa.png", ".hidden.png", "sub/.git/a.png"])
def test_a_hidden_path_is_refused(root: Path, text: str) -> None:
    file = root / text
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"secret")
    with pytest.raises(UnsafeSource, match="Hidden"):
        read(text, root)


def test_a_link_that_leads_outside_is_judged_by_where_it_leads(root: Path) -> None:
    (root.parent / "outside.png").write_bytes(b"secret")
    (root / "link.png").symlink_to(root.parent / "outside.png")
    with pytest.raises(UnsafeSource):
        read("link.png", root)


def test_a_link_inside_the_root_is_followed(root: Path) -> None:
    (root / "link.png").symlink_to(root / "a.png")
    assert read("link.png", root) == b"content"


def test_a_file_larger_than_the_limit_is_not_read(root: Path) -> None:
    (root / "large.png").write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(TooLarge):
        read("large.png", root)


@pytest.mark.parametrize(
    "text",
    ["a\x00.png", "x" * 5000, "~nobody-of-that-name/a.png", "half\ud83d.png", "file://[x", "file:///a%00.png",
     "file:///%00", "file:///" + "x" * 5000],
)  # fmt: skip
def test_a_text_that_is_no_path_is_refused(root: Path, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(text, root)
    assert caught.value.code == "path_invalid"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "user@localhost", "localhost:80"])
def test_a_link_to_a_file_of_another_machine_is_not_read_as_one_of_this(root: Path, host: str) -> None:
    with pytest.raises(UnsafeSource, match="another machine"):
        read(f"file://{host}{root}/a.png", root)


def test_the_top_of_the_file_system_is_no_default_root(tmp_path: Path) -> None:
    """Hosts start servers there, and service accounts live there: that would open everything."""
    (tmp_path / "top").symlink_to("/")
    assert default_roots(Path("/"), tmp_path).folders == (tmp_path,)
    assert default_roots(tmp_path, Path("/")).folders == (tmp_path,)
    assert default_roots(Path("/"), tmp_path / "top").folders == ()
    assert default_roots(tmp_path / "work", tmp_path).folders == (tmp_path / "work", tmp_path)


def test_a_path_that_begins_with_a_tilde_starts_at_the_home_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    assert read("~/a.png", root) == b"content"
