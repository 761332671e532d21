"""The one place where pictures are decoded: first its size is checked, then its pixels are decoded and made upright.

Every untrusted picture is decoded here. Only four decoders are ever loaded (PNG, JPEG, WEBP, GIF); the parts of the
file are counted and its header is checked before any pixel is decoded; EXIF orientation is applied here and nowhere
else; what `clean_picture` returns has no metadata and nothing that was appended to the file.
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
    "clean_picture",
    "decode_upright",
    "make_upright",
    "read_exif_orientation",
    "read_picture_size",
]

_FEW_COLOURS = 256  # a picture with no more colours is a mask or a drawing: as a PNG it is sharper and smaller


@dataclass(frozen=True, slots=True)
class CleanPicture:
    """A cleaned picture file: upright, in sRGB, without metadata.

    `width` and `height` are in pixels; `notes`: what the user should know of how it was read.
    """

    content: bytes
    content_type: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


def read_picture_size(data: bytes, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> tuple[int, int]:
    """The size of a picture, by its header.

    Returns:
        Width and height in pixels of the upright picture, that is after EXIF orientation.

    Raises:
        InvalidInput: `not_media`, `unsupported` or `corrupt`.
        TooLarge: more parts, pixels, memory, a longer side or a narrower shape than the limits allow.
    """
    with map_decoder_errors(limits):
        picture = open_picture(data, limits)
        width, height = picture.image.size
        return (height, width) if picture.orientation in SIDEWAYS else (width, height)


def read_exif_orientation(data: bytes, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> int:
    """The EXIF orientation of a picture, 1 to 8; 1 is upright, also where there is none.

    Raises:
        InvalidInput, TooLarge: as for `read_picture_size`.
    """
    with map_decoder_errors(limits):
        return open_picture(data, limits).orientation


def decode_upright(
    data: bytes, limits: PictureLimits = DEFAULT_PICTURE_LIMITS, *, exact: bool = False
) -> "Image.Image":
    """Decode a picture and make it upright; of an animated one, the first picture.

    Its values are those of the file: a colour profile is not applied.

    Args:
        data: the file.
        limits: how large it may be.
        exact: for a mask, whose values may be the numbers of objects: 16-bit grey stays so.

    Returns:
        An image of mode 1, L, LA, P, RGB or RGBA, if `exact` also I;16: as it was stored, so that object numbers stay.
        It has no metadata but the transparent colour of a palette.

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
    """Decode a picture and encode it again, so that the file holds only its pixels, upright and in sRGB.

    The new file is about as large, and loses nothing that can be seen:

    - A JPEG is coded again with its own tables on its own blocks, which gives the same coefficients. The coded pixels
      are not copied instead, because other data can be hidden between them. Where its colours changed or its blocks
      moved, the tables are made at least as fine as those of quality 92.
    - A PNG keeps its packed pixels, byte by byte, without all other chunks, once they are proven to be nothing else.
      One that is turned, interlaced, of other colours than sRGB or of more than 8 bits is encoded again.
    - A WEBP with loss becomes a JPEG of quality 92, which every model reads; with transparency, a WEBP of that quality;
      with few flat colours, as a mask has, a PNG.
    - Everything else becomes a PNG with the same values: a WEBP without loss, the first picture of a GIF.

    Args:
        data: the file.
        limits: how large it may be.
        exact: for a mask: its profile is not applied, and 16-bit grey stays so.

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
            picture.image.close()  # frees its pixels, of which `image` is a second copy
        content, content_type = _encode_picture(image, picture, size, is_new=is_new)
        return CleanPicture(content, content_type, *image.size, _picture_notes(picture))


def _picture_notes(picture: OpenPicture) -> tuple[str, ...]:
    if not picture.layout.is_animated:
        return ()
    kind = picture.content_type.partition("/")[2].upper()
    return (f"The picture moves (it is a {kind} of several pictures); only its first picture is used.",)


def _copy_png_pixels(picture: OpenPicture, data: bytes) -> bytes | None:
    """A PNG without its metadata; None where its pixels must change, or where it is no PNG."""
    if picture.layout.png is None or picture.orientation != UPRIGHT:
        return None
    if picture.profile and not is_noop_profile(picture.image.mode, picture.profile):
        return None
    return strip_png(data, picture.layout.png)


def _encode_picture(
    image: "Image.Image", picture: OpenPicture, size: tuple[int, int], *, is_new: bool
) -> tuple[bytes, str]:
    """The picture as a file and its content type; `size`: before it was turned; `is_new`: its values have changed."""
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
    """A picture as it is stored, turned upright by its EXIF orientation."""
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
    """The picture in one of `PLAIN_MODES`; where it must be exact, I;16 is left as well."""
    from PIL import Image

    if image.mode in PLAIN_MODES or (exact and image.mode == "I;16"):
        return image
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    # 16-bit grey. Where no value needs more than eight bits, they are the numbers of a label map and stay as they are.
    _, top = image.getextrema()
    if isinstance(top, int | float) and top <= 255:  # noqa: PLR2004 - the largest value of a byte
        return image.convert("L")
    return Image.frombytes("L", image.size, image.tobytes()[1::2])  # the high bytes


def _strip_metadata(image: "Image.Image") -> "Image.Image":
    """The same pixels with, for a palette, the transparent colour, and nothing else of the file.

    The image that a decoder returns refers to the whole file. The pixels are not copied.
    """
    image.load()
    bare = image._new(image.im)  # noqa: SLF001 - what `copy` does, without the copy
    bare.info = {name: value for name, value in image.info.items() if name == "transparency"}
    return bare
