"""COCO: one JSON file of pictures, categories and annotations, with run lengths (RLE) or with polygons. Pure.

With run lengths every pixel is kept, and polygons stand beside them as `polygons`, which is not COCO's own. With
polygons alone, `segmentation` is a list of polygons, which every program reads; holes are joined to their outlines.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from rotoscope.media.exports.labels import LabelTable
from rotoscope.media.exports.outlines import trace_joined_outlines
from rotoscope.media.exports.records import (
    ExportFile,
    ExportFrame,
    LabelledMask,
    too_many_corners_error,
)
from rotoscope.media.image.coco import encode_rle
from rotoscope.media.image.masks import bounding_box

__all__ = ["write_coco", "write_coco_polygons"]

_FILE = "annotations.json"


def write_coco(frames: Iterable[ExportFrame], tolerance: float) -> Iterator[ExportFile]:
    """Annotations with compressed run lengths as `segmentation`, and polygons beside them."""
    return _write_document(frames, tolerance, only_polygons=False)


def write_coco_polygons(frames: Iterable[ExportFrame], tolerance: float) -> Iterator[ExportFile]:
    """Annotations with polygons as `segmentation`.

    Raises:
        InvalidInput: a mask is noise, whose outline has too many corners.
    """
    return _write_document(frames, tolerance, only_polygons=True)


def _write_document(frames: Iterable[ExportFrame], tolerance: float, *, only_polygons: bool) -> Iterator[ExportFile]:
    labels, images, annotations = LabelTable(), list[dict[str, object]](), list[str]()
    for number, frame in enumerate(frames, 1):
        images.append({"id": number, "file_name": frame.file_name, "width": frame.width, "height": frame.height})
        for one in frame.masks:
            # Held as text: corners of many masks as numbers take a hundred times the memory.
            found = _annotation(one, tolerance, only_polygons=only_polygons)
            if found is not None:
                ids = {"id": len(annotations) + 1, "image_id": number, "category_id": labels.number(one.label) + 1}
                annotations.append(json.dumps({**ids, **found}, separators=(",", ":")))
        if frame.content is not None:
            yield ExportFile(f"images/{frame.file_name}", frame.content)
    head = {
        "info": {"description": "Masks by rotoscope.", "version": "1.0"},
        "licenses": [],
        "images": images,
        "categories": [
            {"id": number, "name": name, "supercategory": ""} for number, name in enumerate(labels.names, 1)
        ],
    }
    begun = json.dumps(head, ensure_ascii=False)[:-1]
    yield ExportFile(_FILE, f'{begun}, "annotations": [{", ".join(annotations)}]}}\n'.encode())


def _annotation(one: LabelledMask, tolerance: float, *, only_polygons: bool) -> dict[str, Any] | None:
    """What COCO says of a mask; None where it is empty: its readers take no annotation without pixels.

    Raises:
        InvalidInput: there are to be polygons only, and there would be too many corners.
    """
    import numpy as np

    box = bounding_box(one.mask)
    if box is None:
        return None
    rings = trace_joined_outlines(one.mask, tolerance)
    if rings is None and only_polygons:
        raise too_many_corners_error(one.number)
    polygons = [ring.ravel().tolist() for ring in rings or ()]
    rle = {"size": [int(side) for side in one.mask.shape], "counts": ""}
    if not only_polygons:
        rle["counts"] = encode_rle(one.mask)
    beside = {} if only_polygons else {"polygons": polygons}
    return {
        "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
        "area": int(np.count_nonzero(one.mask)),
        "iscrowd": 0,
        "segmentation": polygons if only_polygons else rle,
        **beside,
        **({} if one.score is None else {"score": one.score}),
    }
