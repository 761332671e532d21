"""Label Studio: tasks to import, as masks (brush) or polygons, and the labelling configuration for them. Pure.

A brush mask is packed as `rle-pack` by thi.ng has it, on the four equal channels of a picture: 32 bits say how many
values there are, five how many bits a value has (less one), four times four how many bits the four kinds of lengths
have (less one). Then follow runs: one bit 1 (the run repeats a value), two bits for the kind of length, the length less
one, the value. A result says its picture's size; points of polygons are percent of it.
"""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from rotoscope.media.exports.labels import LabelTable
from rotoscope.media.exports.outlines import trace_joined_outlines
from rotoscope.media.exports.records import (
    ExportFile,
    ExportFrame,
    LabelledMask,
    too_many_corners_error,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rotoscope.media.image.masks import Mask

__all__ = ["encode_brush_rle", "write_label_studio", "write_label_studio_polygons"]

_CHANNELS = 4
_WORD_BITS, _LENGTH_BITS = 8, (3, 4, 8, 16)
_RUN_HEAD = 3  # bits before the length
_MAX_RUN = 1 << _LENGTH_BITS[-1]
_SELECTED = 255
_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45")


def write_label_studio(frames: Iterable[ExportFrame], tolerance: float) -> Iterator[ExportFile]:
    """Tasks with brush masks, which keep every pixel."""
    return _write_tasks(frames, tolerance, polygons=False)


def write_label_studio_polygons(frames: Iterable[ExportFrame], tolerance: float) -> Iterator[ExportFile]:
    """Tasks with polygons, one for each area.

    Raises:
        InvalidInput: a mask is noise, whose outline has too many corners.
    """
    return _write_tasks(frames, tolerance, polygons=True)


def _write_tasks(frames: Iterable[ExportFrame], tolerance: float, *, polygons: bool) -> Iterator[ExportFile]:
    labels, tasks = LabelTable(), list[str]()
    for frame in frames:
        # Packed masks are lists of numbers: as text they take a tenth of the memory.
        results = [
            json.dumps(result, ensure_ascii=False, separators=(",", ":"))
            for one in frame.masks
            for result in _results(one, labels.name(one.label), frame, tolerance, polygons=polygons)
        ]
        address = f"/data/local-files/?d=images/{quote(frame.file_name)}"
        data = json.dumps({"image": address, "file_name": frame.file_name}, ensure_ascii=False)
        head = f'{{"data": {data}, "predictions": [{{"model_version": "rotoscope", "result": ['
        tasks.append(f"{head}{', '.join(results)}]}}]}}")
        if frame.content is not None:
            yield ExportFile(f"images/{frame.file_name}", frame.content)
    yield ExportFile("tasks.json", f"[{', '.join(tasks)}]\n".encode())
    yield ExportFile("labeling-config.xml", _labelling_config(labels.names, polygons=polygons).encode())


def _results(
    one: LabelledMask, label: str, frame: ExportFrame, tolerance: float, *, polygons: bool
) -> Iterator[dict[str, object]]:
    """What Label Studio says of one mask; nothing where it is empty."""
    if not one.mask.any():
        return
    kind = "polygonlabels" if polygons else "brushlabels"
    common = {
        "from_name": "label",
        "to_name": "image",
        "type": kind,
        "original_width": frame.width,
        "original_height": frame.height,
        "image_rotation": 0,
        **({} if one.score is None else {"score": one.score}),
    }
    if not polygons:
        packed = {"format": "rle", "rle": list(encode_brush_rle(one.mask)), kind: [label]}
        yield {"id": f"mask-{one.number}", **common, "value": packed}
        return
    rings = trace_joined_outlines(one.mask, tolerance)
    if rings is None:
        raise too_many_corners_error(one.number)
    for part, ring in enumerate(rings):
        points = (ring * 100 / (frame.width, frame.height)).round(6).tolist()
        yield {"id": f"mask-{one.number}-{part}", **common, "value": {"points": points, "closed": True, kind: [label]}}


def _labelling_config(names: list[str], *, polygons: bool) -> str:
    tag = "PolygonLabels" if polygons else "BrushLabels"
    rows = "".join(
        f"    <Label value={quoteattr(name)} background={quoteattr(_COLOURS[number % len(_COLOURS)])}/>\n"
        for number, name in enumerate(names)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <{tag} name="label" toName="image">\n{rows}  </{tag}>\n</View>\n'
    )


def encode_brush_rle(mask: "Mask") -> bytes:
    """A mask as Label Studio packs it: 255 in all four channels where selected, else 0."""
    import numpy as np

    head = (mask.size * _CHANNELS << 21) | (_WORD_BITS - 1 << 16)
    head |= sum(bits - 1 << 4 * (3 - kind) for kind, bits in enumerate(_LENGTH_BITS))
    opening = np.unpackbits(np.frombuffer((head << 3).to_bytes(7, "big"), np.uint8))[:53]
    return np.packbits(np.concatenate((opening, _run_bits(*_runs(mask))))).tobytes()


def _runs(mask: "Mask") -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """The lengths of all runs in the four channels, none longer than a run can be, and their values."""
    import numpy as np

    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], edges, [flat.size]))) * _CHANNELS
    values = np.where(flat[np.concatenate(([0], edges))], _SELECTED, 0)
    pieces = -(-lengths // _MAX_RUN)
    whole = np.full(int(pieces.sum()), _MAX_RUN, np.int64)
    whole[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _MAX_RUN
    return whole, np.repeat(values, pieces)


def _run_bits(lengths: "NDArray[np.int64]", values: "NDArray[np.int64]") -> "NDArray[np.uint8]":
    """The bits of runs, one after the other."""
    import numpy as np

    kinds = np.searchsorted([1 << bits for bits in _LENGTH_BITS], lengths)
    sizes = np.array(_LENGTH_BITS)[kinds]
    words = (((4 | kinds) << sizes | (lengths - 1)) << _WORD_BITS) | values
    used = _RUN_HEAD + sizes + _WORD_BITS
    most = _RUN_HEAD + _LENGTH_BITS[-1] + _WORD_BITS
    aligned = (words << (32 - used)).astype(">u4")
    bits = np.unpackbits(aligned.view(np.uint8).reshape(-1, 4), axis=1)[:, :most]
    found: NDArray[np.uint8] = bits[np.arange(most) < used[:, None]]
    return found
