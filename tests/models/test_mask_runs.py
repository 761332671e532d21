"""Laws of run lengths: what is encoded is read again in every spelling, and what is broken does no more than fail."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from rotoscope.media.image.coco import encode_rle
from rotoscope.models.mask_runs import BrokenRuns, MaskFrames, draw_runs, find_run_order, read_mask_frames

Mask = NDArray[np.bool_]
SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))
MASKS = SIZES.flatmap(lambda size: arrays(np.bool_, size))
NAMES = st.sampled_from(["frames", "rle", "objects", "size", "counts", "track_id", "frame_index", "width", "height"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def runs(mask: Mask, first: int = 1) -> list[tuple[int, int]]:
    """Start and length of every run, row by row."""
    flat = np.concatenate(([0], mask.ravel().astype(np.int8), [0]))
    edges = np.flatnonzero(np.diff(flat))
    return [(int(a) + first, int(b - a)) for a, b in zip(edges[0::2], edges[1::2], strict=True)]


def as_text(mask: Mask, first: int = 1) -> str:
    return " ".join(f"{start} {length}" for start, length in runs(mask, first))


def alternating(mask: Mask) -> list[int]:
    """The lengths of the runs of 0 and 1 in turn, column by column."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if bool(pixel) != value:
            counts.append(0)
            value = not value
        counts[-1] += 1
    return counts


def spelled(mask: Mask) -> dict[str, Any]:
    height, width = mask.shape
    return {
        "text": as_text(mask),
        "commas": as_text(mask).replace(" ", ","),
        "list": [number for pair in runs(mask) for number in pair],
        "pairs": [list(pair) for pair in runs(mask)],
        "counts": {"size": [height, width], "counts": alternating(mask)},
        "compressed": {"size": [height, width], "counts": encode_rle(mask)},
        "bare counts": alternating(mask),
        "bare compressed": encode_rle(mask),
        "JSON": json.dumps({"size": [height, width], "counts": encode_rle(mask)}),
    }


def drawn(spelling: Any, mask: Mask) -> Mask:
    return draw_runs(spelling, (mask.shape[1], mask.shape[0]))


@given(MASKS)
def test_a_mask_is_read_again_from_every_spelling(mask: Mask) -> None:
    for name, spelling in spelled(mask).items():
        # Starts and lengths of a list may add up to the picture: then they are counts, as the table says.
        numbers = spelling if name == "list" else []
        if not mask.any() and name in ("text", "commas", "list", "pairs"):
            continue
        if not numbers or sum(numbers) != mask.size:
            assert np.array_equal(drawn(spelling, mask), mask), name


@given(MASKS)
def test_starts_that_count_from_zero_are_read_where_one_of_them_is_zero(mask: Mask) -> None:
    mask[0, 0] = True
    assert np.array_equal(drawn(as_text(mask, first=0), mask), mask)


@given(ANYTHING, st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_what_is_no_run_length_fails_and_does_nothing_else(spelling: Any, size: tuple[int, int]) -> None:
    try:
        found = draw_runs(spelling, size)
    except BrokenRuns:
        return
    assert found.dtype == np.bool_
    assert found.size <= 18_000_000


@given(ANYTHING)
def test_no_document_makes_the_reader_crash(document: Any) -> None:
    found = read_mask_frames(document, 50)
    assert all(0 <= number < 50 for number in found.objects)
    assert all(len(objects) <= 256 for objects in found.objects.values())


@pytest.mark.parametrize(
    "broken",
    ["5", "1 2 3", "1 -2", "90 20", "0 101", "a b", "1 2.5", [1, "x"], {"size": [10, 10], "counts": [5, 5]},
     {"size": [10, 10], "counts": "~~"}, {"size": [10, 10], "counts": "P"}, {"size": [-1, 10], "counts": "1"},
     {"size": [10**9, 10**9], "counts": [1]}, {"size": [10, 10], "counts": [-5, 105]}, 7, True, "9" * 400 + " 1"],
)  # fmt: skip
def test_runs_that_leave_their_picture_or_are_no_numbers_are_broken(broken: Any) -> None:
    with pytest.raises(BrokenRuns):
        draw_runs(broken, (10, 10))


def disc() -> Mask:
    rows, columns = np.mgrid[0:40, 0:70]
    return np.asarray((rows - 18) ** 2 + (columns - 40) ** 2 <= 14**2)


@pytest.mark.parametrize(("mask", "order"), [(disc(), "rows"), (disc().T, "columns")])
def test_the_picture_shows_whether_runs_go_by_rows_or_by_columns(mask: Mask, order: str) -> None:
    size = (70, 40)
    frames = read_mask_frames({"rle": [as_text(mask), None, as_text(mask)]}, 10)
    found = find_run_order(frames, size)
    assert found == order
    assert np.array_equal(draw_runs(as_text(mask), size, found), disc())


def test_without_a_mask_runs_go_by_rows() -> None:
    assert find_run_order(MaskFrames(), (10, 10)) == "rows"


def numbers(frames: MaskFrames) -> dict[int, list[int]]:
    return {number: [one.track_id for one in objects] for number, objects in frames.objects.items()}


def test_objects_keep_their_numbers_and_frames_without_one_are_left_out() -> None:
    document: Any = {
        "frames": [
            {"frame_index": 0, "objects": [{"track_id": 3, "rle": "1 2"}, {"track_id": 7, "rle": "5 1"}]},
            {"frame_index": 1, "objects": []},
            {"frame_index": 2, "objects": [{"track_id": 7, "rle": "6 1"}]},
        ],
        "width": 4,
        "height": 3,
        "num_frames": 4,
    }
    found = read_mask_frames(document, 100)
    assert (numbers(found), found.count, found.size) == ({0: [3, 7], 2: [7]}, 4, (4, 3))


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"rle": ["1 2", "", None, "3 4"]}, {0: [0], 3: [0]}),
        (["1 2", {"size": [1, 9], "counts": "9"}], {0: [0], 1: [0]}),
        ('["1 2", "3 4"]', {0: [0], 1: [0]}),
        ("1 2", {0: [0]}),
        ([1, 2, 5, 2], {0: [0]}),
        ([["1 2", "5 2"], [{"object_id": 9, "mask": "1 1"}]], {0: [0, 1], 1: [9]}),
        ({"rle": []}, {}),
        (None, {}),
    ],
)
def test_a_list_has_a_frame_at_each_place(document: Any, found: dict[int, list[int]]) -> None:
    assert numbers(read_mask_frames(document, 100)) == found


def test_frames_beyond_those_of_the_clip_are_not_read() -> None:
    found = read_mask_frames({"rle": ["1 2"] * 500}, 20)
    assert (len(found.objects), found.count) == (20, 500)
