"""Clips that are longer than a model takes: how they are cut into parts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.models.clip_parts import ClipPart, PartLimit, plan_parts

VACE = PartLimit(most=81, least=1, step=4, offset=1)
LIMITS = st.builds(
    lambda units, step, offset, least: PartLimit(
        offset + units * step, min(least, offset + units * step), step, offset
    ),
    st.integers(8, 60),
    st.integers(1, 8),
    st.integers(0, 3),
    st.integers(1, 8),
)


@given(st.integers(1, 2000), st.lists(st.integers(0, 2000), max_size=30, unique=True), LIMITS)
def test_parts_hold_every_frame_and_the_model_takes_each_of_them(
    frames: int, cuts: list[int], limit: PartLimit
) -> None:
    parts = plan_parts(frames, sorted(cuts), limit)
    assert parts[0].first == 0
    assert parts[-1].end == frames
    for part in parts:
        assert 1 <= part.frames <= part.sent <= limit.most
        assert (part.sent - limit.offset) % limit.step == 0
        assert part.sent >= min(limit.least, limit.most)
    for before, after in pairwise(parts):
        assert before.first < after.first <= before.end < after.end
    for before, after in zip(parts, parts[2:], strict=False):
        assert before.end <= after.first  # no more than two have a frame in common


@given(st.integers(1, 2000), st.lists(st.integers(0, 2000), max_size=30, unique=True), LIMITS)
def test_scene_changes_cost_no_part_more(frames: int, cuts: list[int], limit: PartLimit) -> None:
    assert len(plan_parts(frames, sorted(cuts), limit)) <= len(plan_parts(frames, [], limit))


def test_a_clip_that_is_short_enough_is_one_part() -> None:
    assert plan_parts(81, [40], VACE) == (ClipPart(0, 81, 81),)
    assert plan_parts(78, [], VACE) == (ClipPart(0, 78, 81),)


def test_a_long_take_is_cut_into_equal_parts_that_overlap() -> None:
    assert plan_parts(200, [], VACE) == (ClipPart(0, 72, 73), ClipPart(64, 72, 73), ClipPart(128, 72, 73))


def test_at_a_scene_change_parts_do_not_overlap() -> None:
    assert plan_parts(120, [50], VACE) == (ClipPart(0, 50, 53), ClipPart(50, 70, 73))


def test_a_scene_change_that_would_cost_a_part_more_is_not_used() -> None:
    first, second = plan_parts(150, [10], VACE)
    assert first.end - second.first == VACE.overlap


@pytest.mark.parametrize("scenes", [[3], [117]])
def test_no_part_is_shorter_than_the_model_takes(scenes: list[int]) -> None:
    assert all(part.frames >= 20 for part in plan_parts(120, scenes, PartLimit(most=81, least=20)))
