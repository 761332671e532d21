"""CVAT for images 1.1: one XML file, with masks as run lengths or with polygons. Pure.

The runs of a mask go row by row through its box, the lengths of 0 and of 1 in turn, beginning with 0. The coordinates
of polygons are those of the corners of pixels. The areas of one object have the same group.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from rotoscope.media.exports.labels import LabelTable
from rotoscope.media.exports.outlines import trace_joined_outlines
from rotoscope.media.exports.records import (
    ExportFile,
    ExportFrame,
    LabelledMask,
    too_many_corners_error,
)
from rotoscope.media.image.masks import bounding_box

if TYPE_CHECKING:
    from rotoscope.media.image.masks import Mask

__all__ = ["write_cvat", "write_cvat_polygons"]

_MAX_LABEL = 64  # characters, as CVAT has it


def write_cvat(frames: Iterable[ExportFrame], tolerance: float) -> Iterator[ExportFile]:
    """Annotations with masks, which keep every pixel."""
    return _write_document(frames, tolerance, polygons=False)


def write_cvat_polygons(frames: Iterable[ExportFrame], tolerance: float) -> Iterator[ExportFile]:
    """Annotations with polygons, one for each area.

    Raises:
        InvalidInput: a mask is noise, whose outline has too many corners.
    """
    return _write_document(frames, tolerance, polygons=True)


def _write_document(frames: Iterable[ExportFrame], tolerance: float, *, polygons: bool) -> Iterator[ExportFile]:
    labels, images = LabelTable(_MAX_LABEL), list[str]()
    for number, frame in enumerate(frames):
        shapes = "".join(
            f"    {shape}\n"
            for one in frame.masks
            for shape in _shapes(one, labels.name(one.label), tolerance, polygons=polygons)
        )
        opening = f'  <image id="{number}" name={quoteattr(frame.file_name)}'
        images.append(f'{opening} width="{frame.width}" height="{frame.height}">\n{shapes}  </image>\n')
        if frame.content is not None:
            yield ExportFile(f"images/{frame.file_name}", frame.content)
    kind = "polygon" if polygons else "mask"
    rows = "".join(
        f"        <label>\n          <name>{escape(name)}</name>\n          <type>{kind}</type>\n"
        "          <attributes></attributes>\n        </label>\n"
        for name in labels.names
    )
    head = (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <job>\n'
        f"      <size>{len(images)}</size>\n      <mode>annotation</mode>\n"
        f"      <labels>\n{rows}      </labels>\n    </job>\n  </meta>\n"
    )
    yield ExportFile("annotations.xml", f"{head}{''.join(images)}</annotations>\n".encode())


def _shapes(one: LabelledMask, label: str, tolerance: float, *, polygons: bool) -> Iterator[str]:
    box = bounding_box(one.mask)
    if box is None:
        return
    common = f'label={quoteattr(label)} source="auto" occluded="0"'
    if not polygons:
        part = one.mask[box.top : box.bottom, box.left : box.right]
        height, width = part.shape
        place = f'left="{box.left}" top="{box.top}" width="{width}" height="{height}"'
        yield f'<mask {common} rle="{_run_lengths(part)}" {place} z_order="{one.number}"/>'
        return
    rings = trace_joined_outlines(one.mask, tolerance)
    if rings is None:
        raise too_many_corners_error(one.number)
    group = f' group_id="{one.number + 1}"' if len(rings) > 1 else ""
    for ring in rings:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist())
        yield f'<polygon {common} points="{points}" z_order="{one.number}"{group}/>'


def _run_lengths(part: "Mask") -> str:
    import numpy as np

    flat = part.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return ", ".join(map(str, [0, *lengths] if flat[0] else lengths))
