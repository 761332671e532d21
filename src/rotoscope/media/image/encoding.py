"""Encoding a picture to a file that holds nothing but its pixels and is about as large as the original."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotoscope.media.image.layouts import PngParts

if TYPE_CHECKING:
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

__all__ = [
    "PNG_SIGNATURE",
    "JpegCoding",
    "png_chunk",
    "read_jpeg_coding",
    "strip_png",
    "write_jpeg",
    "write_png",
    "write_webp",
]

_FINE_QUALITY, _FINEST_QUALITY = 92, 95  # of 100, of JPEG and WEBP; losses cannot be seen
_BLOCK = 8  # pixels along a side of a block of a JPEG
_SUBSAMPLING_444, _SUBSAMPLING_420 = 0, 2  # Pillow's numbers of 4:4:4 and 4:2:0
_FAST_PNG_PIXELS = 4_000_000  # pixels; above, a PNG is packed less: a sixth of the time for a twentieth more bytes
_OPTIMIZE_PIXELS = 32_000_000  # pixels; above, the memory for the best codes of a JPEG is not spent
_INFLATE_BYTES = 1 << 20  # bytes of pixels that are unpacked at once
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type of a PNG
_INDEXED = 3
_COLOUR_KEY_BYTES = {0: 2, 2: 6}  # bytes of the one transparent colour, by the colour type of a PNG
_MAX_COLOURS = 256
_LAST_FILTER = 4  # Paeth


@dataclass(frozen=True, slots=True)
class JpegCoding:
    """How finely a JPEG is coded.

    Attributes:
        tables: the quantization table of each component, 64 numbers row by row.
        sampling: the chroma subsampling as Pillow numbers it; -1 for one that it cannot write.
        unit: width and height in pixels of the blocks that are coded together.
    """

    tables: tuple[tuple[int, ...], ...]
    sampling: int
    unit: tuple[int, int]

    def rotate(self, size: tuple[int, int], *, sideways: bool) -> "JpegCoding":
        """The coding for the picture after it was turned or mirrored.

        Args:
            size: the width and height that it had, in pixels.
            sideways: whether width and height change places.
        """
        if size[0] % self.unit[0] or size[1] % self.unit[1]:
            return self.refine()  # the blocks lie elsewhere now, so the same tables would lose as much again
        if not sideways:
            return self
        sampling = self.sampling if self.unit[0] == self.unit[1] else _SUBSAMPLING_444
        tables = tuple(
            tuple(table[_BLOCK * (n % _BLOCK) + n // _BLOCK] for n in range(len(table))) for table in self.tables
        )
        return JpegCoding(tables, sampling, (self.unit[1], self.unit[0]))

    def refine(self) -> "JpegCoding":
        """The coding with tables of at least high quality: for pixels that have changed since they were coded."""
        fine = _fine_tables()
        tables = (
            tuple(min(pair) for pair in zip(table, fine[min(n, 1)], strict=True)) for n, table in enumerate(self.tables)
        )
        return JpegCoding(tuple(tables), self.sampling, self.unit)


def read_jpeg_coding(image: "JpegImageFile") -> JpegCoding | None:
    """How an open JPEG is coded; None where some of its tables come after the first pixels."""
    from PIL.JpegImagePlugin import get_sampling

    layers = image.layer
    if not all(layer[3] in image.quantization for layer in layers):
        return None
    tables = tuple(tuple(image.quantization[layer[3]]) for layer in layers)
    unit = (_BLOCK * max(layer[1] for layer in layers), _BLOCK * max(layer[2] for layer in layers))
    return JpegCoding(tables, get_sampling(image) if len(layers) > 1 else _SUBSAMPLING_444, unit)


def write_jpeg(image: "Image.Image", coding: JpegCoding | None = None) -> bytes:
    """The picture as a JPEG.

    Args:
        image: of mode L or RGB.
        coding: how finely; None for high quality with the colours in a quarter of the resolution, as in a WEBP.
    """
    target = io.BytesIO()
    if coding is None or len(coding.tables) < len(image.getbands()):
        image.save(target, "JPEG", quality=_FINE_QUALITY, subsampling=_SUBSAMPLING_420)
    elif len(coding.tables) > len(image.getbands()):  # it was in CMYK, or is grey now
        image.save(target, "JPEG", quality=_FINEST_QUALITY, subsampling=_SUBSAMPLING_444)
    else:
        # The same tables on the same blocks give the same coefficients, and the same size.
        sampling = coding.sampling if coding.sampling >= 0 else _SUBSAMPLING_444
        tables = [list(table) for table in coding.tables]
        # Codes made for this picture save a tenth of the bytes, but take memory for the whole file.
        own_codes = image.width * image.height <= _OPTIMIZE_PIXELS
        image.save(target, "JPEG", qtables=tables, subsampling=sampling, optimize=own_codes)
    return target.getvalue()


def write_webp(image: "Image.Image") -> bytes:
    """The picture as a lossy WEBP; its transparency is kept without loss, and the colours below it too."""
    target = io.BytesIO()
    image.save(target, "WEBP", quality=_FINE_QUALITY, method=1, exact=True)
    return target.getvalue()


def write_png(image: "Image.Image") -> bytes:
    """The picture as a PNG."""
    target = io.BytesIO()
    image.save(target, "PNG", compress_level=1 if image.width * image.height > _FAST_PNG_PIXELS else 6)
    return target.getvalue()


def strip_png(data: bytes, parts: PngParts) -> bytes | None:
    """The PNG with the chunks that make its pixels, and no other; None where it must be decoded and encoded again.

    Its packed pixels are copied byte by byte once unpacking has proved that they are nothing but pixels: the checksum
    is right, each row has one of the five filters, and there are exactly as many bytes as the size asks for. It must be
    encoded again where that is not so, where it is interlaced, or where it has more than 8 bits per channel.

    Args:
        data: a PNG whose size was checked.
        parts: where its chunks are.
    """
    header = data[parts.header]
    if len(header) != 13:  # noqa: PLR2004 - as the standard says
        return None
    width, height, depth, colour, packing, filters, interlaced = struct.unpack(">IIBBBBB", header)
    if depth > _BLOCK or colour not in _CHANNELS or packing or filters or interlaced:
        return None
    row = 1 + (width * depth * _CHANNELS[colour] + 7) // 8
    if not _has_exact_pixels(data, parts.pixels, row, height):
        return None
    colours = _palette_chunks(data, parts, colour)
    if colours is None:
        return None
    whole = memoryview(data)  # a large file is not copied more than once
    pixels = [piece for part in parts.pixels for piece in _chunk_parts(b"IDAT", whole[part])]
    return b"".join((PNG_SIGNATURE, png_chunk(b"IHDR", header), *colours, *pixels, png_chunk(b"IEND", b"")))


def _palette_chunks(data: bytes, parts: PngParts, colour: int) -> list[bytes] | None:
    """The chunks of the palette and of transparent colours; None where they break the standard."""
    chunks = []
    if colour == _INDEXED:
        palette = data[parts.palette] if parts.palette is not None else b""
        if not palette or len(palette) > 3 * _MAX_COLOURS or len(palette) % 3:
            return None
        chunks.append(png_chunk(b"PLTE", palette))
    if parts.transparency is not None:
        keys, most = data[parts.transparency], _MAX_COLOURS if colour == _INDEXED else 0
        if len(keys) not in ({_COLOUR_KEY_BYTES[colour]} if colour in _COLOUR_KEY_BYTES else range(1, most + 1)):
            return None
        chunks.append(png_chunk(b"tRNS", keys))
    return chunks


def _has_exact_pixels(data: bytes, parts: tuple[slice, ...], row: int, height: int) -> bool:
    """Whether packed pixels are `height` rows of `row` bytes, each beginning with the number of a filter."""
    inflater, count, whole = zlib.decompressobj(), 0, memoryview(data)
    try:
        for part in parts:
            rest: bytes | memoryview = whole[part]
            while rest and count <= row * height:
                pixels = inflater.decompress(rest, _INFLATE_BYTES)
                rest = inflater.unconsumed_tail
                if max(pixels[-count % row :: row], default=0) > _LAST_FILTER:
                    return False
                count += len(pixels)
    except zlib.error:
        return False
    return inflater.eof and not inflater.unused_data and count == row * height


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG: length, name of four letters, content, checksum."""
    return b"".join(_chunk_parts(name, body))


def _chunk_parts(name: bytes, body: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """The parts of a chunk: length, name, content, checksum."""
    return struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _fine_tables() -> list[list[int]]:
    """The tables of luminance and colour at high quality."""
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

    target = io.BytesIO()
    Image.new("RGB", (_BLOCK, _BLOCK)).save(target, "JPEG", quality=_FINE_QUALITY)
    return [list(table) for table in JpegImageFile(io.BytesIO(target.getvalue())).quantization.values()]
