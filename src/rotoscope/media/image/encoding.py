"""A decoded picture as a file again, with nothing in it but its pixels, and about as large as it came."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotoscope.media.image.layouts import PngParts

if TYPE_CHECKING:
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

__all__ = ["JpegCoding", "read_jpeg_coding", "strip_png", "write_jpeg", "write_png", "write_webp"]

_FINE_QUALITY, _FINEST_QUALITY = 92, 95  # qualities of JPEG and WEBP; losses cannot be seen
_BLOCK = 8
_SUBSAMPLING_444, _SUBSAMPLING_420 = 0, 2  # Pillow's numbers of 4:4:4 and 4:2:0
_FAST_PNG_PIXELS = 4_000_000  # above, a PNG is pressed less: a sixth of the time for a twentieth more bytes
_OPTIMIZE_PIXELS = 32_000_000
_INFLATE_BYTES = 1 << 20
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type of a PNG
_INDEXED = 3
_COLOUR_KEY_BYTES = {0: 2, 2: 6}  # bytes of the one transparent colour, by colour type
_MAX_COLOURS = 256
_LAST_FILTER = 4  # Paeth


@dataclass(frozen=True, slots=True)
class JpegCoding:
    """How finely a JPEG is coded.

    Attributes:
        tables: the quantization table of each component, 64 numbers row by row.
        sampling: of the colours, as Pillow numbers it; -1 for one that it cannot write.
        unit: width and height in pixels of what is coded together.
    """

    tables: tuple[tuple[int, ...], ...]
    sampling: int
    unit: tuple[int, int]

    def rotate(self, size: tuple[int, int], *, sideways: bool) -> "JpegCoding":
        """The coding for the picture after it was turned, mirrored or laid on its side.

        Args:
            size: the width and height that it had, in pixels.
            sideways: whether width and height change places.
        """
        if size[0] % self.unit[0] or size[1] % self.unit[1]:
            return self.refine()  # the blocks come to lie elsewhere, so what was lost once is lost again
        if not sideways:
            return self
        sampling = self.sampling if self.unit[0] == self.unit[1] else _SUBSAMPLING_444
        tables = tuple(
            tuple(table[_BLOCK * (n % _BLOCK) + n // _BLOCK] for n in range(len(table))) for table in self.tables
        )
        return JpegCoding(tables, sampling, (self.unit[1], self.unit[0]))

    def refine(self) -> "JpegCoding":
        """At least of high quality: for pixels that are no longer those that were coded."""
        fine = _fine_tables()
        tables = (
            tuple(min(pair) for pair in zip(table, fine[min(n, 1)], strict=True)) for n, table in enumerate(self.tables)
        )
        return JpegCoding(tuple(tables), self.sampling, self.unit)


def read_jpeg_coding(image: "JpegImageFile") -> JpegCoding | None:
    """How an open JPEG is coded; None where its tables do not all stand before its pixels."""
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
        coding: how finely; None for a high quality with a quarter of the colours' resolution, as a WEBP has.
    """
    target = io.BytesIO()
    if coding is None or len(coding.tables) < len(image.getbands()):
        image.save(target, "JPEG", quality=_FINE_QUALITY, subsampling=_SUBSAMPLING_420)
    elif len(coding.tables) > len(image.getbands()):  # it was made for a printing press, or is grey now
        image.save(target, "JPEG", quality=_FINEST_QUALITY, subsampling=_SUBSAMPLING_444)
    else:
        # The same tables on the same blocks: the coefficients come out as they were, and so does the size.
        sampling = coding.sampling if coding.sampling >= 0 else _SUBSAMPLING_444
        tables = [list(table) for table in coding.tables]
        # Codes of its own save a tenth, but take memory for the whole file.
        own_codes = image.width * image.height <= _OPTIMIZE_PIXELS
        image.save(target, "JPEG", qtables=tables, subsampling=sampling, optimize=own_codes)
    return target.getvalue()


def write_webp(image: "Image.Image") -> bytes:
    """The picture as a lossy WEBP whose transparency is kept as it is, also the colours below it."""
    target = io.BytesIO()
    image.save(target, "WEBP", quality=_FINE_QUALITY, method=1, exact=True)
    return target.getvalue()


def write_png(image: "Image.Image") -> bytes:
    """The picture as a PNG."""
    target = io.BytesIO()
    image.save(target, "PNG", compress_level=1 if image.width * image.height > _FAST_PNG_PIXELS else 6)
    return target.getvalue()


def strip_png(data: bytes, parts: PngParts) -> bytes | None:
    """The PNG with the chunks that make its pixels, and no other; None where it must be decoded and made anew.

    Its pressed pixels are copied byte by byte once they are proven to be nothing but pixels, by pressing them out: the
    checksum is right, each row has a filter that there is, and there are as many bytes as the size says, none behind.
    It must be made anew where they are not, where it is interlaced, or has more than 8 bits for a channel.

    Args:
        data: a PNG whose size was judged.
        parts: where its chunks are.
    """
    header = data[parts.header]
    if len(header) != 13:  # noqa: PLR2004 - as the standard says
        return None
    width, height, depth, colour, pressing, filters, interlaced = struct.unpack(">IIBBBBB", header)
    if depth > _BLOCK or colour not in _CHANNELS or pressing or filters or interlaced:
        return None
    row = 1 + (width * depth * _CHANNELS[colour] + 7) // 8
    if not _has_exact_pixels(data, parts.pixels, row, height):
        return None
    colours = _palette_chunks(data, parts, colour)
    if colours is None:
        return None
    whole = memoryview(data)  # a large file is not copied more than once
    pixels = [piece for part in parts.pixels for piece in _chunk_parts(b"IDAT", whole[part])]
    return b"".join((_SIGNATURE, _png_chunk(b"IHDR", header), *colours, *pixels, _png_chunk(b"IEND", b"")))


def _palette_chunks(data: bytes, parts: PngParts, colour: int) -> list[bytes] | None:
    """The chunks of the palette and of transparent colours; None where they are not as the standard says."""
    chunks = []
    if colour == _INDEXED:
        palette = data[parts.palette] if parts.palette is not None else b""
        if not palette or len(palette) > 3 * _MAX_COLOURS or len(palette) % 3:
            return None
        chunks.append(_png_chunk(b"PLTE", palette))
    if parts.transparency is not None:
        keys, most = data[parts.transparency], _MAX_COLOURS if colour == _INDEXED else 0
        if len(keys) not in ({_COLOUR_KEY_BYTES[colour]} if colour in _COLOUR_KEY_BYTES else range(1, most + 1)):
            return None
        chunks.append(_png_chunk(b"tRNS", keys))
    return chunks


def _has_exact_pixels(data: bytes, parts: tuple[slice, ...], row: int, height: int) -> bool:
    """Whether pressed pixels are that many rows of that many bytes, each led by the number of a filter."""
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


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return b"".join(_chunk_parts(name, body))


def _chunk_parts(name: bytes, body: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """What a chunk consists of."""
    return struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _fine_tables() -> list[list[int]]:
    """The tables of luminance and colour at high quality."""
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

    target = io.BytesIO()
    Image.new("RGB", (_BLOCK, _BLOCK)).save(target, "JPEG", quality=_FINE_QUALITY)
    return [list(table) for table in JpegImageFile(io.BytesIO(target.getvalue())).quantization.values()]
