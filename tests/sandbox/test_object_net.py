"""The object net: what goes in and out, which of its answers is kept, and what happens without it."""

import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from engine_media import MaskArray, Pixels, Scene, overlap
from tiny_net import ShownNet, redness_net, undersized_net

from rotoscope_sandbox.vision.description import describe_areas, sa2va_text
from rotoscope_sandbox.vision.net_masks import find_in_box, find_under_points
from rotoscope_sandbox.vision.object_net import ObjectNet, UnusableWeights, load_object_net
from rotoscope_sandbox.vision.pixels import PixelBox
from rotoscope_sandbox.vision.segmentation import most_salient_region, segment_box, segment_boxes, segment_points
from rotoscope_sandbox.weights import MISSING_NOTICE, UNUSABLE_NOTICE, Weights


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> ObjectNet:
    return load_object_net(redness_net(tmp_path_factory.mktemp("net") / "red.onnx"))


def is_red(frame: Pixels) -> MaskArray:
    return np.asarray(frame[..., 0] > 150)


def canvas(height: int = 200, width: int = 300) -> Pixels:
    return np.full((height, width, 3), (40, 90, 60), np.uint8)


def with_squares(*corners: tuple[int, int], side: int = 40) -> tuple[Pixels, MaskArray]:
    frame = canvas()
    for left, top in corners:
        frame[top : top + side, left : left + side] = (220, 40, 40)
    return frame, is_red(frame)


# The net itself


def test_the_answer_has_the_size_of_the_picture_and_reaches_from_0_to_1(net: ObjectNet, scene: Scene) -> None:
    found = net.find_object(scene.frame)
    assert found.shape == scene.mask.shape
    assert (found.min(), found.max()) == pytest.approx((0, 1), abs=0.01)
    assert overlap(found > 0.5, scene.mask) > 0.9


def test_a_picture_is_divided_by_its_largest_value_before_the_net_sees_it(net: ObjectNet, scene: Scene) -> None:
    dark = (scene.frame // 4).astype(np.uint8)
    assert overlap(net.find_object(dark) > 0.5, net.find_object(scene.frame) > 0.5) > 0.97


@pytest.mark.parametrize("value", [0, 128, 255])
def test_in_a_plain_picture_nothing_is_found(net: ObjectNet, value: int) -> None:
    assert not net.find_object(np.full((50, 70, 3), value, np.uint8)).any()


def test_threads_that_share_a_net_get_their_own_answers(net: ObjectNet) -> None:
    pictures = [with_squares((20 * n, 30))[0] for n in range(6)]
    expected = [net.find_object(picture) for picture in pictures]
    found: list[object] = [None] * len(pictures)

    def find(n: int) -> None:
        found[n] = net.find_object(pictures[n])

    threads = [threading.Thread(target=find, args=(n,)) for n in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(np.array_equal(np.asarray(one), other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("content", [b"", b"no net", b"\x08\x07", b"<html></html>"])
def test_a_file_that_is_no_net_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(UnusableWeights):
        load_object_net(path)


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    whole = redness_net(tmp_path / "net.onnx")
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(UnusableWeights):
        load_object_net(whole)


def test_a_net_that_answers_in_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableWeights, match="62"):
        load_object_net(undersized_net(tmp_path / "net.onnx"))


# Crops around a box


def test_crops_around_a_box_are_shown_until_they_agree() -> None:
    frame, _ = with_squares((100, 80))
    clear = ShownNet(is_red)
    found = find_in_box(clear, frame, PixelBox(99, 79, 141, 121))
    assert clear.shown == [(54, 54), (46, 46)]
    assert (found.agreement, found.mask.sum()) == (1.0, 1600)


def test_more_crops_decide_where_two_do_not_agree_well() -> None:
    frame, truth = with_squares((100, 80))

    def see_half_in_the_first(shown: Pixels) -> MaskArray:
        mask = is_red(shown)
        if shown.shape[1] == 54:
            mask[:, 27:] = False
        return mask

    disagreeing = ShownNet(see_half_in_the_first)
    found = find_in_box(disagreeing, frame, PixelBox(99, 79, 141, 121))
    assert len(disagreeing.shown) == 4
    assert np.array_equal(found.mask, truth)
    assert 0.5 < found.trust < 0.9


def test_the_answer_whose_own_box_fits_best_is_kept() -> None:
    """Inside of the box there is a smaller red square beside the one that fills it."""
    frame, _ = with_squares((100, 80))

    def see_less_from_afar(shown: Pixels) -> MaskArray:
        mask = is_red(shown)
        rows = np.flatnonzero(mask.any(axis=1))
        if shown.shape[1] > 60 and rows.size:
            mask[rows[rows.size * 2 // 3] :] = False
        return mask

    found = find_in_box(ShownNet(see_less_from_afar), frame, PixelBox(100, 80, 140, 120))
    assert found.mask.sum() == 1600
    assert found.fit == 1.0


def test_nothing_outside_of_the_box_is_selected(net: ObjectNet) -> None:
    frame, truth = with_squares((100, 80), (160, 80))
    found = segment_box(frame, PixelBox(95, 75, 150, 125), net=net)
    assert found.method == "u2net from a box"
    truth[:, 150:] = False
    assert overlap(found.mask, truth) > 0.9
    assert not found.mask[:, 150:].any()


def test_where_the_crops_see_different_things_colours_decide(scene: Scene) -> None:
    def see_a_corner(shown: Pixels) -> MaskArray:
        mask = np.zeros(shown.shape[:2], np.bool_)
        half = shown.shape[0] // 2
        if len(disagreeing.shown) % 2:
            mask[:half, :half] = True
        else:
            mask[half:, half:] = True
        return mask

    disagreeing = ShownNet(see_a_corner)
    left, top, right, bottom = scene.box
    found = segment_box(scene.frame, PixelBox(left - 8, top - 8, right + 8, bottom + 8), net=disagreeing)
    assert found.method == "grabcut from a box"
    assert overlap(found.mask, scene.mask) > 0.95


def test_a_net_that_finds_nothing_leaves_it_to_colours(scene: Scene) -> None:
    empty = ShownNet(lambda shown: np.zeros(shown.shape[:2], np.bool_))
    box, point = PixelBox(*scene.box), (190.0, 110.0)
    assert segment_box(scene.frame, box, net=empty).method.startswith("grabcut")
    assert segment_points(scene.frame, [point], net=empty).method.startswith("merge tree")
    assert most_salient_region(scene.frame, empty).method == "salience by grabcut"
    assert not describe_areas(scene.frame, empty)[0].is_object


def test_the_whole_picture_is_no_object(scene: Scene) -> None:
    covering = ShownNet(lambda shown: np.ones(shown.shape[:2], np.bool_))
    assert most_salient_region(scene.frame, covering).method == "salience by grabcut"
    assert not describe_areas(scene.frame, covering)[0].is_object


def test_a_box_as_large_as_the_picture_is_shown_once() -> None:
    frame, truth = with_squares((100, 80))
    once = ShownNet(is_red)
    assert np.array_equal(find_in_box(once, frame, PixelBox(0, 0, 300, 200)).mask, truth)
    assert once.shown == [(300, 200)]


def test_several_boxes_are_one_mask(net: ObjectNet) -> None:
    frame, truth = with_squares((40, 60), (220, 120))
    boxes = [PixelBox(38, 58, 82, 102), PixelBox(218, 118, 262, 162)]
    assert overlap(segment_boxes(frame, boxes, [], [], net).mask, truth) > 0.95


# Clicks


def test_the_part_under_the_points_is_selected_and_nothing_else() -> None:
    frame, truth = with_squares((100, 80), (200, 80))
    found = find_under_points(ShownNet(is_red), frame, [(110.0, 90.0)], [])
    truth[:, 180:] = False
    assert np.array_equal(found.mask, truth)


def test_an_answer_that_its_crop_cuts_off_is_worth_less() -> None:
    """A long bar: only the whole picture shows all of it."""
    frame = canvas(200, 600)
    frame[90:110, 20:580] = (220, 40, 40)
    found = find_under_points(ShownNet(is_red), frame, [(300.0, 100.0)], [])
    assert found.mask.sum() == 20 * 560


def test_an_answer_that_holds_an_excluded_point_does_not_fit() -> None:
    frame, _ = with_squares((100, 80))
    assert find_under_points(ShownNet(is_red), frame, [(110.0, 90.0)], [(130.0, 110.0)]).fit == 0.0


@pytest.mark.parametrize("boxed", [False, True])
def test_what_was_excluded_stays_out_and_what_was_wanted_gets_in(net: ObjectNet, boxed: bool) -> None:
    """Two squares that touch are one to the net, and a grey one beside them is none."""
    frame, _ = with_squares((80, 80), (120, 80), (160, 80))
    frame[80:120, 120:160] = (150, 30, 120)
    keep, drop = [(100.0, 100.0), (140.0, 100.0)], [(180.0, 100.0)]
    if boxed:
        found = segment_box(frame, PixelBox(76, 76, 204, 124), keep, drop, net)
    else:
        found = segment_points(frame, keep, drop, net)
    assert found.mask[100, 100]
    assert found.mask[100, 140]
    assert not found.mask[100, 180]


def test_clicks_that_agree_with_the_mask_leave_it_as_it_is(net: ObjectNet) -> None:
    frame, _ = with_squares((100, 80))
    box = PixelBox(96, 76, 144, 124)
    without = segment_box(frame, box, net=net)
    clicked = segment_box(frame, box, [(120.0, 100.0)], [(97.0, 77.0)], net)
    assert (clicked.method, np.array_equal(clicked.mask, without.mask)) == (without.method, True)


def test_a_click_on_a_small_part_beside_the_object_adds_all_of_it(net: ObjectNet) -> None:
    frame, truth = with_squares((100, 80), side=60)
    frame[140:146, 96:164] = (20, 20, 20)
    shadow = np.zeros_like(truth)
    shadow[140:146, 96:164] = True
    box = PixelBox(94, 78, 166, 148)
    assert not (segment_box(frame, box, net=net).mask & shadow).any()
    found = segment_box(frame, box, [(130.0, 143.0)], [], net)
    assert found.method == "u2net from a box, corrected by grabcut"
    assert overlap(found.mask, truth | shadow) > 0.9


# Words and descriptions


def test_words_get_the_object_whole_with_low_confidence(net: ObjectNet, scene: Scene) -> None:
    found = most_salient_region(scene.frame, net)
    assert overlap(found.mask, scene.mask) > 0.9
    assert (found.method, found.confidence <= 0.25) == ("salience by u2net", True)


def test_a_description_begins_with_the_object_and_goes_on_with_its_surroundings(net: ObjectNet) -> None:
    frame = canvas()
    frame[:60] = (120, 160, 230)
    frame[90:150, 120:180] = (220, 40, 40)
    areas = describe_areas(frame, net)
    assert [area.phrase for area in areas] == [
        "the area that stands out, a small red area in the center (6% of the image)",
        "a large green area in the center (64% of the image)",
        "a large blue area in the top center (30% of the image)",
    ]
    assert [area.is_object for area in areas] == [True, False, False]
    for n, area in enumerate(areas):
        assert not any((area.mask & other.mask).any() for other in areas[n + 1 :])
    assert sa2va_text(areas).count("[SEG]") == 3


def test_the_same_picture_gives_the_same_masks(net: ObjectNet, scene: Scene) -> None:
    def masks() -> list[MaskArray]:
        box, points = PixelBox(*scene.box), [(190.0, 110.0)]
        return [
            segment_box(scene.frame, box, points, [(10.0, 10.0)], net).mask,
            segment_points(scene.frame, points, [], net).mask,
            most_salient_region(scene.frame, net).mask,
            *(area.mask for area in describe_areas(scene.frame, net)),
        ]

    assert [one.tobytes() for one in masks()] == [one.tobytes() for one in masks()]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 7), (400, 3), (3, 400)])
def test_tiny_and_thin_pictures_get_a_mask_with_a_net_too(net: ObjectNet, size: tuple[int, int]) -> None:
    frame = np.random.default_rng(5).integers(0, 255, (*size, 3), dtype=np.uint8)
    whole = PixelBox(0, 0, size[1], size[0])
    for found in (
        segment_box(frame, whole, net=net),
        segment_points(frame, [(0.0, 0.0)], net=net),
        most_salient_region(frame, net),
    ):
        assert found.mask.shape == size
        assert found.mask.any()
    assert describe_areas(frame, net)[0].mask.shape == size


# The file


def test_without_a_file_there_is_a_notice_that_says_how_to_get_one(tmp_path: Path) -> None:
    assert Weights(None).open_net() == (None, MISSING_NOTICE)
    assert Weights(tmp_path / "none.onnx").open_net() == (None, MISSING_NOTICE)


def test_a_file_that_comes_later_is_used_from_then_on(tmp_path: Path) -> None:
    weights = Weights(tmp_path / "net.onnx")
    assert weights.open_net()[0] is None
    redness_net(tmp_path / "net.onnx")
    net, notice = weights.open_net()
    assert (net is not None, notice) == (True, None)
    assert weights.open_net()[0] is net


def test_a_net_that_no_run_uses_is_gone(tmp_path: Path) -> None:
    weights = Weights(redness_net(tmp_path / "net.onnx"))
    net, _ = weights.open_net()
    assert net is not None
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    assert weights.open_net()[0] is not None


def test_a_damaged_file_is_said_and_is_used_once_it_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"damaged")
    weights = Weights(path)
    assert weights.open_net() == weights.open_net() == (None, UNUSABLE_NOTICE)
    redness_net(path)
    assert weights.open_net()[0] is not None
