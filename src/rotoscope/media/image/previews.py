"""Pictures to look at: masks painted over a photo, panels side by side, and small pictures for models.

The colours are those of Okabe and Ito, which people with any kind of colour vision tell apart.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageFont

__all__ = [
    "THUMBNAIL_BYTES",
    "THUMBNAIL_SIDE",
    "MaskOverlay",
    "SheetPanel",
    "Thumbnail",
    "contact_sheet",
    "encode_jpeg",
    "make_thumbnail",
]

_COLOURS = (
    (86, 180, 233),  # sky blue
    (213, 94, 0),  # vermilion
    (240, 228, 66),  # yellow
    (0, 158, 115),  # bluish green
    (204, 121, 167),  # reddish purple
    (0, 114, 178),  # blue
    (230, 159, 0),  # orange
)
_FILL_OPACITY = 0.45  # 0 to 1
_DARK, _LIGHT = (20, 20, 20), (255, 255, 255)  # of the two outlines

_PAPER_COLOUR, _FRAME_COLOUR, _TITLE_COLOUR, _SUBTITLE_COLOUR = (
    (255, 255, 255),
    (222, 224, 228),
    (28, 30, 34),
    (104, 109, 118),
)
_BACKGROUND_COLOUR = (246, 247, 249)  # behind a picture that does not fill its frame
_CELL_WIDTH = 640  # pixels: the width of a panel
_GUTTER, _MARGIN, _GAP = 28, 36, 14  # pixels: between panels, around all, between picture and text
_TITLE_SIZE, _SUBTITLE_SIZE = 26, 20  # pixels: the height of the font
_LINE_HEIGHT = 1.35  # times the height of the font


@dataclass(frozen=True, slots=True, eq=False)
class SheetPanel:
    """One picture of a contact sheet with the text below it."""

    title: str
    subtitle: str
    image: "Image.Image"


class MaskOverlay:
    """A picture with masks over it: each is filled in its own colour, 45 % opaque, inside a dark and a white line.

    Args:
        picture: in any mode; transparent parts are shown on white.
    """

    def __init__(self, picture: "Image.Image") -> None:
        import numpy as np

        self._canvas = np.array(_flatten_on_white(picture))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._canvas.shape[1], self._canvas.shape[0]

    def paint(self, number: int, mask: "NDArray[np.bool_]") -> bool:
        """Paint one mask over the picture and the masks before it; whether it has the picture's size.

        Args:
            number: decides its colour.
            mask: height x width of the picture, True where selected. An empty one leaves no trace.
        """
        if mask.shape != self._canvas.shape[:2]:
            return False
        _paint_mask(self._canvas, mask, _COLOURS[number % len(_COLOURS)])
        return True

    def image(self) -> "Image.Image":
        """An RGB picture of the same size."""
        from PIL import Image

        return Image.fromarray(self._canvas)

    def jpeg(self) -> bytes:
        """The same as a JPEG."""
        return encode_jpeg(self.image())


def encode_jpeg(image: "Image.Image", quality: int = 90) -> bytes:
    """The picture as a JPEG; transparent parts become white."""
    target = io.BytesIO()
    _flatten_on_white(image).save(target, "JPEG", quality=quality, optimize=True)
    return target.getvalue()


def contact_sheet(panels: Sequence[SheetPanel], columns: int) -> "Image.Image":
    """The panels in rows of `columns`, on white, each with its title and subtitle below: an RGB picture.

    The text is drawn in Pillow's own font, which has Latin letters only.
    """
    from PIL import Image

    rows = [_panel_row(panels[start : start + columns]) for start in range(0, len(panels), columns)]
    width = max((row.width for row in rows), default=0) + 2 * _MARGIN
    height = sum(row.height for row in rows) + max(len(rows) - 1, 0) * _GUTTER + 2 * _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER_COLOUR)
    top = _MARGIN
    for row in rows:
        sheet.paste(row, (_MARGIN, top))
        top += row.height + _GUTTER
    return sheet


def _flatten_on_white(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    paper = Image.new("RGBA", shown.size, (*_LIGHT, 255))
    return Image.alpha_composite(paper, shown).convert("RGB")


def _paint_mask(canvas: "NDArray[np.uint8]", mask: "NDArray[np.bool_]", colour: tuple[int, int, int]) -> None:
    """Fill one mask and draw its outline; only the part of the picture around the mask is touched."""
    import cv2
    import numpy as np

    from rotoscope.media.image.masks import bounding_box

    box = bounding_box(mask)
    if box is None:
        return
    line = max(1, round(max(mask.shape) / 640))
    edge = 4 * line
    rows, columns = slice(max(box.top - edge, 0), box.bottom + edge), slice(max(box.left - edge, 0), box.right + edge)
    part, shape = canvas[rows, columns], mask[rows, columns].astype(np.uint8) * np.uint8(255)
    part[...] = cv2.copyTo(cv2.LUT(part, _tint_table(colour)), shape, part)
    # A dark line outside a white one: on any photo one of them is visible.
    _blend(part, _outline(shape, 2 * line), _DARK)
    _blend(part, _outline(shape, line), _LIGHT)


def _tint_table(colour: tuple[int, int, int]) -> "NDArray[np.uint8]":
    """For each value of each channel, the value after a fill with the colour."""
    import numpy as np

    values = np.arange(256, dtype=np.float32)[None, :, None]
    return np.rint(values + _FILL_OPACITY * (np.array(colour, np.float32) - values)).astype(np.uint8)


def _blend(part: "NDArray[np.uint8]", share: "NDArray[np.uint8]", colour: tuple[int, int, int]) -> None:
    """Blend a colour into a part of a picture; `share` is its opacity for each pixel, 0 to 255."""
    import numpy as np

    where = np.nonzero(share)
    before = part[where].astype(np.float32)
    weights = share[where].astype(np.float32)[:, None] / np.float32(255)
    part[where] = np.rint(before + weights * (np.array(colour, np.float32) - before)).astype(np.uint8)


def _outline(shape: "NDArray[np.uint8]", reach: int) -> "NDArray[np.uint8]":
    """The opacity of an outline for each pixel, 0 to 255: full within `reach` pixels of the edge, smoothed."""
    import cv2
    import numpy as np

    # The edge is where a blur mixes both sides. Dilating and eroding the shape gives the same, a hundred times slower.
    side = 2 * reach + 1
    blurred = cv2.blur(shape, (side, side), borderType=cv2.BORDER_REPLICATE)
    edge = ((blurred > 0) & (blurred < 255)).astype(np.uint8) * np.uint8(255)  # noqa: PLR2004 - black and white
    return cv2.GaussianBlur(edge, (3, 3), 0.45).astype(np.uint8, copy=False)


def _panel_row(panels: Sequence[SheetPanel]) -> "Image.Image":
    """Panels side by side; their pictures have one height, so that the texts below begin on one line."""
    from PIL import Image

    tall = max(round(min(1, panel.image.height / panel.image.width) * _CELL_WIDTH) for panel in panels)
    cells = [_panel_cell(panel, max(tall, 1)) for panel in panels]
    height = max(cell.height for cell in cells)
    row = Image.new("RGB", (len(cells) * (_CELL_WIDTH + _GUTTER) - _GUTTER, height), _PAPER_COLOUR)
    for number, cell in enumerate(cells):
        row.paste(cell, (number * (_CELL_WIDTH + _GUTTER), 0))
    return row


def _panel_cell(panel: SheetPanel, tall: int) -> "Image.Image":
    """One panel: the picture in a thin frame, and its text below."""
    from PIL import Image, ImageDraw, ImageOps

    lines = [
        *_wrap_text(panel.title, _TITLE_SIZE, _TITLE_COLOUR),
        *_wrap_text(panel.subtitle, _SUBTITLE_SIZE, _SUBTITLE_COLOUR),
    ]
    cell = Image.new("RGB", (_CELL_WIDTH, tall + _GAP + sum(line.leading for line in lines)), _PAPER_COLOUR)
    picture = ImageOps.contain(_flatten_on_white(panel.image), (_CELL_WIDTH, tall), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(cell)
    draw.rectangle((0, 0, _CELL_WIDTH - 1, tall - 1), fill=_BACKGROUND_COLOUR)
    cell.paste(picture, ((_CELL_WIDTH - picture.width) // 2, (tall - picture.height) // 2))
    draw.rectangle((0, 0, _CELL_WIDTH - 1, tall - 1), outline=_FRAME_COLOUR)
    top = tall + _GAP
    for line in lines:
        draw.text((1, top), line.text, fill=line.ink, font=line.font)
        top += line.leading
    return cell


@dataclass(frozen=True, slots=True, eq=False)
class _TextLine:
    text: str
    font: "ImageFont.FreeTypeFont | ImageFont.ImageFont"
    ink: tuple[int, int, int]
    leading: int  # pixels from this line to the next


def _wrap_text(text: str, size: int, ink: tuple[int, int, int]) -> list[_TextLine]:
    """The text in lines that fit a cell. A single word that is too long is left to run over."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= _CELL_WIDTH:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_TextLine(line, font, ink, round(size * _LINE_HEIGHT)) for line in lines]


THUMBNAIL_SIDE = 768
"""Pixels: no measured client scales such a picture down."""
THUMBNAIL_BYTES = 100_000
"""Bytes; a client's profile may ask for fewer."""

_QUALITIES = (85, 75, 60, 45, 30)  # of JPEG, tried in this order
_FEW_COLOURS = 256  # a mask or a drawing: without loss it is smaller and sharper
_SHRINK_FACTOR = 0.75  # of the longer side, for each further try
_MIN_SIDE = 16  # pixels; a picture of this size is returned however many bytes it has


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a PNG or JPEG; `width` and `height` are in pixels."""

    content: bytes
    content_type: str
    width: int
    height: int


def make_thumbnail(image: "Image.Image", side: int = THUMBNAIL_SIDE, most: int = THUMBNAIL_BYTES) -> Thumbnail:
    """The picture in at most `most` bytes, its longer side at most `side` pixels, as sharp as that allows.

    The first form that fits is taken: a PNG where there are few colours, a JPEG of falling quality, then the same with
    fewer pixels. A small picture is not made larger.
    """
    from PIL import Image

    while True:
        shown = image
        if max(image.size) > side:
            ratio = side / max(image.size)
            smaller = (max(round(image.width * ratio), 1), max(round(image.height * ratio), 1))
            shown = (image.convert("RGBA") if image.mode == "P" else image).resize(smaller, Image.Resampling.BOX)
        for content, content_type in _encode_candidates(shown, most):
            if len(content) <= most or side <= _MIN_SIDE:
                return Thumbnail(content, content_type, *shown.size)
        side = max(round(min(side, max(image.size)) * _SHRINK_FACTOR), _MIN_SIDE)


def _encode_candidates(image: "Image.Image", most: int) -> "list[tuple[bytes, str]]":
    """The picture in each form, the sharpest first, up to the first that fits."""
    if image.getcolors(_FEW_COLOURS) is not None:
        target = io.BytesIO()
        image.save(target, "PNG", optimize=True)
        if target.tell() <= most:
            return [(target.getvalue(), "image/png")]
    forms: list[tuple[bytes, str]] = []
    for quality in _QUALITIES:
        forms.append((encode_jpeg(image, quality), "image/jpeg"))
        if len(forms[-1][0]) <= most:
            break
    return forms
