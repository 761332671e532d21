"""What a file is, by its first bytes."""

import subprocess
import sys

import pytest

from rotoscope.errors import InvalidInput
from rotoscope.media.sniff import (
    WantedKind,
    check_head,
    content_type_of,
    extension_of,
    foreign_format,
    is_image,
    is_video,
)

_TAKEN = {
    "image/png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "image/gif": b"GIF89a\1\0\1\0",
    "image/webp": b"RIFF\x24\0\0\0WEBPVP8 ",
    "video/mp4": b"\0\0\0\x20ftypisom\0\0\2\0",
    "video/quicktime": b"\0\0\0\x14ftypqt  \0\0\0\0",
    "video/webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm",
    "audio/wav": b"RIFF\x24\0\0\0WAVEfmt ",
    "audio/mpeg": b"ID3\4\0\0\0\0\0\0",
    "audio/mp4": b"\0\0\0\x20ftypM4A \0\0\2\0",
}


@pytest.mark.parametrize(("content_type", "head"), _TAKEN.items())
def test_an_accepted_format_is_recognized_by_its_first_bytes(content_type: str, head: bytes) -> None:
    assert content_type_of(head) == content_type
    assert foreign_format(head) is None
    assert extension_of(content_type) != ".bin"


@pytest.mark.parametrize("head", [b"GIF87a\1\0\1\0", b"\0\0\0\x08wide\0\0\0\0mdat", b"\xff\xfb\x90\x44"])
def test_older_variants_of_a_format_are_recognized(head: bytes) -> None:
    assert content_type_of(head) in {"image/gif", "video/quicktime", "audio/mpeg"}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("TIFF", b"II*\0\x08\0\0\0"),
        ("BMP", b"BM\x46\0\0\0\0\0"),
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0"),
        ("AVIF", b"\0\0\0\x18ftypavif\0\0\0\0"),
        ("Matroska", b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska"),
        ("AVI", b"RIFF\x24\0\0\0AVI LIST"),
        ("PGM", b"P5\n320 240\n255\n"),
        ("PGM", b"P2\n# made by hand\n"),
        ("PPM", b"P6 4 4 255\n"),
        ("PBM", b"P4\n8 8\n"),
        ("PAM", b"P7\nWIDTH 4\n"),
        ("PFM", b"PF\n4 4\n"),
        ("BMP", b"BM\x36\x84\3\0\0\0\0\0\x36\0\0\0\x28\0\0\0"),
        ("CUR", b"\0\0\2\0\1\0"),
        ("ICNS", b"icns\0\0\1\0"),
        ("DDS", b"DDS \x7c\0\0\0"),
        ("QOI", b"qoif\0\0\0\4"),
        ("JPEG 2000", b"\xff\x4f\xff\x51\0\x2f"),
        ("OpenEXR", b"\x76\x2f\x31\x01\2\0\0\0"),
        ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0"),
        ("SVG", b'\xef\xbb\xbf<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'),
    ],
)
def test_a_format_that_is_not_accepted_has_a_name(name: str, head: bytes) -> None:
    assert content_type_of(head) is None
    assert foreign_format(head) == name


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"hello, world",
        b"%PDF-1.7",
        b"\x7fELF\2\1\1",
        b"#EXTM3U\n",
        b"ffconcat version 1.0",
        b"RIFF",
        b"\0\0\0\x20ftyp",
        b"\xff\xfb",
        b"\xff\xff\xff\xff",
        b"\xff\xeb\x90\x44",
        b"\xff\xfb\xf0\x44",
        b"\xff\xfb\x9c\x44",
        b"<html></html>",
        b"BMW sells cars",
        b"P51 is a plane",
        b"Portable",
    ],
)
def test_what_is_no_media_has_no_type(head: bytes) -> None:
    assert content_type_of(head) is None
    assert foreign_format(head) is None


_KINDS: tuple[WantedKind, ...] = ("image", "still", "visual", "video", "audio")


@pytest.mark.parametrize("kind", _KINDS)
def test_a_format_that_is_not_read_is_named_whatever_is_wanted(kind: WantedKind) -> None:
    with pytest.raises(InvalidInput, match="format PGM are not read") as refusal:
        check_head(b"P5\n320 240\n255\n", kind)
    assert refusal.value.code == "unsupported"
    assert refusal.value.hint


def test_a_file_that_is_no_medium_is_refused_by_the_wanted_kind() -> None:
    words = {
        "image": "not a picture",
        "visual": "neither a picture nor a film",
        "video": "not a video",
        "audio": "sound",
    }
    for kind in _KINDS:
        with pytest.raises(InvalidInput, match=words.get(kind, "not a picture")) as refusal:
            check_head(b"-----BEGIN OPENSSH PRIVATE KEY-----", kind)
        assert refusal.value.code == "not_media"


@pytest.mark.parametrize(("content_type", "head"), _TAKEN.items())
def test_a_medium_of_another_kind_is_refused_as_such(content_type: str, head: bytes) -> None:
    medium = content_type.partition("/")[0]
    for kind in _KINDS:
        fits = (
            kind == medium
            or (medium == "video") * (kind != "image")
            or (medium == "image") * (kind in ("still", "visual"))
        )
        if fits:
            assert check_head(head, kind) == content_type
        else:
            with pytest.raises(InvalidInput, match="is needed, and this file is a") as refusal:
                check_head(head, kind)
            assert refusal.value.code == "unsupported"


def test_content_types_are_pictures_or_videos_or_neither() -> None:
    for content_type in _TAKEN:
        medium = content_type.partition("/")[0]
        assert (is_image(content_type), is_video(content_type)) == (medium == "image", medium == "video")
    for unknown in ("image/tiff", "text/plain", None):
        assert not is_image(unknown)
        assert not is_video(unknown)
    assert extension_of("text/plain") == ".bin"
    assert extension_of("image/jpeg") == ".jpg"


def test_importing_the_pure_modules_loads_no_heavy_package() -> None:
    modules = ["media.sniff", "media.vault", "media.edit_masks", "media.image.pictures", "media.image.masks",
               "media.image.coco", "media.image.previews", "models.captions", "providers.http.egress"]  # fmt: skip
    code = "".join(f"import rotoscope.{name}\n" for name in modules)
    code += "import sys; print({'PIL', 'numpy', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
