"""Masks that follow an object through a clip: by a net's features, and by flow and colours where there are none."""

import os
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import pytest
from engine_media import MaskArray, Pixels, overlap
from tiny_net import ShownNet, blocks_net, redness_net

from rotoscope_sandbox.film.mask_tracking import MaskTracker
from rotoscope_sandbox.vision.object_net import ObjectNet, load_object_net
from rotoscope_sandbox.weights_download import U2NETP, has_weights

WEIGHTS = Path(os.environ.get("ROTOSCOPE_TEST_WEIGHTS") or Path.home() / ".local/share/rotoscope/weights/u2netp.onnx")
HEIGHT, WIDTH, FRAMES = 180, 320, 20
Disc: TypeAlias = tuple[float, float, float]
"""x, y and radius in pixels."""


@pytest.fixture(scope="module", params=["no net", "a small net", "the object net"])
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ObjectNet | None:
    if request.param == "no net":
        return None
    if request.param == "a small net":
        return load_object_net(blocks_net(tmp_path_factory.mktemp("net") / "blocks.onnx"))
    if not has_weights(WEIGHTS, U2NETP):
        reason = f"the weights are not in {WEIGHTS}: run rotoscope sandbox weights"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return load_object_net(WEIGHTS)


@pytest.fixture(scope="module")
def small_net(tmp_path_factory: pytest.TempPathFactory) -> ObjectNet:
    return load_object_net(blocks_net(tmp_path_factory.mktemp("net") / "blocks.onnx"))


def grain(seed: int, colour: tuple[int, int, int], shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Pixels:
    """Blotches of a few pixels around a colour."""
    noise = np.random.default_rng(seed).normal(0, 60, (*shape, 3)).astype(np.float32)
    return np.asarray((cv2.GaussianBlur(noise, (0, 0), 1.5) * 2 + colour).clip(0, 255), np.uint8)


GROUND, THING, OTHER, WALL = (
    grain(seed, colour)
    for seed, colour in ((1, (80, 120, 90)), (2, (190, 80, 60)), (4, (190, 80, 60)), (3, (60, 60, 70)))
)


def disc_mask(disc: Disc) -> MaskArray:
    x, y, radius = disc
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def draw(disc: Disc, texture: Pixels, onto: Pixels) -> Pixels:
    """A disc whose texture moves and grows with it."""
    x, y, radius = disc
    scale = radius / 30
    placed = cv2.warpAffine(
        texture,
        np.array([[scale, 0, x - 90 * scale], [0, scale, y - 90 * scale]]),
        (WIDTH, HEIGHT),
        borderMode=cv2.BORDER_WRAP,
    )
    return np.where(disc_mask(disc)[..., None], placed, onto).astype(np.uint8)


def follow(frames: Iterable[Pixels], first: MaskArray, net: ObjectNet | None) -> list[MaskArray]:
    """The masks of all frames but the first."""
    way = iter(frames)
    tracker = MaskTracker(next(way), first, net)
    return [tracker.next_mask(frame) for frame in way]


def moving(count: int = FRAMES) -> Iterator[Disc]:
    yield from ((60 + 6 * n, 80 + 1.5 * n, 30) for n in range(count))


def overlaps(masks: Iterable[MaskArray], discs: Iterable[Disc]) -> list[float]:
    return [overlap(mask, disc_mask(disc)) for mask, disc in zip(masks, discs, strict=True)]


def test_a_mask_follows_an_object_that_moves(net: ObjectNet | None) -> None:
    discs = list(moving())
    masks = follow((draw(disc, THING, GROUND) for disc in discs), disc_mask(discs[0]), net)
    assert min(overlaps(masks, discs[1:])) > 0.8
    assert masks[0].shape == (HEIGHT, WIDTH)
    assert masks[0].dtype == np.bool_


def test_a_mask_grows_with_its_object(net: ObjectNet | None) -> None:
    discs: list[Disc] = [(160, 90, 24 * 1.05**n) for n in range(FRAMES)]
    masks = follow((draw(disc, THING, GROUND) for disc in discs), disc_mask(discs[0]), net)
    assert min(overlaps(masks, discs[1:])) > 0.8


def test_an_object_that_was_hidden_is_found_again(net: ObjectNet | None) -> None:
    """It passes behind a wall that is wider than it is."""
    discs: list[Disc] = [(50 + 8 * n, 90, 26) for n in range(28)]
    wall = np.zeros((HEIGHT, WIDTH), np.bool_)
    wall[:, 130:190] = True
    frames = (np.where(wall[..., None], WALL, draw(disc, THING, GROUND)) for disc in discs)
    masks = follow(frames, disc_mask(discs[0]), net)
    seen = [disc_mask(disc) & ~wall for disc in discs[1:]]
    hidden = next(n for n, mask in enumerate(seen) if mask.sum() == 0)
    assert min(overlap(masks[n], seen[n]) for n in range(6)) > 0.75
    assert masks[hidden].sum() < 0.3 * seen[0].sum()
    if net is not None:
        assert overlap(masks[-1], seen[-1]) > 0.75


def test_the_mask_of_an_object_that_leaves_the_frame_ends_as_a_speck_at_most(net: ObjectNet | None) -> None:
    discs: list[Disc] = [(220 + 9 * n, 90, 26) for n in range(FRAMES)]
    masks = follow((draw(disc, THING, GROUND) for disc in discs), disc_mask(discs[0]), net)
    assert overlap(masks[7], disc_mask(discs[8])) > 0.6
    assert masks[-1].sum() < 0.1 * disc_mask(discs[0]).sum()


def test_a_mask_does_not_take_in_a_like_object_beside_it(net: ObjectNet | None) -> None:
    discs = [(60 + 4 * n, 60.0, 26.0) for n in range(FRAMES)]
    others = [(60 + 4 * n, 124.0, 26.0) for n in range(FRAMES)]
    frames = (draw(one, THING, draw(other, OTHER, GROUND)) for one, other in zip(discs, others, strict=True))
    masks = follow(frames, disc_mask(discs[0]), net)
    assert min(overlaps(masks, discs[1:])) > 0.75
    assert max(overlaps(masks, others[1:])) < 0.1


@pytest.mark.parametrize("net", ["a small net", "the object net"], indirect=True)
def test_a_mask_stays_on_its_own_object_where_a_like_one_brushes_past(net: ObjectNet) -> None:
    """Both go in opposite directions and touch in the middle."""
    discs: list[Disc] = [(70 + 5 * n, 64, 28) for n in range(24)]
    others: list[Disc] = [(x, 118, radius) for x, _, radius in reversed(discs)]
    frames = [draw(one, THING, draw(other, OTHER, GROUND)) for one, other in zip(discs, others, strict=True)]
    masks = follow(frames, disc_mask(discs[0]), net)
    assert min(overlaps(masks, discs[1:])) > 0.8


def test_the_same_clip_gives_the_same_masks_with_any_number_of_threads(net: ObjectNet | None) -> None:
    discs, threads = list(moving(8)), cv2.getNumThreads()
    frames = [draw(disc, THING, GROUND) for disc in discs]
    once = follow(frames, disc_mask(discs[0]), net)
    again = follow(frames, disc_mask(discs[0]), net)
    try:
        cv2.setNumThreads(1)
        alone = follow(frames, disc_mask(discs[0]), net)
    finally:
        cv2.setNumThreads(threads)
    assert all(map(np.array_equal, once, again))
    assert min(map(overlap, once, alone)) > 0.99


def test_two_clips_that_are_followed_in_turns_do_not_mix(net: ObjectNet | None) -> None:
    """Both share the net."""
    clips: list[list[Disc]] = [list(moving(4)), [(250 - 5 * n, 120.0, 34.0) for n in range(4)]]
    shown = [[draw(disc, THING, GROUND) for disc in discs] for discs in clips]
    firsts = [disc_mask(discs[0]) for discs in clips]
    trackers = [MaskTracker(frames[0], first, net) for frames, first in zip(shown, firsts, strict=True)]
    turns = [[tracker.next_mask(frames[n]) for tracker, frames in zip(trackers, shown, strict=True)] for n in (1, 2, 3)]
    apart = [follow(frames, first, net) for frames, first in zip(shown, firsts, strict=True)]
    for n, masks in enumerate(apart):
        assert all(np.array_equal(mask, turn[n]) for mask, turn in zip(masks, turns, strict=True))


def test_what_is_kept_does_not_grow_with_the_clip(net: ObjectNet | None) -> None:
    disc = next(moving())
    frame = draw(disc, THING, GROUND)
    tracker = MaskTracker(frame, disc_mask(disc), net)
    for _ in range(8):
        tracker.next_mask(frame)
    tracemalloc.start()
    try:
        tracker.next_mask(frame)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(12):
            tracker.next_mask(frame)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < frame.nbytes / 2


def pixel(shape: tuple[int, int]) -> MaskArray:
    mask = np.zeros(shape, np.bool_)
    mask[shape[0] // 2, shape[1] // 2] = True
    return mask


def left_half(shape: tuple[int, int]) -> MaskArray:
    mask = np.zeros(shape, np.bool_)
    mask[:, : max(1, shape[1] // 2)] = True
    return mask


def whole(shape: tuple[int, int]) -> MaskArray:
    return np.ones(shape, np.bool_)


def nothing(shape: tuple[int, int]) -> MaskArray:
    return np.zeros(shape, np.bool_)


@pytest.mark.parametrize("first", [pixel, left_half, whole, nothing])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (1, 300), (300, 1), (320, 90), (40, 1000)])
def test_any_shape_of_frame_and_mask_gives_masks_of_that_shape(
    net: ObjectNet | None, shape: tuple[int, int], first: Callable[[tuple[int, int]], MaskArray]
) -> None:
    frames = [np.roll(grain(6, (120, 120, 120), shape), n, axis=1) for n in range(3)]
    masks = follow([*frames, np.zeros_like(frames[0])], first(shape), net)
    assert [mask.shape for mask in masks] == [shape] * 3
    assert first is not nothing or not any(mask.any() for mask in masks)


@pytest.mark.parametrize("blocks", [3, 10, 12])
def test_a_net_that_is_built_otherwise_gives_no_features_and_is_used_as_before(tmp_path: Path, blocks: int) -> None:
    """It still finds objects."""
    discs = list(moving(6))
    frames = [draw(disc, THING, GROUND) for disc in discs]
    other = load_object_net(blocks_net(tmp_path / "net.onnx", blocks))
    assert not other.has_features
    plain = load_object_net(redness_net(tmp_path / "red.onnx"))
    pairs = zip(*(follow(frames, disc_mask(discs[0]), one) for one in (other, plain)), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)


def test_features_are_planes_with_a_part_of_the_pictures_side(small_net: ObjectNet) -> None:
    assert small_net.has_features
    view = small_net.view(GROUND, 96)
    assert view.picture.shape == (96, 96, 3)
    assert view.salient.shape == (96, 96)
    assert [plane.shape for plane in view.features] == [(48, 48, 8)] * 5


def test_outputs_for_features_change_nothing_of_what_a_net_finds(tmp_path: Path, small_net: ObjectNet) -> None:
    frame = draw((160, 90, 40), THING, GROUND)
    plain = load_object_net(redness_net(tmp_path / "red.onnx"))
    assert np.array_equal(small_net.find_object(frame), plain.find_object(frame))


def test_a_net_in_python_is_used_as_one_without_features() -> None:
    discs = list(moving(6))
    frames = [draw(disc, THING, GROUND) for disc in discs]
    shown = ShownNet(lambda frame: np.asarray(frame[..., 0].astype(int) - frame[..., 1] > 20))
    follow(frames, disc_mask(discs[0]), shown)
    assert shown.shown
