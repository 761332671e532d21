"""The one place where pictures are decoded: budget first, then pixels, upright, and nothing but pixels.

Every untrusted picture comes through here. Only four decoders are ever loaded (PNG, JPEG, WEBP, GIF); the parts of the
file are counted and its header is judged before any pixel is decoded; EXIF orientation is applied here and nowhere
else; what leaves `clean_picture` carries no metadata and nothing that was appended to the file.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotoscope.media.image.colours import convert_to_srgb, is_noop_profile
from rotoscope.media.image.decoding import (
    DEFAULT_PICTURE_LIMITS,
    PLAIN_MODES,
    SIDEWAYS,
    UPRIGHT,
    OpenPicture,
    PictureLimits,
    check_picture_type,
    load_pixels,
    map_decoder_errors,
    open_picture,
)
from rotoscope.media.image.encoding import strip_png, write_jpeg, write_png, write_webp

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "DEFAULT_PICTURE_LIMITS",
    "CleanPicture",
    "PictureLimits",
    "check_picture_type",
    "clean_picture",
    "decode_upright",
    "make_upright",
    "read_exif_orientation",
    "read_picture_size",
]

_FEW_COLOURS = 256


@dataclass(frozen=True, slots=True)
class CleanPicture:
    """A picture written anew: upright, in sRGB, without metadata.

    `width` and `height` are in pixels; `notes`: what the user should know of how it was read.
    """

    content: bytes
    content_type: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


def read_picture_size(data: bytes, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> tuple[int, int]:
    """Judge a picture by its header.

    Returns:
        Width and height in pixels of the upright picture, that is after EXIF orientation.

    Raises:
        InvalidInput: `not_media`, `unsupported` or `corrupt`.
        TooLarge: more parts, pixels, memory, a longer side or a longer strip than the limits allow.
    """
    with map_decoder_errors(limits):
        picture = open_picture(data, limits)
        width, height = picture.image.size
        return (height, width) if picture.orientation in SIDEWAYS else (width, height)


def read_exif_orientation(data: bytes, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> int:
    """The EXIF orientation of a picture, 1 to 8; 1 is upright, and where it says nothing.

    Raises:
        InvalidInput, TooLarge: as for `read_picture_size`.
    """
    with map_decoder_errors(limits):
        return open_picture(data, limits).orientation


def decode_upright(
    data: bytes, limits: PictureLimits = DEFAULT_PICTURE_LIMITS, *, exact: bool = False
) -> "Image.Image":
    """Decode a picture, upright; of one that moves, the first picture.

    Its numbers are those of the file: a profile is not applied.

    Args:
        data: the file.
        limits: how large it may be.
        exact: for a mask, whose numbers may be those of objects: grey of sixteen bits stays so.

    Returns:
        An image of mode 1, L, LA, P, RGB or RGBA, if `exact` also I;16: as it was stored, so that ids survive.
        It carries no metadata but the transparent colour of a palette.

    Raises:
        InvalidInput: `not_media`, `unsupported` or `corrupt` (also when the data ends early).
        TooLarge: as for `read_picture_size`; raised before any pixel is decoded.
    """
    with map_decoder_errors(limits):
        picture = open_picture(data, limits)
        return make_upright(
            _strip_metadata(_to_plain_mode(load_pixels(picture, data), exact=exact)), picture.orientation
        )


def clean_picture(data: bytes, limits: PictureLimits = DEFAULT_PICTURE_LIMITS, *, exact: bool = False) -> CleanPicture:
    """Decode a picture and write it anew, so that only its pixels leave, upright and in sRGB.

    It leaves about as large as it came, and loses nothing that can be seen:

    - A JPEG is coded again with its own tables on its own blocks, which gives the coefficients that it had. The coded
      pixels are not copied instead: between them there is room for more than pixels. Where its colours changed or
      its blocks moved, the tables are made at least those of quality 92.
    - A PNG keeps its pressed pixels, byte by byte, without every other chunk, once they are proven to be nothing else.
      One that is turned, interlaced, of other colours than sRGB or of more than 8 bits is made anew.
    - A WEBP with loss becomes a JPEG of quality 92, which every model reads; with transparency, a WEBP of that quality;
      with few flat colours, as a mask has, a PNG.
    - All else becomes a PNG with its values kept: a WEBP without loss, the first picture of a GIF.

    Args:
        data: the file.
        limits: how large it may be.
        exact: for a mask: its profile is not applied, and grey of sixteen bits stays so.

    Raises:
        InvalidInput: as for `decode_upright`.
        TooLarge: as for `decode_upright`.
    """
    with map_decoder_errors(limits):
        picture = open_picture(data, limits)
        bare = _copy_png_pixels(picture, data)
        if bare is not None:
            return CleanPicture(bare, "image/png", *picture.image.size, _picture_notes(picture))
        image = load_pixels(picture, data)
        is_new = image.mode not in PLAIN_MODES
        converted = convert_to_srgb(image, picture.profile) if picture.profile and not exact else None
        image = _to_plain_mode(converted or image, exact=exact)
        is_new = is_new or converted is not None
        size, image = image.size, make_upright(_strip_metadata(image), picture.orientation)
        if picture.orientation != UPRIGHT:
            picture.image.close()  # its pixels, which lie there a second time now
        content, content_type = _encode_picture(image, picture, size, is_new=is_new)
        return CleanPicture(content, content_type, *image.size, _picture_notes(picture))


def _picture_notes(picture: OpenPicture) -> tuple[str, ...]:
    if not picture.layout.is_animated:
        return ()
    kind = picture.content_type.partition("/")[2].upper()
    return (f"The picture moves (it is a {kind} of several pictures); only its first picture is used.",)


def _copy_png_pixels(picture: OpenPicture, data: bytes) -> bytes | None:
    """A PNG without its metadata; None where its pixels must change, or it is none."""
    if picture.layout.png is None or picture.orientation != UPRIGHT:
        return None
    if picture.profile and not is_noop_profile(picture.image.mode, picture.profile):
        return None
    return strip_png(data, picture.layout.png)


def _encode_picture(
    image: "Image.Image", picture: OpenPicture, size: tuple[int, int], *, is_new: bool
) -> tuple[bytes, str]:
    """The picture as a file; `size` is the one that it had before it was turned, `is_new`: its values changed."""
    layout = picture.layout
    if layout.jpeg is not None:
        coding = picture.coding
        if coding is not None and is_new:
            coding = coding.refine()
        if coding is not None and picture.orientation != UPRIGHT:
            coding = coding.rotate(size, sideways=picture.orientation in SIDEWAYS)
        return write_jpeg(image, coding), "image/jpeg"
    if layout.lossy and image.getcolors(_FEW_COLOURS) is None:
        if image.mode == "RGB" or _is_opaque(image):
            return write_jpeg(image.convert("RGB")), "image/jpeg"
        return write_webp(image), "image/webp"
    return write_png(image), "image/png"


def _is_opaque(image: "Image.Image") -> bool:
    return image.getchannel("A").getextrema() == (255, 255)


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


def _to_plain_mode(image: "Image.Image", *, exact: bool = False) -> "Image.Image":
    """The picture in one of the six modes that the rest of the house knows; where it must be exact, in a seventh."""
    from PIL import Image

    if image.mode in PLAIN_MODES or (exact and image.mode == "I;16"):
        return image
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    # Sixteen bits of grey. Where no value needs more than eight, they are the ids of a label map and stay as they are.
    _, top = image.getextrema()
    if isinstance(top, int | float) and top <= 255:  # noqa: PLR2004 - the largest value of a byte
        return image.convert("L")
    return Image.frombytes("L", image.size, image.tobytes()[1::2])  # the high bytes


def _strip_metadata(image: "Image.Image") -> "Image.Image":
    """The same pixels with, for a palette, the transparent colour, and nothing else of the file.

    What a decoder gives knows the whole file; its pixels are not copied.
    """
    image.load()
    bare = image._new(image.im)  # noqa: SLF001 - what `copy` does, without the copy
    bare.info = {name: value for name, value in image.info.items() if name == "transparency"}
    return bare
