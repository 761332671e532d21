"""The formats of an export by name, and what each needs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rotoscope.errors import InvalidInput
from rotoscope.media.exports.coco import write_coco, write_coco_polygons
from rotoscope.media.exports.cutout import write_cutouts
from rotoscope.media.exports.cvat import write_cvat, write_cvat_polygons
from rotoscope.media.exports.label_studio import write_label_studio, write_label_studio_polygons
from rotoscope.media.exports.png import write_mask_pngs
from rotoscope.media.exports.records import FrameWriter
from rotoscope.media.exports.svg import write_svg
from rotoscope.media.exports.yolo import write_yolo

__all__ = ["FORMATS", "ExportFormat", "PictureNeed", "find_format"]

PictureNeed: TypeAlias = Literal["file", "pixels", "without"]
"""What a format needs of the picture itself."""


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One format.

    Attributes:
        text: what it is, for people.
        write: gives its files.
        picture: whether it writes the picture itself as a `file`, needs its `pixels`, or does `without`.
        has_outlines: whether outlines may be simplified.
    """

    text: str
    write: FrameWriter
    picture: PictureNeed = "without"
    has_outlines: bool = False


FORMATS: Mapping[str, ExportFormat] = {
    "coco": ExportFormat("COCO JSON with run lengths (RLE), and polygons beside them", write_coco, has_outlines=True),
    "coco-polygons": ExportFormat("COCO JSON with polygons", write_coco_polygons, has_outlines=True),
    "yolo-seg": ExportFormat(
        "YOLO segmentation: images/, labels/ and data.yaml", write_yolo, "file", has_outlines=True
    ),
    "label-studio": ExportFormat("Label Studio tasks with brush masks", write_label_studio),
    "label-studio-polygons": ExportFormat(
        "Label Studio tasks with polygons", write_label_studio_polygons, has_outlines=True
    ),
    "cvat": ExportFormat("CVAT for images 1.1 with masks", write_cvat),
    "cvat-polygons": ExportFormat("CVAT for images 1.1 with polygons", write_cvat_polygons, has_outlines=True),
    "png": ExportFormat("each mask as a black and white PNG, and a map of numbers", write_mask_pngs),
    "cutout": ExportFormat("each object as a PNG with transparency", write_cutouts, "pixels"),
    "svg": ExportFormat("outlines as an SVG", write_svg, has_outlines=True),
}


def find_format(name: str) -> ExportFormat:
    """The format of a name.

    Raises:
        InvalidInput: there is none.
    """
    if name not in FORMATS:
        raise InvalidInput(f"There is no export format {name[:80]!r}.", hint=f"Formats: {', '.join(FORMATS)}.")
    return FORMATS[name]
