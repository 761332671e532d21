"""SVG: the outlines of all masks of a picture, each one path with its holes (even-odd), titled by its label. Pure."""

from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape, quoteattr

from rotoscope.media.exports.outlines import Ring, simplify_ring, trace_holed_outlines
from rotoscope.media.exports.records import (
    ExportFile,
    ExportFrame,
    LabelledMask,
    too_many_corners_error,
)

__all__ = ["write_svg"]

_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#9a6324")


def write_svg(frames: Iterable[ExportFrame], tolerance: float) -> Iterator[ExportFile]:
    """One file for each picture. A unit is a pixel, and outlines run along the corners of pixels.

    Raises:
        InvalidInput: a mask is noise, whose outline has too many corners.
    """
    for frame in frames:
        paths = "".join(_path(one, tolerance) for one in frame.masks)
        size = f'width="{frame.width}" height="{frame.height}" viewBox="0 0 {frame.width} {frame.height}"'
        yield ExportFile(
            f"{frame.stem}.svg",
            f'<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" {size}>\n'
            f'  <title>{escape(frame.file_name)}</title>\n  <g fill-rule="evenodd" shape-rendering="crispEdges" '
            f'fill-opacity="0.5" stroke-width="1">\n{paths}  </g>\n</svg>\n'.encode(),
        )
        if frame.content is not None:
            yield ExportFile(f"images/{frame.file_name}", frame.content)


def _path(one: LabelledMask, tolerance: float) -> str:
    """A path; nothing for an empty mask."""
    outlines = trace_holed_outlines(one.mask)
    if outlines is None:
        raise too_many_corners_error(one.number)
    rings = [ring for outline in outlines for ring in (outline.outer, *outline.holes)]
    if not rings:
        return ""
    drawn = "".join(_draw_ring(simplify_ring(ring, tolerance)) for ring in rings)
    colour, label = _COLOURS[one.number % len(_COLOURS)], quoteattr(one.label)
    named = f'id="mask-{one.number}" data-label={label} role="img" aria-label={label} fill="{colour}"'
    return f'    <path {named} d="{drawn}">\n      <title>{escape(one.label)}</title>\n    </path>\n'


def _draw_ring(ring: Ring) -> str:
    return f"M{'L'.join(f'{x} {y}' for x, y in ring.tolist())}Z"
