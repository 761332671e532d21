"""What paths and file URLs mean, on Windows and elsewhere."""

import pytest

from rotoscope.errors import InvalidInput, UnsafeSource
from rotoscope.media.paths import check_path_name, path_of_url


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///C:/Users/a/b.png", "C:/Users/a/b.png"),
        ("FILE:///c:/b%20c.png", "c:/b c.png"),
        ("file://localhost/C:/b.png", "C:/b.png"),
        ("file:///C|/b.png", "C:/b.png"),
        ("file:////C:/b.png", "C:/b.png"),
        ("file://C:/b.png", "C:/b.png"),
        ("file:///C:", "C:/"),
        ("file:///Users/a/b.png", "/Users/a/b.png"),
    ],
)
def test_a_drive_in_a_url_is_a_drive_on_windows(url: str, path: str) -> None:
    assert path_of_url(url, windows=True) == path


@pytest.mark.parametrize("url", ["file:///C:/b.png", "file:///a%20b.png"])
def test_a_colon_is_an_ordinary_character_elsewhere(url: str) -> None:
    assert path_of_url(url, windows=False) in {"/C:/b.png", "/a b.png"}


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("url", ["file://server/share/b.png", "file://10.0.0.1/c$/b.png"])
def test_a_url_of_another_machine_is_refused(url: str, *, windows: bool) -> None:
    with pytest.raises(UnsafeSource, match="another machine"):
        path_of_url(url, windows=windows)


@pytest.mark.parametrize("url", ["file:////server/share/b.png", r"file:///\\server\share\b.png", "file:///%5C%5Cs%5Cb"])
def test_another_machine_is_not_reached_by_an_empty_host_on_windows(url: str) -> None:
    with pytest.raises(UnsafeSource, match="another machine"):
        check_path_name(path_of_url(url, windows=True), windows=True)


@pytest.mark.parametrize(
    "path", [r"\\server\share\b.png", "//server/share/b.png", r"\\?\C:\b.png", r"\\.\pipe\x", r"\\?\UNC\server\b.png"]
)
def test_a_path_of_another_machine_or_device_is_refused_before_it_is_looked_at(path: str) -> None:
    with pytest.raises(UnsafeSource, match="another machine"):
        check_path_name(path, windows=True)


@pytest.mark.parametrize(
    "path", ["CON", r"C:\a\nul.png", "com1", "LPT9.txt", r"C:\a.png:stream", "a.png::$DATA", "aux .png", "conin$"]
)
def test_devices_and_second_streams_are_no_files(path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_path_name(path, windows=True)
    assert caught.value.code == "path_invalid"


@pytest.mark.parametrize("path", [r"C:\Users\a\b.png", "C:/a/b.png", "b.png", r"..\console.png", "communication.png"])
def test_plain_paths_are_accepted(path: str) -> None:
    check_path_name(path, windows=True)


@pytest.mark.parametrize("path", ["//tmp/a.png", "/a/con", "/a/b.png:x"])
def test_these_are_ordinary_names_elsewhere(path: str) -> None:
    check_path_name(path, windows=False)
