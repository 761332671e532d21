"""The icon of the bundle and the plugin: a frame of a film, and in it a figure with its outline. Drawn by Pillow."""

from PIL import Image, ImageDraw

__all__ = ["ICON_PATHS", "draw_icon"]

ICON_PATHS = ("mcpb/icon.png", "claude-plugin/.claude-plugin/icon.png")
"""Where it stands, below `manifests/`: the formats want it inside their own folders."""

_SIZE, _OVERSAMPLED = 512, 4
_GROUND, _FILM, _FRAME, _FIGURE, _OUTLINE = "#12151f", "#2b3245", "#e9edf5", "#ff6b4a", "#12151f"


def draw_icon() -> Image.Image:
    """A square of 512 pixels, in 64 colours, which make it small."""
    large = Image.new("RGB", (_SIZE * _OVERSAMPLED,) * 2, _GROUND)
    draw = ImageDraw.Draw(large)
    _rounded(draw, (56, 40, 456, 472), 44, _FILM)
    for top in range(72, 440, 60):
        for left in (74, 406):
            _rounded(draw, (left, top, left + 32, top + 28), 8, _GROUND)
    _rounded(draw, (124, 72, 388, 440), 20, _FRAME)
    for grown, colour in ((12, _OUTLINE), (0, _FIGURE)):
        _ellipse(draw, (204 - grown, 128 - grown, 308 + grown, 232 + grown), colour)
        _rounded(draw, (164 - grown, 252 - grown, 348 + grown, 400 + grown), 72, colour)
    small = large.resize((_SIZE, _SIZE), Image.Resampling.LANCZOS)
    return small.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _rounded(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], radius: int, colour: str) -> None:
    draw.rounded_rectangle(_enlarge(box), radius * _OVERSAMPLED, fill=colour)


def _ellipse(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: str) -> None:
    draw.ellipse(_enlarge(box), fill=colour)


def _enlarge(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = (one * _OVERSAMPLED for one in box)
    return left, top, right, bottom
