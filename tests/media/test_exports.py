"""Exports: every format is read back by the library that users have, and gives the same masks."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from export_readers import (
    Labelled,
    Mask,
    by_cvat,
    by_label_studio,
    by_pycocotools,
    by_supervision_coco,
    by_supervision_yolo,
    by_svg,
    export,
    frame,
    overlap,
    unpack,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from rotoscope.errors import InvalidInput
from rotoscope.media.exports.formats import FORMATS, find_format
from rotoscope.media.exports.labels import LabelTable, clean_label, make_file_name, make_slug
from rotoscope.media.exports.records import ExportFrame, LabelledMask

_noise = arrays.arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24)))


@st.composite
def _blobs(draw: st.DrawFn) -> Mask:
    """Areas as objects have them: ellipses, some cut out again, so that there are holes and parts in holes."""
    width, height = draw(st.integers(40, 120)), draw(st.integers(40, 120))
    mask = np.zeros((height, width), np.uint8)
    for number in range(draw(st.integers(1, 6))):
        middle = draw(st.integers(0, width)), draw(st.integers(0, height))
        radii = draw(st.integers(8, 40)), draw(st.integers(8, 40))
        cv2.ellipse(mask, middle, radii, draw(st.integers(0, 180)), 0, 360, int(number % 3 != 2), -1)
    return mask.astype(bool)


def _ring_in_ring() -> Mask:
    """A frame, a frame in its hole, and a pixel in the middle of that."""
    mask = np.zeros((60, 80), bool)
    for number, edge in enumerate((2, 8, 14, 20)):
        mask[edge : 60 - edge, edge : 80 - edge] = number % 2 == 0
    mask[30, 40] = True
    return mask


def _many_parts() -> Mask:
    mask = np.zeros((60, 80), bool)
    mask[2:58:7, 3:77:9] = True
    mask[3:59:7, 4:78:9] = True  # each touches another pixel at a corner
    return mask


def _full() -> Mask:
    return np.ones((60, 80), bool)


def _empty() -> Mask:
    return np.zeros((60, 80), bool)


def _single_pixels() -> Mask:
    mask = np.zeros((60, 80), bool)
    mask[0, 0] = mask[59, 79] = mask[30, 79] = True
    return mask


OBJECTS: Labelled = [
    ("a ring", _ring_in_ring()),
    ('猫 & <Tüür> "x"', _many_parts()),
    ("a ring", _full()),
    ("tiny", _single_pixels()),
    ("nothing", _empty()),
]
SEEN = [(label, mask) for label, mask in OBJECTS if mask.any()]


def _check_equal(found: Labelled, wanted: Labelled) -> None:
    assert [label for label, _ in found] == [label for label, _ in wanted]
    for (label, mask), (_, other) in zip(found, wanted, strict=True):
        assert mask.shape == other.shape
        assert np.array_equal(mask, other), label


@pytest.mark.parametrize("form", ["coco", "coco-polygons"])
def test_pycocotools_reads_the_same_masks_of_holes_parts_and_single_pixels(form: str) -> None:
    _check_equal(by_pycocotools(export(form, [frame(OBJECTS)])), SEEN)


@pytest.mark.parametrize("form", ["label-studio", "label-studio-polygons"])
def test_label_studio_reads_the_same_masks(form: str) -> None:
    files = export(form, [frame(OBJECTS)])
    _check_equal(by_label_studio(files), SEEN)
    config = files["labeling-config.xml"].decode()
    assert 'value="tiny"' in config
    assert ("<BrushLabels" in config) == (form == "label-studio")


@pytest.mark.parametrize("form", ["cvat", "cvat-polygons"])
def test_cvat_reads_the_same_masks(form: str) -> None:
    _check_equal(by_cvat(export(form, [frame(OBJECTS)])), SEEN)


def test_an_svg_is_drawn_as_the_same_masks() -> None:
    _check_equal(by_svg(export("svg", [frame(OBJECTS)])), SEEN)


def test_supervision_reads_run_lengths_of_coco_as_the_same_masks(tmp_path: Path) -> None:
    _check_equal(by_supervision_coco(unpack(export("coco", [frame(OBJECTS)]), tmp_path)), SEEN)


def test_supervision_reads_labels_of_yolo_as_the_same_masks_one_a_part(tmp_path: Path) -> None:
    files = export("yolo-seg", [frame(OBJECTS)])
    joined: dict[str, Mask] = {}
    for label, mask in by_supervision_yolo(unpack(files, tmp_path)):
        joined[label] = joined.get(label, _empty()) | mask
    for label, mask in SEEN:
        wanted = np.logical_or.reduce([other for name, other in SEEN if name == label])
        assert np.array_equal(joined[label], wanted), label
        assert mask.any()
    assert len(joined) == len({label for label, _ in SEEN})


def test_yolo_labels_are_numbers_from_0_to_1_with_three_corners_at_least() -> None:
    rows = export("yolo-seg", [frame(OBJECTS)])["labels/photo.txt"].decode().splitlines()
    assert len(rows) > 10
    for row in rows:
        number, *places = row.split()
        assert 0 <= int(number) < 3
        assert len(places) >= 6
        assert len(places) % 2 == 0
        assert all(0 <= float(place) <= 1 for place in places)


@given(_noise)
def test_every_mask_comes_back_from_coco(mask: Mask) -> None:
    wanted = [("x", mask)] if mask.any() else []
    for form in ("coco", "coco-polygons"):
        _check_equal(by_pycocotools(export(form, [frame([("x", mask)])])), wanted)


@given(_noise)
def test_every_mask_comes_back_from_cvat_and_label_studio(mask: Mask) -> None:
    wanted = [("x", mask)] if mask.any() else []
    for form in ("cvat", "cvat-polygons"):
        _check_equal(by_cvat(export(form, [frame([("x", mask)])])), wanted)
    for form in ("label-studio", "label-studio-polygons"):
        _check_equal(by_label_studio(export(form, [frame([("x", mask)])])), wanted)


@given(_noise)
@settings(max_examples=40)
def test_every_mask_comes_back_from_svg(mask: Mask) -> None:
    _check_equal(by_svg(export("svg", [frame([("x", mask)])])), [("x", mask)] if mask.any() else [])


def _filled_rows(files: dict[str, bytes], shape: tuple[int, ...], cut: Callable[[Any], Any]) -> Mask:
    """The rows of YOLO's labels, filled as programs do."""
    filled = np.zeros(shape, np.uint8)
    for row in files["labels/photo.txt"].decode().splitlines():
        points = np.array(row.split()[1:], np.float32).reshape(-1, 2) * (shape[1], shape[0])
        cv2.fillPoly(filled, [cut(points).astype(np.int32)], 1)
    return filled.astype(bool)


@given(_noise)
def test_every_mask_comes_back_from_yolo_whether_a_program_rounds_corners_or_cuts_them(mask: Mask) -> None:
    files = export("yolo-seg", [frame([("x", mask)])])
    for cut in (np.trunc, np.round):
        assert np.array_equal(_filled_rows(files, mask.shape, cut), mask)


@given(_blobs())
@settings(max_examples=40)
def test_simplified_outlines_of_blobs_have_far_fewer_corners_and_nearly_the_same_area(mask: Mask) -> None:
    if not mask.any():
        return
    exact, simple = (export("coco-polygons", [frame([("x", mask)])], tolerance) for tolerance in (0.0, 0.8))
    assert len(simple["annotations.json"]) <= len(exact["annotations.json"])
    ((_, found),) = by_pycocotools(simple)
    assert overlap(found, mask) >= 0.93
    assert np.array_equal(by_pycocotools(exact)[0][1], mask)


def test_outlines_simplified_for_editing_keep_97_percent_of_a_real_sized_object() -> None:
    mask = np.zeros((400, 500), np.uint8)
    cv2.ellipse(mask, (240, 200), (180, 120), 20, 0, 360, 1, -1)
    cv2.circle(mask, (240, 200), 50, 0, -1)
    wanted = mask.astype(bool)
    readers: dict[str, Callable[[dict[str, bytes]], Mask]] = {
        "coco-polygons": lambda files: by_pycocotools(files)[0][1],
        "cvat-polygons": lambda files: by_cvat(files)[0][1],
        "label-studio-polygons": lambda files: by_label_studio(files)[0][1],
        "yolo-seg": lambda files: _filled_rows(files, mask.shape, np.trunc),
        "svg": lambda files: by_svg(files)[0][1],
    }
    for form, read in readers.items():
        exact, simple = (export(form, [frame([("x", wanted)])], tolerance) for tolerance in (0.0, 1.0))
        assert overlap(read(simple), wanted) >= 0.97, form
        assert sum(map(len, simple.values())) < sum(map(len, exact.values())), form
        assert np.array_equal(read(exact), wanted), form


def test_masks_as_png_are_black_and_white_and_the_map_has_the_smaller_object_on_top() -> None:
    files = export("png", [frame(OBJECTS)])
    rows = json.loads(files["labels.json"])["masks"]
    assert [row["label"] for row in rows] == [label for label, _ in OBJECTS]
    for row, (_, mask) in zip(rows, OBJECTS, strict=True):
        with Image.open(io.BytesIO(files[row["file"]])) as picture:
            assert picture.mode == "L"
            assert np.array_equal(np.asarray(picture), mask * np.uint8(255))
    with Image.open(io.BytesIO(files["maps/photo.png"])) as numbers:
        assert numbers.mode == "P"
        found = np.asarray(numbers)
    order = sorted(range(len(OBJECTS)), key=lambda n: -int(OBJECTS[n][1].sum()))
    wanted = np.zeros(found.shape, np.uint8)
    for number in order:
        wanted[OBJECTS[number][1]] = number + 1
    assert np.array_equal(found, wanted)


def test_a_map_of_more_than_255_objects_has_16_bits() -> None:
    masks = [(f"o{number}", np.zeros((20, 20), bool)) for number in range(300)]
    for number, (_, mask) in enumerate(masks):
        mask[number // 20, number % 20] = True
    with Image.open(io.BytesIO(export("png", [frame(masks)])["maps/photo.png"])) as numbers:
        assert int(np.asarray(numbers).max()) == 300


def test_a_cut_out_has_the_objects_pixels_and_nothing_of_what_is_around_it() -> None:
    given = frame(OBJECTS)
    files = list(export("cutout", [given]).values())
    assert len(files) == len(SEEN)
    for content, (_, mask) in zip(files, SEEN, strict=True):
        with Image.open(io.BytesIO(content)) as picture:
            pixels = np.asarray(picture)
        assert np.array_equal(pixels[:, :, 3], mask * np.uint8(255))
        assert given.pixels is not None
        assert np.array_equal(pixels[mask][:, :3], given.pixels[mask])
        assert not pixels[~mask].any()


def test_frames_of_a_film_are_pictures_of_one_data_set() -> None:
    frames = [
        frame([("ball", mask)], f"clip-{n:06}.png") for n, mask in enumerate((_full(), _empty(), _ring_in_ring()))
    ]
    coco = export("coco", frames)
    assert [len(by_pycocotools(coco, number)) for number in (1, 2, 3)] == [1, 0, 1]
    assert np.array_equal(by_pycocotools(coco, 3)[0][1], _ring_in_ring())
    assert np.array_equal(by_cvat(export("cvat", frames), 2)[0][1], _ring_in_ring())
    assert np.array_equal(by_label_studio(export("label-studio", frames), 2)[0][1], _ring_in_ring())
    yolo = export("yolo-seg", frames)
    assert yolo["labels/clip-000001.txt"] == b""
    assert yaml.safe_load(yolo["data.yaml"]) == {"train": "images", "val": "images", "nc": 1, "names": {0: "ball"}}
    assert len(export("svg", frames)) == 6
    assert len(export("cutout", frames)) == 2


def test_a_picture_where_nothing_was_found_is_written_without_masks() -> None:
    for form in FORMATS:
        files = export(form, [frame([("x", _empty())])])
        assert files or form == "cutout"
    assert yaml.safe_load(export("yolo-seg", [frame([("x", _empty())])])["data.yaml"])["names"] == {}


@given(st.text(max_size=300))
def test_any_label_is_read_back_as_it_was_cleaned(text: str) -> None:
    label = clean_label(text)
    assert label
    assert clean_label(label) == label
    mask = np.ones((2, 2), bool)
    given = [ExportFrame("photo.png", 2, 2, [LabelledMask(0, label, mask)], b"x")]
    assert by_pycocotools(export("coco", given))[0][0] == label
    assert by_label_studio(export("label-studio", given))[0][0] == label
    assert by_cvat(export("cvat", given))[0][0] == label[:64].rstrip()
    assert yaml.safe_load(export("yolo-seg", given)["data.yaml"])["names"] == {0: label}
    (name, *_) = export("png", given)
    assert "/" not in name.removeprefix("masks/")
    assert len(name.encode()) < 255


def test_labels_that_are_cut_to_the_same_length_stay_apart() -> None:
    table = LabelTable(10)
    names = [table.name(f"a long label {number}") for number in range(12)]
    assert len(set(names)) == 12
    assert max(map(len, names)) <= 10
    assert table.name("a long label 3") == names[3]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("photo.JPG", "photo.JPG"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.png", "y.png"),
        ("..", "picture"),
        (".hidden", "hidden"),
        ("con.png", "_con.png"),
        ('a:b*?"<>|.png', "a-b.png"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("猫.png", "猫.png"),
    ],
)
def test_names_of_pictures_lead_into_no_other_folder(given: str, name: str) -> None:
    assert make_file_name(given) == name


def test_a_name_of_a_file_is_short_however_long_the_label_is() -> None:
    assert make_slug("猫" * 300) == "猫" * 20
    assert make_slug("///") == "mask"
    assert len(make_file_name("x" * 500 + ".jpeg").encode()) < 200


def test_an_unknown_format_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInput, match="no export format") as caught:
        find_format("xml")
    assert "yolo-seg" in caught.value.hint


@pytest.mark.parametrize("form", ["coco-polygons", "yolo-seg", "cvat-polygons", "label-studio-polygons", "svg"])
def test_noise_is_refused_by_formats_of_outlines_with_those_that_take_it(form: str) -> None:
    noise = np.random.default_rng(1).random((1000, 1000)) > 0.5
    with pytest.raises(InvalidInput, match="noise") as caught:
        export(form, [frame([("x", noise)])])
    assert caught.value.code == "too_large"
    assert "png" in caught.value.hint


@pytest.mark.slow
def test_noise_comes_back_from_formats_that_keep_every_pixel() -> None:
    noise = np.random.default_rng(1).random((700, 700)) > 0.5
    given = [frame([("x", noise)])]
    _check_equal(by_pycocotools(export("coco", given)), [("x", noise)])
    _check_equal(by_cvat(export("cvat", given)), [("x", noise)])
    _check_equal(by_label_studio(export("label-studio", given)), [("x", noise)])
