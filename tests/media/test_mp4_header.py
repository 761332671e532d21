"""What the header of an MP4 claims."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.media.video.mp4_header import HeaderClaims, read_header_claims


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name + body


def _numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def _track(kind: bytes, *tables: bytes, long: bool = False) -> bytes:
    head = _box(b"tkhd", bytes([long]) + bytes(87 if long else 75), _numbers(320 << 16, 200 << 16))
    handler = _box(b"hdlr", bytes(8), kind, bytes(12))
    return _box(b"trak", head, _box(b"mdia", handler, _box(b"minf", _box(b"stbl", *tables))))


def _claims(*boxes: bytes) -> HeaderClaims:
    return read_header_claims(io.BytesIO(b"".join((_box(b"ftyp", b"isom"), *boxes))))


_STSZ = _box(b"stsz", _numbers(0, 0, 70))


@pytest.mark.parametrize("long", [False, True])
def test_the_size_and_the_samples_of_a_track_are_read(long: bool) -> None:
    claims = _claims(_box(b"moov", _box(b"mvhd", bytes(100)), _track(b"vide", _STSZ, long=long)))
    assert claims == HeaderClaims(1, 320, 200, 70)


def test_the_picture_of_a_sample_entry_counts_as_well() -> None:
    entry = struct.pack(">I", 80) + b"avc1" + bytes(24) + struct.pack(">HH", 4000, 3000) + bytes(44)
    claims = _claims(_box(b"moov", _track(b"vide", _box(b"stsd", _numbers(0, 1), entry), _STSZ)))
    assert (claims.width, claims.height) == (4000, 3000)


def test_uncompressed_sound_is_counted_by_its_chunks() -> None:
    tables = (
        _box(b"stts", _numbers(0, 1, 90_000_000, 1)),
        _box(b"stsc", _numbers(0, 2, 1, 24_000, 1, 3600, 100, 1)),
        _box(b"stsz", _numbers(0, 4, 90_000_000)),
        _box(b"stco", _numbers(0, 3600)),
    )
    assert _claims(_box(b"moov", _track(b"soun", *tables))).entries == 3600 * 24
    assert _claims(_box(b"moov", _track(b"vide", *tables))).entries == 90_000_000


def test_tracks_and_fragments_add_up() -> None:
    fragment = _box(b"moof", _box(b"traf", _box(b"trun", _numbers(1, 30))))
    claims = _claims(_box(b"moov", _track(b"vide", _STSZ), _track(b"soun", _STSZ)), fragment, fragment)
    assert (claims.tracks, claims.entries) == (2, 200)


def test_a_long_box_and_one_up_to_the_end_are_followed() -> None:
    moov = _box(b"moov", _track(b"vide", _STSZ))
    wide = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"xxxxx"
    endless = _numbers(0) + moov[4:]
    assert _claims(wide, moov).entries == 70
    assert _claims(wide, endless).entries == 70


def test_a_header_in_a_free_box_is_found_when_there_is_no_other() -> None:
    hidden = _box(b"free", _track(b"vide", _STSZ))
    assert _claims(hidden).entries == 70
    assert _claims(hidden, _box(b"moov", _track(b"vide", _box(b"stsz", _numbers(0, 0, 3))))).entries == 3


def test_a_compressed_header_is_not_read() -> None:
    assert not _claims(_box(b"moov", _box(b"cmov", bytes(20)))).is_consistent


def test_boxes_that_are_nested_too_deeply_are_not_read() -> None:
    inner = b""
    for _ in range(40):
        inner = _box(b"moov", inner)
    assert not _claims(inner).is_consistent


@pytest.mark.parametrize("size", [2, 7, 0xFFFFFFFF])
def test_a_box_with_an_impossible_length_ends_the_reading(size: int) -> None:
    assert _claims(_numbers(size) + b"moov" + bytes(30)) == HeaderClaims()


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    names = data.replace(b"\x01", b"trak").replace(b"\x02", b"\0\0\0\x20moov").replace(b"\x03", b"stsz")
    assert read_header_claims(io.BytesIO(names)).entries >= 0
