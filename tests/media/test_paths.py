"""Which local files may be read."""

import os
import unicodedata
from pathlib import Path

import pytest

from rotoscope.errors import InvalidInput, TooLarge, UnsafeSource
from rotoscope.media.paths import Roots, default_roots, open_local_file

LIMIT = 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"content")
    return folder


def read(text: str | Path, root: Path) -> bytes:
    with open_local_file(str(text), Roots((root,), root), LIMIT) as file:
        return file.read()


@pytest.mark.parametrize(
    "text", ["a.png", "./a.png", "{root}/a.png", "file://{root}/a.png", "../pictures/a.png",
             "file://localhost{root}/a.png", "FILE://{root}/%61.png"],
)  # fmt: skip
def test_a_file_inside_the_root_is_read_however_it_is_written(root: Path, text: str) -> None:
    assert read(text.format(root=root), root) == b"content"


def test_a_missing_file_is_a_clear_error(root: Path) -> None:
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


def test_a_link_that_leads_outside_is_refused(root: Path) -> None:
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
    ["a\x00.png", "x" * 5000, "~root/a.png", "~root", "a.png/", "sub/",
     "~nobody-of-that-name/a.png", "half\ud83d.png", "file://[x", "file:///a%00.png",
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


def test_the_root_of_the_file_system_is_no_default_root(tmp_path: Path) -> None:
    """Hosts start servers there, and service accounts live there: that would open everything."""
    (tmp_path / "top").symlink_to("/")
    assert default_roots(Path("/"), tmp_path).folders == (tmp_path,)
    assert default_roots(tmp_path, Path("/")).folders == (tmp_path,)
    assert default_roots(Path("/"), tmp_path / "top").folders == ()
    assert default_roots(tmp_path / "work", tmp_path).folders == (tmp_path / "work", tmp_path)


def test_a_path_that_begins_with_a_tilde_starts_at_the_home_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    assert read("~/a.png", root) == b"content"


_NAMES = [
    ("Shot at 10.30.45 AM.png", "Shot at 10.30.45\u202fAM.png"),
    ("Capture d\u2019\u00e9cran \u00e0 10.png", "Capture d\u2019e\u0301cran a\u0300\u00a010.png"),
    ("PHOTO-1.jpg", "\u200ePHOTO-1.jpg"),
    ("a b c.png", "a\u2009b\u3000c.png"),
    ("\u1112\u1161\u11ab.png", "\ud55c.png"),
    ("\u212b.png", "\u00c5.png"),
    ("x\u00a0y.png", "x y.png"),
    ("soft\u00adhyphen\ufeff.png", "softhyphen.png"),
]


@pytest.mark.parametrize(("given", "kept"), [*_NAMES, *(pair[::-1] for pair in _NAMES)])
def test_a_name_that_looks_the_same_is_found_when_it_is_the_only_one(root: Path, given: str, kept: str) -> None:
    folder = root / f"in {kept.partition('.')[0]}"
    folder.mkdir()
    (folder / kept).write_bytes(b"kept")
    (folder / "other.png").write_bytes(b"other")
    assert read(folder / given, root) == b"kept"
    assert read(f"in {given.partition('.')[0]}/{given}", root) == b"kept"


def test_of_two_names_that_look_the_same_none_is_chosen(root: Path) -> None:
    for blank in "\u202f\u00a0":
        (root / f"Shot{blank}1.png").write_bytes(b"x")
    with pytest.raises(InvalidInput) as caught:
        read("Shot 1.png", root)
    assert caught.value.code == "path_missing"
    (root / "Shot 1.png").write_bytes(b"exact")
    assert read("Shot 1.png", root) == b"exact"


@pytest.mark.parametrize(("given", "kept"), [("photo.PNG", "Photo.png"), ("it's.png", "it\u2019s.png"),
                                             ("a-b.png", "a\u2013b.png"), ("\uff42.png", "B.png")])  # fmt: skip
def test_a_name_that_is_nearly_the_same_is_named_and_not_read(root: Path, given: str, kept: str) -> None:
    (root / kept).write_bytes(b"kept")
    with pytest.raises(InvalidInput) as caught:
        read(given, root)
    assert repr(kept) in caught.value.hint


def test_a_name_that_looks_the_same_opens_nothing_that_its_own_name_would_not(root: Path) -> None:
    (root.parent / "outside.png").write_bytes(b"secret")
    (root / "li nk.png").symlink_to(root.parent / "outside.png")
    (root / ".hi dden.png").write_bytes(b"secret")
    for text in ("li\u00a0nk.png", "\u200b.hi dden.png"):
        with pytest.raises((UnsafeSource, InvalidInput)):
            read(text, root)


@pytest.mark.parametrize("fault", [OSError(22, "Invalid argument"), OSError(40, "loop"), ValueError("surrogate")])
def test_a_path_that_changes_while_it_is_resolved_is_a_clear_error(root: Path, fault: Exception) -> None:
    def resolve(path: Path) -> str:
        raise fault

    with pytest.raises(InvalidInput, match="cannot be followed") as caught:
        open_local_file("a.png", Roots((root,), root), LIMIT, resolve)
    assert caught.value.code == "path_invalid"


def test_a_name_that_is_too_long_is_a_clear_error(root: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read("x" * 300 + ".png", root)
    assert caught.value.code in {"path_invalid", "path_missing"}


@pytest.mark.parametrize("swapped", ["sub", "sub/deep", "sub/deep/a.png"])
def test_a_link_that_replaces_a_checked_folder_is_not_followed(root: Path, swapped: str) -> None:
    outside = root.parent / "outside"
    for folder in (root / "sub" / "deep", outside / "deep"):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(b"secret" if "outside" in str(folder) else b"content")
    target = outside.joinpath(*Path(swapped).parts[1:])

    def resolve(path: Path) -> str:
        """What an attacker waits for: the path was judged, and is not open yet."""
        real = os.path.realpath(path)
        if str(path).endswith("a.png") and not (root / swapped).is_symlink():
            (root / swapped).rename(root / "away")
            (root / swapped).symlink_to(target)
        return real

    with pytest.raises((UnsafeSource, InvalidInput)):
        open_local_file("sub/deep/a.png", Roots((root,), root), LIMIT, resolve).close()
    assert (root / swapped).resolve() == target


def test_a_system_that_opens_by_whole_paths_only_compares_what_it_opened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "supports_dir_fd", frozenset())
    assert read("a.png", root) == b"content"
    (root / "sub").mkdir()
    (root / "sub" / "a.png").write_bytes(b"content")
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "a.png").write_bytes(b"secret")

    def resolve(path: Path) -> str:
        real = os.path.realpath(path)
        if (root / "sub").is_dir() and not (root / "sub").is_symlink() and str(path).endswith("a.png"):
            (root / "sub").rename(root / "away")
            (root / "sub").symlink_to(root.parent / "outside")
        return real

    with pytest.raises(InvalidInput, match="cannot be followed"):
        open_local_file("sub/a.png", Roots((root,), root), LIMIT, resolve)


def test_a_folder_that_may_be_entered_but_not_listed_is_entered(root: Path) -> None:
    (root / "closed").mkdir()
    (root / "closed" / "a.png").write_bytes(b"content")
    (root / "closed").chmod(0o111)
    assert read("closed/a.png", root) == b"content"
    (root / "closed").chmod(0o700)


def test_the_names_in_these_tests_look_the_same() -> None:
    assert all(given != kept for given, kept in _NAMES)
    assert unicodedata.normalize("NFC", _NAMES[4][0]) == _NAMES[4][1]
