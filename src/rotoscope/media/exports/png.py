"""PNG: each mask as a picture of 0 and 255, and all of a picture's masks as one map of numbers. Pure.

In a map, 0 is no object and N + 1 the object N. Where masks overlap, the smaller one is on top. Up to 255 objects the
map is a picture with a palette, whose pixels are the numbers; above it is grey with 16 bits.
"""

import io
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rotoscope.media.exports.labels import make_slug
from rotoscope.media.exports.records import ExportFile, ExportFrame
from rotoscope.media.image.masks import encode_mask_png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["write_mask_pngs"]

_MAX_ENTRIES = 256


def write_mask_pngs(frames: Iterable[ExportFrame], _: float) -> Iterator[ExportFile]:
    """`masks/`, `maps/` and `labels.json`, which says what each number is."""
    import numpy as np

    rows = list[dict[str, object]]()
    for frame in frames:
        numbers, areas = np.zeros((frame.height, frame.width), np.uint16), {0: frame.width * frame.height + 1}
        for one in frame.masks:
            name = f"masks/{frame.stem}-{one.number:03}-{make_slug(one.label)}.png"
            yield ExportFile(name, encode_mask_png(one.mask))
            row = {"picture": frame.file_name, "number": one.number + 1, "label": one.label, "file": name}
            rows.append(row if one.score is None else {**row, "score": one.score})
            area = int(np.count_nonzero(one.mask))
            larger = np.zeros(max(areas) + 1, np.bool_)
            larger[[number for number, size in areas.items() if size > area]] = True
            numbers[one.mask & larger[numbers]] = one.number + 1
            areas[one.number + 1] = area
        yield ExportFile(f"maps/{frame.stem}.png", _encode_map(numbers))
        if frame.content is not None:
            yield ExportFile(f"images/{frame.file_name}", frame.content)
    yield ExportFile("labels.json", (json.dumps({"masks": rows}, ensure_ascii=False, indent=2) + "\n").encode())


def _encode_map(numbers: "NDArray[np.uint16]") -> bytes:
    import numpy as np
    from PIL import Image

    if int(numbers.max()) < _MAX_ENTRIES:
        image = Image.fromarray(numbers.astype(np.uint8), "L")
        image.putpalette(_palette())
    else:
        image = Image.fromarray(numbers)
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def _palette() -> bytes:
    """A colour for each number, as in PASCAL VOC: black for 0, and neighbours far apart."""
    colours = bytearray()
    for number in range(_MAX_ENTRIES):
        bits = [[number >> 3 * place + channel & 1 for place in range(3)] for channel in range(3)]
        colours += bytes(sum(bit << 7 - place for place, bit in enumerate(of_one)) for of_one in bits)
    return bytes(colours)
