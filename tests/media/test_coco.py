"""COCO: run lengths, outlines and documents, held against the library that reads such files, pycocotools."""

import json

import cv2
import numpy as np
import pytest
from coco_reader import mask_of_rle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw
from pycocotools import mask as reader
from shapely import MultiPolygon, Polygon

from rotoscope.media.image.coco import (
    MAX_CORNERS,
    CocoDocument,
    encode_rle,
    file_name_of,
    trace_outlines,
)

# The library speaks to numpy as numpy 1 wanted it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

_masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def _blob(width: int = 200, height: int = 150) -> np.ndarray:
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=255)
    return np.asarray(image) > 0


def _empty() -> np.ndarray:
    return np.zeros((40, 60), np.bool_)


def _drawn(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Boxes of left, top, right and bottom, the latter two outside."""
    mask = _empty()
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def _polygons(mask: np.ndarray) -> list[Polygon]:
    return [Polygon(list(zip(ring[::2], ring[1::2], strict=True))) for ring in trace_outlines(mask).rings]


def _given_back(mask: np.ndarray) -> np.ndarray:
    """What pycocotools makes of the polygons."""
    height, width = mask.shape
    rings = [list(map(float, ring)) for ring in trace_outlines(mask).rings]
    if not rings:
        return np.zeros_like(mask)
    return np.asarray(reader.decode(reader.merge(reader.frPyObjects(rings, height, width))), np.bool_)


def _filled(mask: np.ndarray) -> np.ndarray:
    """Each area of pixels that share sides, with its holes filled: what it encloses, also across corners."""
    count, areas = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    whole = np.zeros_like(mask)
    for number in range(1, count):
        outside = np.pad(areas != number, 1, constant_values=True).astype(np.uint8)
        _, grounds = cv2.connectedComponents(outside, connectivity=4)
        whole |= (grounds != grounds[0, 0])[1:-1, 1:-1]
    return whole


def _naive_counts(mask: np.ndarray) -> list[int]:
    counts, last, run = [], False, 0
    for value in (bool(mask[y, x]) for x in range(mask.shape[1]) for y in range(mask.shape[0])):
        if value != last:
            counts.append(run)
            last, run = value, 0
        run += 1
    return [*counts, run]


def _naive_string(counts: list[int]) -> str:
    text = ""
    for place, count in enumerate(counts):
        rest, more = count - (counts[place - 2] if place > 2 else 0), True
        while more:
            bits = rest & 0x1F
            rest >>= 5
            more = rest != (-1 if bits & 0x10 else 0)
            text += chr((bits | 0x20 if more else bits) + 48)
    return text


@pytest.mark.parametrize(
    ("mask", "counts", "text"),
    [
        (np.zeros((3, 4), np.bool_), [12], "<"),
        (np.ones((3, 4), np.bool_), [0, 12], "0<"),
        (np.eye(2, dtype=np.bool_), [0, 1, 2, 1], "0120"),
        (np.zeros((25, 40), np.bool_), [1000], "Xo0"),
        (np.array([[0, 1], [1, 1]], np.bool_), [1, 3], "13"),
    ],
)
def test_run_lengths_are_those_of_coco(mask: np.ndarray, counts: list[int], text: str) -> None:
    assert _naive_counts(mask) == counts
    assert encode_rle(mask) == text


@pytest.mark.parametrize(
    "mask", [_blob(), ~_blob(), np.random.default_rng(5).random((90, 120)) > 0.5, _blob(1200, 900)]
)
def test_run_lengths_equal_a_naive_reading_of_the_definition(mask: np.ndarray) -> None:
    assert encode_rle(mask) == _naive_string(_naive_counts(mask))
    assert np.array_equal(mask_of_rle(encode_rle(mask), *mask.shape), mask)


@given(_masks)
def test_run_lengths_give_the_mask_back(mask: np.ndarray) -> None:
    text = encode_rle(mask)
    assert text == _naive_string(_naive_counts(mask))
    assert np.array_equal(mask_of_rle(text, *mask.shape), mask)


@given(_masks)
def test_run_lengths_are_those_of_the_library(mask: np.ndarray) -> None:
    assert encode_rle(mask) == reader.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


DRAWN = {
    "a square": _drawn((5, 4, 15, 14)),
    "a disc": _blob(),
    "the full frame": ~_empty(),
    "a line of one pixel": _drawn((3, 7, 50, 8)),
    "an upright line": _drawn((7, 3, 8, 40)),
    "a dot": _drawn((9, 7, 10, 8)),
    "dots in the corners": _drawn((0, 0, 1, 1), (59, 39, 60, 40)),
    "squares that touch at a corner": _drawn((4, 4, 8, 8), (8, 8, 12, 12)),
    "squares side by side": _drawn((4, 4, 8, 8), (8, 6, 12, 12)),
    "a diagonal": np.eye(30, dtype=np.bool_),
    "the other diagonal": np.eye(30, dtype=np.bool_)[::-1],
    "nothing": _empty(),
}


@pytest.mark.parametrize("what", DRAWN)
def test_a_mask_without_holes_comes_back_from_its_polygons(what: str) -> None:
    mask = DRAWN[what]
    assert np.array_equal(_given_back(mask), mask)
    assert trace_outlines(mask).holes == 0
    assert sum(polygon.area for polygon in _polygons(mask)) == mask.sum()


def test_parts_that_touch_at_a_corner_are_polygons_of_their_own() -> None:
    assert len(trace_outlines(DRAWN["squares that touch at a corner"]).rings) == 2
    assert len(trace_outlines(DRAWN["a diagonal"]).rings) == 30
    assert len(trace_outlines(DRAWN["squares side by side"]).rings) == 1


@given(_masks, st.integers(1, 3))
def test_every_mask_comes_back_from_valid_polygons_with_its_holes_filled(mask: np.ndarray, times: int) -> None:
    mask = mask.repeat(times, axis=0).repeat(times, axis=1)
    polygons = _polygons(mask)
    assert all(polygon.is_valid for polygon in polygons)
    assert not polygons or MultiPolygon(polygons).area >= mask.sum()
    back = _given_back(mask)
    assert not (mask & ~back).any(), "a selected pixel is in no polygon"
    assert np.array_equal(back, _filled(mask))
    if trace_outlines(mask).holes == 0:
        assert np.array_equal(back, mask)


def test_holes_are_filled_and_counted_in_the_file() -> None:
    ring = _drawn((4, 4, 20, 20)) & ~_drawn((8, 8, 12, 12), (14, 14, 16, 16))
    assert np.array_equal(_given_back(ring), _drawn((4, 4, 20, 20)))
    document = CocoDocument("a.png", 60, 40)
    document.add(0, "ring", ring)
    read = json.loads(document.content())
    assert read["annotations"][0]["holes_filled"] == 2
    assert "holes_filled" in read["info"]["description"]
    assert np.array_equal(reader.decode(read["annotations"][0]["segmentation"]).astype(np.bool_), ring)


def test_noise_has_no_polygons_and_the_file_notes_that() -> None:
    noise = np.indices((700, 700)).sum(axis=0) % 2 == 0
    assert noise.sum() * 4 > MAX_CORNERS
    document = CocoDocument("a.png", 700, 700)
    document.add(0, "noise", noise)
    (annotation,) = json.loads(document.content())["annotations"]
    assert annotation["polygons"] == []
    assert annotation["polygons_left_out"] is True
    assert np.array_equal(reader.decode(annotation["segmentation"]).astype(np.bool_), noise)


def test_a_document_has_the_fields_of_coco() -> None:
    blob, empty = _blob(), np.zeros((150, 200), np.bool_)
    document = CocoDocument("photo.png", 200, 150)
    document.add(0, "cat", blob, 0.9)
    document.add(1, "dog", empty)
    document.add(2, "cat", ~blob)
    read = json.loads(document.content())
    assert read["images"] == [{"id": 1, "file_name": "photo.png", "width": 200, "height": 150}]
    assert read["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    first, second = read["annotations"]
    assert [item["id"] for item in (first, second)] == [1, 3], "a mask that selects nothing has no annotation"
    assert [item["category_id"] for item in (first, second)] == [1, 1]
    assert (first["image_id"], first["iscrowd"], first["area"]) == (1, 0, blob.sum())
    assert first["bbox"] == [50, 37, 101, 76]
    assert first["score"] == 0.9
    assert "score" not in second
    assert second["segmentation"]["size"] == [150, 200]
    assert np.array_equal(mask_of_rle(second["segmentation"]["counts"], 150, 200), ~blob)
    assert all(len(polygon) >= 8 for polygon in first["polygons"])


def test_a_document_without_masks_is_a_document() -> None:
    assert json.loads(CocoDocument("a.png", 2, 2).content())["annotations"] == []


@pytest.mark.parametrize(
    ("given_as", "name"),
    [
        ("ok.png", "ok.png"),
        ("/home/me/my photos/ok.png", "ok.png"),
        (r"C:\photos\ok.png", "ok.png"),
        ("100%25.png", "100%25.png"),
        ("file:///C:/photos/a%20b.png", "a b.png"),
        ("https://photos.example/2026/%C3%A4%20b.png?size=large#top", "ä b.png"),
        ("https://photos.example/a%2F..%2Fb.png", "b.png"),
        ("https://photos.example/", "picture"),
        ("https://photos.example", "picture"),
        ("data:image/png;base64,iVBO", "picture.png"),
        ("DATA:image/jpeg;base64,/9j/", "picture.jpg"),
        ("data:,x", "picture"),
        (" ok.png ", "ok.png"),
        ("x" * 300 + ".png", "x" * 251 + ".png"),
    ],
)
def test_the_picture_has_the_file_name_that_the_user_gave(given_as: str, name: str) -> None:
    assert file_name_of(given_as) == name
