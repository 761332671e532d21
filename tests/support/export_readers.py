"""Reads exports back with the libraries that users have, each as a list of labels and masks."""

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rotoscope.media.exports.formats import FORMATS
from rotoscope.media.exports.records import ExportFile, ExportFrame, LabelledMask

Mask = NDArray[np.bool_]
Labelled = list[tuple[str, Mask]]

__all__ = [
    "Labelled",
    "Mask",
    "by_cvat",
    "by_label_studio",
    "by_pycocotools",
    "by_supervision_coco",
    "by_supervision_yolo",
    "by_svg",
    "export",
    "frame",
    "overlap",
    "unpack",
]


def frame(masks: Sequence[tuple[str, Mask]], name: str = "photo.png", **more: Any) -> ExportFrame:
    """A picture with masks, and a content that is a real picture."""
    height, width = masks[0][1].shape
    pixels = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8) | 1
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    labelled = [LabelledMask(number, label, mask) for number, (label, mask) in enumerate(masks)]
    return ExportFrame(name, width, height, labelled, **{"content": target.getvalue(), "pixels": pixels, **more})


def export(form: str, frames: Sequence[ExportFrame], tolerance: float = 0.0) -> dict[str, bytes]:
    """The files of an export by their names; no two have the same."""
    made: list[ExportFile] = list(FORMATS[form].write(iter(frames), tolerance))
    assert len({file.name for file in made}) == len(made)
    return {file.name: file.content for file in made}


def unpack(files: Mapping[str, bytes], folder: Path) -> Path:
    """The folder with the files in it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def overlap(one: Mask, other: Mask) -> float:
    """Intersection over union."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def by_pycocotools(files: Mapping[str, bytes], image: int = 1) -> Labelled:
    """The masks of one picture of a COCO file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        from pycocotools.coco import COCO

        coco = COCO()
        coco.dataset = json.loads(files["annotations.json"])
        coco.createIndex()
        names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image]))
        return [(names[one["category_id"]], coco.annToMask(one) > 0) for one in found]


def _supervision() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import supervision
    return supervision


def _labelled(data: Any) -> Labelled:
    found: Labelled = []
    for _, _, detections in data:
        masks: list[Mask] = list(np.asarray(detections.mask)) if len(detections) else []
        found += [(data.classes[number], mask) for number, mask in zip(detections.class_id, masks, strict=True)]
    return found


def by_supervision_coco(folder: Path) -> Labelled:
    """The masks of a COCO folder with its pictures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _labelled(
            _supervision().DetectionDataset.from_coco(
                str(folder / "images"), str(folder / "annotations.json"), force_masks=True
            )
        )


def by_supervision_yolo(folder: Path) -> Labelled:
    """The masks of a YOLO data set, one for each row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _labelled(
            _supervision().DetectionDataset.from_yolo(
                str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
            )
        )


def by_label_studio(files: Mapping[str, bytes], task: int = 0) -> Labelled:
    """The masks of a task; polygons are filled one by one, those of one object together."""
    found: dict[str, tuple[str, Mask]] = {}
    for one in json.loads(files["tasks.json"])[task]["predictions"][0]["result"]:
        width, height = one["original_width"], one["original_height"]
        (label,) = one["value"][one["type"]]
        if one["type"] == "brushlabels":
            values = unpack_rle(bytes(one["value"]["rle"])).reshape(height, width, 4)
            assert (values == values[:, :, 3:]).all()
            mask = values[:, :, 3] == 255
        else:
            mask = _fill(np.array(one["value"]["points"]) * (width, height) / 100, width, height)
        name = "-".join(one["id"].split("-")[:2])
        found[name] = (label, mask | found[name][1] if name in found else mask)
    return list(found.values())


def unpack_rle(packed: bytes) -> NDArray[np.uint8]:
    """Values packed as thi.ng's rle-pack has them, as Label Studio's converter reads them, bit by bit."""
    bits, at = "".join(f"{byte:08b}" for byte in packed), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    values = np.zeros(read(32), np.uint8)
    word = read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    done = 0
    while done < len(values):
        repeats = read(1)
        end = done + 1 + read(sizes[read(2)])
        if repeats:
            values[done:end] = read(word)
        else:
            values[done:end] = [read(word) for _ in range(end - done)]
        done = end
    return values


def by_cvat(files: Mapping[str, bytes], image: int = 0) -> Labelled:
    """The masks of one picture of a CVAT file: run lengths by CVAT's own library, polygons filled."""
    from cvat_sdk.masks import decode_mask

    document = ET.fromstring(files["annotations.xml"])
    known = {name.text for name in document.iterfind("./meta/job/labels/label/name")}
    (shown,) = (one for one in document.iterfind("image") if one.get("id") == str(image))
    width, height = int(shown.attrib["width"]), int(shown.attrib["height"])
    found: dict[str, tuple[str, Mask]] = {}
    for one in shown:
        place = one.attrib
        assert place["label"] in known
        if one.tag == "mask":
            left, top = int(place["left"]), int(place["top"])
            box = [left, top, left + int(place["width"]) - 1, top + int(place["height"]) - 1]
            runs = [int(run) for run in place["rle"].split(", ")]
            mask = np.asarray(decode_mask([*runs, *box], image_width=width, image_height=height))
        else:
            points = np.array([list(map(float, point.split(","))) for point in place["points"].split(";")])
            mask = _fill(points, width, height)
        number = place["z_order"]
        found[number] = (place["label"], mask | found[number][1] if number in found else mask)
    return list(found.values())


def _fill(points: NDArray[np.float64], width: int, height: int) -> Mask:
    """A polygon filled as a canvas does: a pixel is in it if its middle is, by the even-odd rule."""
    xs, ys = points[:, 0], points[:, 1]
    next_xs, next_ys = np.roll(xs, -1), np.roll(ys, -1)
    mask = np.zeros((height, width), np.bool_)
    middles = np.arange(width) + 0.5
    for row in range(height):
        y = row + 0.5
        crosses = (ys <= y) != (next_ys <= y)
        at = xs[crosses] + (y - ys[crosses]) / (next_ys - ys)[crosses] * (next_xs - xs)[crosses]
        mask[row] = (np.searchsorted(np.sort(at), middles) % 2).astype(bool)
    return mask


def by_svg(files: Mapping[str, bytes], name: str = "photo.svg") -> Labelled:
    """The masks of a drawing, each path drawn alone by a renderer."""
    import resvg_py

    document = ET.fromstring(files[name])
    space = "{http://www.w3.org/2000/svg}"
    (group,) = document.iterfind(f"{space}g")
    found = []
    for path in list(group):
        for other in list(group):
            group.remove(other)
        group.append(path)
        group.set("fill-opacity", "1")
        drawn = resvg_py.svg_to_bytes(svg_string=ET.tostring(document, encoding="unicode"))
        title = path.find(f"{space}title")
        assert title is not None
        assert title.text == path.get("data-label") == path.get("aria-label")
        alpha = np.asarray(Image.open(io.BytesIO(bytes(drawn))).convert("RGBA"))[:, :, 3]
        assert set(np.unique(alpha)) <= {0, 255}  # no edge is blurred
        found.append((str(title.text), alpha == 255))
    return found
