"""How a picture file is built, found by reading its parts one after the other; nothing is decoded.

Decoders do work for every scan, segment, chunk and block of a file, however small the picture is. So the parts are
counted before a decoder sees the file, and a file with too many is refused. The same reading finds what decoders do not
report: whether a JPEG is complete, whether a WEBP was coded with loss, whether a picture is animated, and which chunks
of a PNG are its pixels.
"""

import re
from dataclasses import dataclass, field

from rotoscope.errors import TooLarge

__all__ = ["JpegScans", "PictureLayout", "PngParts", "read_layout"]

_MAX_SCANS = 64  # of a JPEG; a progressive one has about ten
_MAX_SEGMENTS = 10_000  # of a JPEG; real files have far fewer
_MAX_CHUNKS = 100_000  # of a PNG: with the usual 8 kB in each, a file of 800 MB
_MAX_BLOCKS = 1_000_000  # of a GIF: with the usual 255 bytes in each, a file of 255 MB
_MAX_FRAMES = 20_000  # chunks of a WEBP: 11 minutes at 30 frames a second

# Coded pixels never look like a marker: there, 0xFF is followed by 0 or by the number of a restart (D0 to D7).
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_START_MARKER, _END_MARKER, _SCAN_MARKER, _BARE_MARKER = 0xD8, 0xD9, 0xDA, 0x01
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE_MARKERS = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_COEFFICIENTS = 64
_MAX_HEADER_BYTES = 256  # bytes of the header of a frame or a scan that are read; it has at most 4 components


@dataclass(slots=True)
class JpegScans:
    """The scans of a JPEG.

    Attributes:
        progressive: whether the decoder must hold every coefficient until the end.
        samples: values per pixel: 3 for colours in full resolution, 1.5 for colours in a quarter of it.
        end: where the coded pixels end in the file, in bytes: behind the end marker, or where one should be.
        has_end_marker: whether there is an end marker.
        count: how many scans there are.
        missing_bits: by component, for each coefficient how many of its bits have not been read yet; None: all.
    """

    progressive: bool = False
    samples: float = 1.0
    end: int = 0
    has_end_marker: bool = False
    count: int = 0
    missing_bits: dict[int, list[int | None]] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether the last scan of every component is there, or at least its beginning."""
        return bool(self.missing_bits) and all(bits == 0 for missing in self.missing_bits.values() for bits in missing)


@dataclass(frozen=True, slots=True)
class PngParts:
    """The chunks of a PNG that make its pixels, each as the range of its body; None where there is none."""

    header: slice
    palette: slice | None
    transparency: slice | None
    profile: slice | None
    exif: slice | None
    pixels: tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class PictureLayout:
    """How a picture file is built.

    Attributes:
        is_animated: whether there are further pictures after the first.
        lossy: whether the first picture was coded with loss.
        size: width and height of the canvas of a WEBP, in pixels; None where only the decoder knows it.
        jpeg: the scans, of a JPEG.
        png: the chunks, of a PNG that has a header.
    """

    is_animated: bool = False
    lossy: bool = False
    size: tuple[int, int] | None = None
    jpeg: JpegScans | None = None
    png: PngParts | None = None


def read_layout(data: bytes, content_type: str) -> PictureLayout:
    """Read how a picture file is built. A broken file gives what could be read: its decoder will refuse it.

    Args:
        data: the file.
        content_type: one of the four picture types that are accepted.

    Raises:
        TooLarge: it has more parts than any real picture.
    """
    walks = {"image/jpeg": _walk_jpeg, "image/png": _walk_png, "image/gif": _walk_gif, "image/webp": _walk_webp}
    return walks[content_type](data)


def _too_many_parts(what: str, most: int) -> TooLarge:
    return TooLarge(
        f"The picture file consists of more than {most} {what}, so it is not decoded.",
        hint="Save the picture anew with a usual program.",
    )


def _walk_jpeg(data: bytes) -> PictureLayout:
    scans, place, segments = JpegScans(), 2, 0
    while found := _MARKER.search(data, place):
        segments += 1
        if segments > _MAX_SEGMENTS:
            raise _too_many_parts("segments", _MAX_SEGMENTS)
        code, place = found[1][0], found.end()
        if code in (_START_MARKER, _END_MARKER):  # without its end marker, the first picture ends where a second begins
            scans.has_end_marker = code == _END_MARKER
            scans.end = place if scans.has_end_marker else found.start()
            return PictureLayout(lossy=True, jpeg=scans)
        if code == _BARE_MARKER:
            continue
        length = int.from_bytes(data[place : place + 2], "big")
        _record_segment(scans, code, data[place + 2 : place + min(length, _MAX_HEADER_BYTES)])
        place += length
    scans.end = len(data.rstrip(b"\xff")) if data.endswith(b"\xff") else len(data)  # without half of an end marker
    return PictureLayout(lossy=True, jpeg=scans)


def _record_segment(scans: JpegScans, code: int, body: bytes) -> None:
    if code in _FRAME_MARKERS and len(body) >= 6:  # noqa: PLR2004 - depth, height, width and the number of components
        scans.progressive = code in _PROGRESSIVE_MARKERS
        parts = [body[at : at + 3] for at in range(6, 6 + 3 * min(body[5], 4), 3)]
        sizes = {part[0]: (part[1] >> 4) * (part[1] & 15) for part in parts if len(part) == 3}  # noqa: PLR2004
        scans.samples = sum(sizes.values()) / max(*sizes.values(), 1) if len(sizes) > 1 else 1.0
        scans.missing_bits = {name: [None] * _COEFFICIENTS for name in sizes}
    elif code == _SCAN_MARKER:
        scans.count += 1
        if scans.count > _MAX_SCANS:
            raise _too_many_parts("scans", _MAX_SCANS)
        _record_scan(scans, body)


def _record_scan(scans: JpegScans, body: bytes) -> None:
    """Record which coefficients of which components a scan holds, and how many of their lowest bits it leaves out."""
    count = body[0] if body else 0
    if len(body) < 4 + 2 * count:
        return
    first, last, bits = body[1 + 2 * count : 4 + 2 * count]
    if not scans.progressive:
        first, last, bits = 0, _COEFFICIENTS - 1, 0
    for name in body[1 : 1 + 2 * count : 2]:
        missing = scans.missing_bits.get(name, [])
        for number in range(first, min(last + 1, len(missing))):
            missing[number] = bits & 15


def _walk_png(data: bytes) -> PictureLayout:
    found: dict[bytes, slice] = {}
    pixels: list[slice] = []
    moving, place, chunks = False, 8, 0
    while place + 8 <= len(data):
        chunks += 1
        if chunks > _MAX_CHUNKS:
            raise _too_many_parts("chunks", _MAX_CHUNKS)
        name, start = data[place + 4 : place + 8], place + 8
        place = start + int.from_bytes(data[place : place + 4], "big") + 4
        body = slice(start, min(place - 4, len(data)))
        if name == b"IDAT":
            pixels.append(body)
        elif name == b"acTL":
            moving = int.from_bytes(data[start : start + 4], "big") > 1
        elif name == b"IEND":
            break
        else:
            found.setdefault(name, body)
    palette, transparency, profile, exif = (found.get(name) for name in (b"PLTE", b"tRNS", b"iCCP", b"eXIf"))
    header = found.get(b"IHDR")
    parts = PngParts(header, palette, transparency, profile, exif, tuple(pixels)) if header else None
    return PictureLayout(moving, png=parts)


def _walk_gif(data: bytes) -> PictureLayout:
    flags = data[10] if len(data) > 10 else 0  # noqa: PLR2004 - behind the size of the screen
    place, blocks, pictures = 13 + _colour_table_bytes(flags), 0, 0
    while place + 10 < len(data) and data[place] in b"!,":
        if data[place] == ord("!"):
            place += 2
        else:
            pictures += 1
            place += 11 + _colour_table_bytes(data[place + 9])
        if pictures > 1:
            break
        while place < len(data) and data[place]:
            blocks += 1
            if blocks > _MAX_BLOCKS:
                raise _too_many_parts("blocks", _MAX_BLOCKS)
            place += 1 + data[place]
        place += 1
    return PictureLayout(is_animated=pictures > 1)


def _colour_table_bytes(flags: int) -> int:
    """The size of a table of colours, in bytes."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _walk_webp(data: bytes) -> PictureLayout:
    place, chunks, frames, lossy = 12, 0, 0, None
    while place + 8 <= len(data):
        chunks += 1
        if chunks > _MAX_FRAMES:
            raise _too_many_parts("chunks", _MAX_FRAMES)
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if name == b"ANMF":
            frames += 1
            lossy = _is_lossy_frame(data, place + 24, place + 8 + size) if lossy is None else lossy
        elif name in (b"VP8 ", b"VP8L") and lossy is None:
            lossy = name == b"VP8 "
        place += 8 + size + size % 2
    return PictureLayout(is_animated=frames > 1, lossy=bool(lossy), size=_webp_canvas_size(data))


def _webp_canvas_size(data: bytes) -> tuple[int, int] | None:
    """The size of a WEBP by its first chunk: the decoder allocates memory for it before it reports it."""
    name, body = data[12:16], data[20:30]
    if len(body) < 10:  # noqa: PLR2004 - what the longest of the three headers takes
        return None
    if name == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if name == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None


def _is_lossy_frame(data: bytes, place: int, end: int) -> bool:
    """Whether the picture of a frame is lossy; its transparency may come before it."""
    if data[place : place + 4] == b"ALPH":
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return place < end and data[place : place + 4] == b"VP8 "
