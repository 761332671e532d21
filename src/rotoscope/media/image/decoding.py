"""The four decoders of pictures, and the checks of a file before one of them sees it.

The parts of the file are counted, its header is read, and the memory that decoding will take is computed.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, TooLarge
from rotoscope.media.image.encoding import JpegCoding, read_jpeg_coding
from rotoscope.media.image.layouts import JpegScans, PictureLayout, read_layout
from rotoscope.media.sniff import HEAD_BYTES, check_head

if TYPE_CHECKING:
    from PIL import Image, ImageFile

__all__ = [
    "DEFAULT_PICTURE_LIMITS",
    "PLAIN_MODES",
    "SIDEWAYS",
    "UPRIGHT",
    "OpenPicture",
    "PictureLimits",
    "load_pixels",
    "map_decoder_errors",
    "open_picture",
]

PLAIN_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
"""The modes of Pillow that the other modules handle."""

UPRIGHT = 1
"""The EXIF orientation of a picture that need not be turned."""

SIDEWAYS = range(5, 9)
"""The EXIF orientations that swap width and height."""

_ORIENTATION = 0x0112  # the EXIF tag
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}  # in Pillow's memory, for a pixel; 4 in every other mode
_COEFFICIENT_SIZE = 2  # bytes of a coefficient in the JPEG decoder
_WEBP_BYTES = 12  # bytes per pixel: the decoder's two canvases and the picture
_OVERHEAD_BYTES = 16_000_000  # bytes that are held beside the pixels and the file
_MAX_PROFILE_BYTES = 8_000_000  # bytes; the profiles of printing presses have 2 or 3 MB
_STRIP_ROWS = 512  # rows that are hashed at once, so that the pixels are not copied as a whole
_JPEG_END = b"\xff\xd9"
# Put in place of a missing end of a JPEG: if the pixels change with it, some of them were missing.
_PROBE_BITS = b"\x5a\xc3\x96\x0f\xa5\x3c\x69\xf0" * 32


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """How large a picture may be.

    The memory of decoding decides: all bytes that are held at once, which are those of the pixels, of the file and of
    the file that is written. A pixel takes 1 byte in grey and in palettes, 2 in 16-bit grey and 4 in colour; as much
    again where the picture must be turned or is in CMYK; 2 more for every coefficient of a progressive JPEG (3 to 6
    bytes for a pixel in colour); 12 in all in a WEBP, whose decoder holds three copies. So a colour picture may have
    59 megapixels; 29 where it must be turned; 24 as a WEBP.

    Attributes:
        megapixels: millions of pixels of the first picture.
        side: pixels along the longer side.
        aspect: longer side over shorter side.
        memory: millions of bytes that decoding may take.
        webp_memory: the same for a WEBP, so that one with the 24 megapixels of a camera is accepted.
    """

    megapixels: int = 64
    side: int = 16384
    aspect: int = 100
    memory: int = 256
    webp_memory: int = 312


DEFAULT_PICTURE_LIMITS = PictureLimits()


@dataclass(frozen=True, slots=True, eq=False)
class OpenPicture:
    """A picture whose parts were counted and whose header was checked; no pixel of it is decoded yet.

    Attributes:
        image: as Pillow opened it.
        content_type: by its first bytes.
        layout: how the file is built.
        orientation: EXIF's, 1 to 8.
        profile: the ICC profile; empty without one.
        coding: how finely a JPEG is coded, where that is known.
    """

    image: "ImageFile.ImageFile"
    content_type: str
    layout: PictureLayout
    orientation: int
    profile: bytes
    coding: JpegCoding | None


@contextmanager
def map_decoder_errors(limits: PictureLimits) -> Iterator[None]:
    """Turn what decoders raise on hostile or broken bytes into our own errors.

    Args:
        limits: its megapixels are named in the error for a picture that is far too large.
    """
    from PIL import Image

    try:
        yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        message = f"The picture has far more than {limits.megapixels} megapixels, the most that is read."
        raise TooLarge(message, hint="Give a smaller version of the picture.") from error
    except _DECODER_ERRORS as error:
        message = "The picture is broken or incomplete and cannot be decoded."
        raise InvalidInput(message, code="corrupt", hint="Save or download the picture again.") from error


def open_picture(data: bytes, limits: PictureLimits) -> OpenPicture:
    """Open a picture: count its parts, read its header, check its size and the memory that it will take.

    Raises:
        InvalidInput: `not_media` or `unsupported`.
        TooLarge: more parts, pixels or memory, a longer side or a narrower shape than the limits allow.
    """
    content_type = check_head(data[:HEAD_BYTES], "image")
    layout = read_layout(data, content_type)
    profile = _png_profile(data, layout)
    if layout.size is not None:
        _check_dimensions(layout.size, limits)
        _check_memory_need(
            layout.size, layout.size[0] * layout.size[1] * _WEBP_BYTES, 2 * len(data), limits.webp_memory
        )
    # Pillow's own `open` refuses the largest pictures before it reports how large they are, and it reads the further
    # pictures that cameras append to a JPEG; the decoder class alone does neither.
    image = _load_decoders()[content_type](io.BytesIO(_repair_file(data, layout)))
    _check_dimensions(image.size, limits)
    found = image.info.get("icc_profile")
    profile = profile or (found if isinstance(found, bytes) else b"")
    coding = read_jpeg_coding(image) if layout.jpeg is not None else None  # type: ignore[arg-type]  # then it is a JPEG
    picture = OpenPicture(image, content_type, layout, _read_orientation(image, data, layout), profile, coding)
    _check_decode_memory(picture, len(data), limits)
    return picture


def _repair_file(data: bytes, layout: PictureLayout) -> bytes:
    """The file without what would make its decoder refuse it: a missing end marker, or the profile of a PNG."""
    if layout.jpeg is not None and not layout.jpeg.has_end_marker:
        return data[: layout.jpeg.end] + _JPEG_END
    if layout.png is not None and layout.png.profile is not None:
        # Pillow refuses the picture when its profile is broken or large.
        return data[: layout.png.profile.start - 8] + data[layout.png.profile.stop + 4 :]
    return data


def _png_profile(data: bytes, layout: PictureLayout) -> bytes:
    """The profile of a PNG, unpacked; its chunk has a name, a zero, the method (always zero) and the packed profile."""
    if layout.png is None or layout.png.profile is None:
        return b""
    _, _, packed = data[layout.png.profile].partition(b"\0")
    try:
        return zlib.decompressobj().decompress(packed[1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return b""


def load_pixels(picture: OpenPicture, data: bytes) -> "Image.Image":
    """The decoded pixels, in the mode of the file; of an animated picture, the first.

    Args:
        picture: can be used once.
        data: its file.

    Raises:
        EOFError: some pixels are missing. Decoders raise many other errors: use it inside `map_decoder_errors`.
    """
    if picture.content_type == "image/webp":
        return _load_webp_pixels(picture.image)
    scans = picture.layout.jpeg
    if scans is None or scans.has_end_marker:
        picture.image.load()
        return picture.image
    other = _load_decoders()["image/jpeg"](io.BytesIO(data[: scans.end] + _PROBE_BITS + _JPEG_END))
    expected = _pixel_hash(other) if scans.is_complete else None
    del other
    if _pixel_hash(picture.image) != expected:
        raise EOFError
    return picture.image


def _pixel_hash(image: "ImageFile.ImageFile") -> bytes:
    """A hash of all pixels.

    A JPEG without an end marker has all its pixels if they are the same whatever bytes follow: missing ones would be
    decoded from those.
    """
    image.load()
    found = hashlib.blake2b()
    for top in range(0, image.height, _STRIP_ROWS):
        found.update(image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height))).tobytes())
    return found.digest()


def _load_webp_pixels(image: "ImageFile.ImageFile") -> "Image.Image":
    """The first picture of a WEBP.

    Not by `load`, which holds four copies of it: the decoder's two, what that returns, and what Pillow makes of it.
    """
    from PIL import Image

    decoder = vars(image).pop("_decoder")
    found = decoder.get_next()
    del decoder
    if found is None:
        raise EOFError
    mode = vars(image)["rawmode"]
    pixels = Image.frombuffer(mode, image.size, found[0], "raw", mode, 0, 1)
    return pixels.convert("RGB") if mode == "RGBX" else pixels


def _load_decoders() -> dict[str, type["ImageFile.ImageFile"]]:
    import warnings

    from PIL import Image
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    # For the whole process: filters that are set and reset around each picture would not be safe with threads.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # remarks on broken metadata
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    return {
        "image/png": PngImageFile,
        "image/jpeg": JpegImageFile,
        "image/webp": WebPImageFile,
        "image/gif": GifImageFile,
    }


def _check_dimensions(size: tuple[int, int], limits: PictureLimits) -> None:
    """Raise `TooLarge` for a size (width and height in pixels) above the limits."""
    short, long = sorted(size)
    shape = f"The picture is {size[0]} x {size[1]} pixels"
    if long > limits.side:
        message = f"{shape}; at most {limits.side} along a side are read."
        raise TooLarge(message, hint="Give a smaller version of the picture.")
    if long > limits.aspect * short:
        message = f"{shape}; one side may be at most {limits.aspect} times the other."
        raise TooLarge(message, hint="Give a part of the picture that is less narrow.")
    megapixels = short * long / 1e6
    if megapixels > limits.megapixels:
        message = f"{shape}, {megapixels:.1f} megapixels in all; at most {limits.megapixels} are read."
        raise TooLarge(message, hint="Give a smaller version of the picture.")


def _check_decode_memory(picture: OpenPicture, size: int, limits: PictureLimits) -> None:
    """Raise `TooLarge` where decoding would take more memory than the limits allow, by the bytes held per pixel."""
    image, is_webp = picture.image, picture.content_type == "image/webp"
    stored = _MODE_BYTES.get(image.mode, 4)
    while_decoding = _WEBP_BYTES if is_webp else stored + _coefficient_bytes(picture.layout.jpeg)
    plain = stored if image.mode in PLAIN_MODES else _MODE_BYTES.get("L", 4) if image.mode.startswith("I") else 4
    copied = stored + plain + (stored if image.mode.startswith("I") else 0) if image.mode not in PLAIN_MODES else stored
    turned = plain * (2 if picture.orientation != UPRIGHT else 1)
    needed = image.width * image.height * max(while_decoding, copied, turned)
    why = " and must be turned" if turned > max(while_decoding, plain) else ""
    files = size if picture.content_type == "image/gif" else 2 * size  # the source and the result
    _check_memory_need(image.size, needed, files, limits.webp_memory if is_webp else limits.memory, why)


def _check_memory_need(size: tuple[int, int], pixels: float, files: int, most: int, why: str = "") -> None:
    """Raise `TooLarge` for what needs more than `most` millions of bytes, for its pixels and its files (bytes)."""
    needed = pixels + files + _OVERHEAD_BYTES
    if needed > most * 1e6:
        raise TooLarge(
            f"The picture is {size[0]} x {size[1]} pixels{why}: it takes {needed / 1e6:.0f} MB of memory with its "
            f"file, and at most {most} MB are spent on one.",
            hint="Give a smaller version of the picture.",
        )


def _coefficient_bytes(scans: JpegScans | None) -> float:
    """The bytes per pixel that a JPEG's decoder holds until it has read the last scan."""
    return _COEFFICIENT_SIZE * scans.samples if scans is not None and (scans.progressive or scans.count > 1) else 0.0


def _read_orientation(image: "ImageFile.ImageFile", data: bytes, layout: PictureLayout) -> int:
    """The EXIF orientation, 1 to 8; 1 when there is none or none that can be read."""
    from PIL import Image

    try:
        if layout.png is not None and layout.png.exif is not None:  # it may come after the pixels
            exif = Image.Exif()
            exif.load(data[layout.png.exif])
        else:
            # Not the PNG's own method, which would decode the pixels of every picture without EXIF.
            exif = Image.Image.getexif(image)
        value = exif.get(_ORIENTATION, UPRIGHT)
    except _DECODER_ERRORS:
        return UPRIGHT
    return int(value) if value in range(1, 9) else UPRIGHT
