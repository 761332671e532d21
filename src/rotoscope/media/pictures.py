"""The one place where pictures are decoded: budget first, then pixels, upright, and nothing but pixels.

Every untrusted picture comes through here. Only four decoders are ever loaded (PNG, JPEG, WEBP, GIF); the header is
judged before any pixel is decoded; EXIF orientation is applied here and nowhere else; what leaves `clean` carries no
metadata and nothing that was appended to the file.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, TooLarge
from rotoscope.media.sniff import content_type_of, foreign_format, is_image

if TYPE_CHECKING:
    from PIL import Image, ImageFile

__all__ = [
    "DEFAULT_LIMITS",
    "CleanPicture",
    "Limits",
    "check_size",
    "clean",
    "decode",
    "make_upright",
    "orientation_of",
]

_SNIFFED_BYTES = 512
_ORIENTATION = 0x0112
_SIDEWAYS = range(5, 9)  # the orientations that swap width and height
_BROKEN = (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, OverflowError, struct.error, zlib.error)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a picture may be.

    Attributes:
        megapixels: millions of pixels over all frames.
        side: pixels along the longer side.
        aspect: longer side over shorter side.
    """

    megapixels: int = 64
    side: int = 16384
    aspect: int = 100


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class CleanPicture:
    """A picture written anew: upright, without metadata. `width` and `height` are in pixels."""

    content: bytes
    content_type: str
    width: int
    height: int


def check_size(data: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Judge a picture by its header.

    Returns:
        Width and height in pixels of the upright picture, that is after EXIF orientation.

    Raises:
        InvalidInput: `not_media`, `unsupported` or `corrupt`.
        TooLarge: more pixels, a longer side or a longer strip than the limits allow.
    """
    with _broken_is_corrupt(limits):
        image = _opened(data, limits)
        width, height = image.size
        return (height, width) if _orientation(image, data) in _SIDEWAYS else (width, height)


def orientation_of(data: bytes, limits: Limits = DEFAULT_LIMITS) -> int:
    """The EXIF orientation of a picture, 1 to 8; 1 is upright, and where it says nothing.

    Raises:
        InvalidInput, TooLarge: as for `check_size`.
    """
    with _broken_is_corrupt(limits):
        return _orientation(_opened(data, limits), data)


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> "Image.Image":
    """Decode a picture, upright; of an animation, the first frame.

    Returns:
        An image of mode 1, L, LA, P, RGB or RGBA: as it was stored, so that the ids of a palette mask survive.
        It carries no metadata but the transparent colour of a palette.

    Raises:
        InvalidInput: `not_media`, `unsupported` or `corrupt` (also when the data ends early).
        TooLarge: as for `check_size`; raised before any pixel is decoded.
    """
    with _broken_is_corrupt(limits):
        image = _opened(data, limits)
        image.load()
        return _bare(make_upright(_plain(image), _orientation(image, data)))


def clean(data: bytes, limits: Limits = DEFAULT_LIMITS) -> CleanPicture:
    """Decode a picture and write it anew, so that only its pixels leave.

    A JPEG stays a JPEG (quality 95, full colour resolution); all else becomes a PNG with its pixel values kept.

    Raises:
        InvalidInput: as for `decode`.
        TooLarge: as for `decode`.
    """
    image = decode(data, limits)
    target = io.BytesIO()
    if content_type_of(data[:_SNIFFED_BYTES]) == "image/jpeg":
        image.save(target, "JPEG", quality=95, subsampling=0)
        return CleanPicture(target.getvalue(), "image/jpeg", *image.size)
    image.save(target, "PNG")
    return CleanPicture(target.getvalue(), "image/png", *image.size)


@contextmanager
def _broken_is_corrupt(limits: Limits) -> Iterator[None]:
    """Turn what decoders raise on hostile or broken bytes into our own errors."""
    from PIL import Image

    try:
        yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        message = f"The picture has far more than {limits.megapixels} megapixels, the most that is read."
        raise TooLarge(message, hint="Give a smaller version of the picture.") from error
    except _BROKEN as error:
        message = "The picture is broken or incomplete and cannot be decoded."
        raise InvalidInput(message, code="corrupt", hint="Save or download the picture again.") from error


def _opened(data: bytes, limits: Limits) -> "ImageFile.ImageFile":
    """The picture with its header read and its size judged."""
    # Pillow's own `open` refuses the largest pictures before it says how large they are, and it looks at the further
    # pictures that cameras append to a JPEG; the decoder itself does neither.
    image = _decoders()[_picture_type(data)](io.BytesIO(data))
    _judge(image.size, 1, limits)  # before the frames are counted: a GIF's are found by walking through the file
    _judge(image.size, int(getattr(image, "n_frames", 1)), limits)
    return image


def _picture_type(data: bytes) -> str:
    """The content type of a picture that we take."""
    head = data[:_SNIFFED_BYTES]
    content_type = content_type_of(head)
    if content_type is not None and is_image(content_type):
        return content_type
    hint = "Give a PNG, JPEG, WEBP or GIF picture."
    if content_type is not None:
        kind = content_type.partition("/")[0]
        raise InvalidInput(f"This file holds {kind}, and a picture is needed.", code="unsupported", hint=hint)
    foreign = foreign_format(head)
    if foreign is not None:
        raise InvalidInput(f"Files of the format {foreign} are not read.", code="unsupported", hint=hint)
    raise InvalidInput("This is not a picture.", code="not_media", hint=hint)


def _decoders() -> dict[str, type["ImageFile.ImageFile"]]:
    import warnings

    from PIL import Image
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    # For the whole process: filters that are set and reset around each picture would not be safe among threads.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # remarks on broken metadata
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    return {
        "image/png": PngImageFile,
        "image/jpeg": JpegImageFile,
        "image/webp": WebPImageFile,
        "image/gif": GifImageFile,
    }


def _judge(size: tuple[int, int], frames: int, limits: Limits) -> None:
    """Refuse what is larger than the limits."""
    short, long = sorted(size)
    shape = f"The picture is {size[0]} x {size[1]} pixels"
    if long > limits.side:
        message = f"{shape}; at most {limits.side} along a side are read."
        raise TooLarge(message, hint="Give a smaller version of the picture.")
    if long > limits.aspect * short:
        message = f"{shape}; one side may be at most {limits.aspect} times the other."
        raise TooLarge(message, hint="Give a part of the picture that is less narrow.")
    megapixels = short * long * frames / 1e6
    if megapixels > limits.megapixels:
        many = f" in {frames} frames" if frames > 1 else ""
        message = f"{shape}{many}, {megapixels:.1f} megapixels in all; at most {limits.megapixels} are read."
        raise TooLarge(message, hint="Give a smaller version of the picture.")


def _orientation(image: "ImageFile.ImageFile", data: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 when there is none or none that can be read."""
    from PIL import Image

    if b"eXIf" in data:
        image.load()  # a PNG may tell it after the pixels
    try:
        # Not the PNG's own method, which would decode the pixels of every picture without EXIF.
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
    return int(value) if value in range(1, 9) else 1


def make_upright(image: "Image.Image", orientation: int) -> "Image.Image":
    """A picture of this EXIF orientation, as it is stored, made upright as its camera meant it to be seen."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _plain(image: "Image.Image") -> "Image.Image":
    """The picture in one of the six modes that the rest of the house knows."""
    if image.mode in {"1", "L", "LA", "P", "RGB", "RGBA"}:
        return image
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    # Sixteen bits of grey. Where no value needs more than eight, they are the ids of a label map and stay as they are.
    _, top = image.convert("I").getextrema()
    step = 1 if isinstance(top, int | float) and top <= 255 else 256  # noqa: PLR2004 - the largest value of a byte
    return image.convert("I").point(lambda value: value * (1 / step)).convert("L")


def _bare(image: "Image.Image") -> "Image.Image":
    """A copy that knows its pixels and, for a palette, the transparent colour, and nothing else of the file."""
    bare = image.copy()
    bare.info = {name: value for name, value in image.info.items() if name == "transparency"}
    return bare
