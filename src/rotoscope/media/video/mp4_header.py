"""What the header of an MP4 or QuickTime file claims, read from its boxes before any decoder sees it.

Some tables take a few bytes in the file and gigabytes in memory: a size and a count stand for a list of samples. Here
their entries are only counted. A box is a length of four bytes, a name of four letters, and its content.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

__all__ = ["HeaderClaims", "read_header_claims"]

_MAX_BOXES = 200_000  # in a file; a fragmented video of an hour has some ten thousand
_MAX_DEPTH = 12  # boxes inside each other; real files have about eight
_BOX_HEAD_BYTES = 96  # bytes of a box that are read, unless it is the table of chunks
_MAX_RUNS = 1 << 16  # entries of the table of chunks that are read
_PCM_ENTRY_SAMPLES = 1024  # samples of uncompressed sound that FFmpeg puts into one entry of its list

# Boxes that hold boxes, with the number of bytes before the first.
_CONTAINER_BOXES = {
    **dict.fromkeys(
        (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"edts", b"mvex", b"moof", b"traf", b"tref", b"udta"), 0
    ),
    **dict.fromkeys((b"tapt", b"sinf", b"schi", b"wave"), 0),
    b"stsd": 8,
}
# Where FFmpeg looks for a header when there is none in its place.
_FALLBACK_CONTAINER_BOXES = _CONTAINER_BOXES | {b"free": 0, b"hoov": 0}
_TABLE_BOXES = (b"tkhd", b"stsd", b"hdlr", b"stsz", b"stz2", b"stts", b"stsc", b"stco", b"co64", b"trun", b"cmov")


class _MalformedBoxes(Exception):
    """The boxes do not fit into each other."""


@dataclass(slots=True)
class HeaderClaims:
    """What a header claims of its file.

    Attributes:
        tracks: how many tracks there are.
        width: of the largest picture of any track, in pixels; 0 without one.
        height: of the largest picture of any track, in pixels; 0 without one.
        entries: how many entries the lists of samples would have in memory.
        is_consistent: False when boxes contradict each other or are compressed.
    """

    tracks: int = 0
    width: int = 0
    height: int = 0
    entries: int = 0
    is_consistent: bool = True


@dataclass(slots=True)
class _Track:
    """The tables of one track from which its number of samples follows."""

    kinds: set[bytes] = field(default_factory=set)
    samples: int = 0
    chunks: int = 0
    max_chunk_samples: int = 0
    times: list[tuple[int, int]] = field(default_factory=list)

    def entries(self) -> int:
        # One sample a tick is uncompressed sound, with thousands of samples a second: FFmpeg lists its chunks instead.
        sounds = b"soun" in self.kinds and b"vide" not in self.kinds
        if sounds and len(self.times) == 1 and self.times[0][1] == 1:
            return self.chunks * -(-self.max_chunk_samples // _PCM_ENTRY_SAMPLES)
        return self.samples


def read_header_claims(file: BinaryIO) -> HeaderClaims:
    """Read what an MP4 or QuickTime file claims; the file may be hostile, broken or cut off.

    Args:
        file: open for reading; it is left at an unknown place.
    """
    try:
        claims = _collect_claims(file, _CONTAINER_BOXES)
        return claims if claims.tracks else _collect_claims(file, _FALLBACK_CONTAINER_BOXES)
    except _MalformedBoxes:
        return HeaderClaims(is_consistent=False)


def _collect_claims(file: BinaryIO, holders: dict[bytes, int]) -> HeaderClaims:
    claims = HeaderClaims()
    track = _Track()
    for name, start, stop in _walk_boxes(file, file.seek(0, 2), holders):
        if name == b"trak":
            claims.tracks += 1
            claims.entries += track.entries()
            track = _Track()
        elif name in _TABLE_BOXES:
            file.seek(start)
            _record_box(claims, track, name, file.read(min(stop - start, _read_length(name))))
    claims.entries += track.entries()
    return claims


def _walk_boxes(file: BinaryIO, end: int, holders: dict[bytes, int]) -> Iterator[tuple[bytes, int, int]]:
    """Every box that is reached through known boxes: its name, and where its content starts and stops (bytes)."""
    todo = [(0, end, 0)]
    seen = 0
    while todo:
        place, stop, depth = todo.pop()
        if stop - place < 8:  # noqa: PLR2004 - a length and a name
            continue
        name, start, after = _read_box(file, place, stop)
        seen += 1
        if seen > _MAX_BOXES or depth > _MAX_DEPTH:
            raise _MalformedBoxes
        todo.append((after, stop, depth))
        if name in holders:
            todo.append((start + holders[name], after, depth + 1))
        yield name, start, after


def _read_box(file: BinaryIO, place: int, stop: int) -> tuple[bytes, int, int]:
    """The box at a place: its name, where its content starts and where it stops; a box that is cut off stops early."""
    file.seek(place)
    head = file.read(16)
    size, start = _big_endian(head, 0), place + 8
    if size == 1:
        size, start = _big_endian(head, 8, 8), place + 16
    after = stop if size == 0 else place + size
    if after < start:
        return head[4:8], stop, stop  # FFmpeg stops here, too
    return head[4:8], min(start, stop), min(after, stop)


def _read_length(name: bytes) -> int:
    return 8 + 12 * _MAX_RUNS if name == b"stsc" else _BOX_HEAD_BYTES


def _record_box(claims: HeaderClaims, track: _Track, name: bytes, body: bytes) -> None:
    """Add what one box claims."""
    match name:
        case b"tkhd":
            wide = 88 if body[:1] == b"\1" else 76  # version 1 has three times of eight bytes
            _record_picture_size(claims, _big_endian(body, wide, 2), _big_endian(body, wide + 4, 2))
        case b"hdlr":
            track.kinds.add(body[8:12])
        case b"stsd" if b"vide" in track.kinds:
            _record_picture_size(claims, _big_endian(body, 40, 2), _big_endian(body, 42, 2))
        case b"stsz" | b"stz2":
            track.samples = max(track.samples, _big_endian(body, 8))
        case b"stts":
            track.times = [(_big_endian(body, 8), _big_endian(body, 12))] * min(_big_endian(body, 4), 2)
        case b"stsc":
            runs = range(8, len(body) - 11, 12)
            track.max_chunk_samples = max([track.max_chunk_samples, *(_big_endian(body, place + 4) for place in runs)])
        case b"stco" | b"co64":
            track.chunks = max(track.chunks, _big_endian(body, 4))
        case b"trun":
            claims.entries += _big_endian(body, 4)
        case b"cmov":
            raise _MalformedBoxes  # a compressed header: its size is known only once it is unpacked


def _record_picture_size(claims: HeaderClaims, width: int, height: int) -> None:
    if width * height > claims.width * claims.height:
        claims.width, claims.height = width, height


def _big_endian(body: bytes, place: int, size: int = 4) -> int:
    """A big-endian number; what is cut off counts as zero."""
    return int.from_bytes(body[place : place + size].ljust(size, b"\0"), "big")
