"""What a planned run may cost: never less than what is charged, and unknown where the price is not known."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.estimate import MediaLength
from rotoscope.models.manifest import Manifest
from rotoscope.models.plan import plan_call
from rotoscope.models.price import Price

CATALOG = load_catalog(manifest_folder())
CLIP, MASK = "artifact://" + "a" * 64, "artifact://" + "b" * 64
EDIT = {"prompt": "a", "video": CLIP, "mask": MASK}


def priced(model: str, unit: Any = "output_second", usd: float = 1.0, **outputs: Any) -> Manifest:
    """A model of the catalog with another price, and with other facts of its output."""
    found = CATALOG.models[model]
    price = Price(unit=unit, usd=usd, seen="2026-11")
    return found.model_copy(update={"price": price, "outputs": found.outputs.model_copy(update=outputs)})


def changed(manifest: Manifest, name: str, **facts: Any) -> Manifest:
    field = manifest.inputs[name].model_copy(update=facts)
    return manifest.model_copy(update={"inputs": {**manifest.inputs, name: field}})


def without(manifest: Manifest, name: str) -> Manifest:
    return manifest.model_copy(update={"inputs": {n: field for n, field in manifest.inputs.items() if n != name}})


def cost(manifest: Manifest, arguments: dict[str, Any], clip: MediaLength | None = None) -> float | None:
    media = {} if clip is None else {CLIP: clip}
    return plan_call(manifest, manifest.routes[0], arguments, lambda: 1, media).estimate.typical_usd


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [({}, 81 / 16), ({"frame_num": 41}, 41 / 16), ({"frame_num": 1}, 1 / 16), ({"frame_num": 81}, 81 / 16)],
)
def test_seconds_of_an_edit_come_from_its_frames_and_the_rate_of_the_model(
    asked: dict[str, Any], seconds: float
) -> None:
    for clip in (None, MediaLength(10.0, 240)):
        assert cost(priced("prunaai/vace-14b"), {**EDIT, **asked}, clip) == pytest.approx(seconds, abs=1e-5)


def test_where_the_model_has_no_rate_of_its_own_that_of_the_edited_video_counts() -> None:
    manifest = priced("prunaai/vace-14b", frame_rate=None)
    assert cost(manifest, {**EDIT, "frame_num": 41}, MediaLength(10.0, 100)) == 4.1
    assert cost(manifest, EDIT, MediaLength(10.0, 100)) == 8.1


def test_a_price_for_seconds_that_nobody_knows_is_unknown_and_not_nothing() -> None:
    """A video that is passed on by its address was read by nobody here."""
    assert cost(priced("prunaai/vace-14b", frame_rate=None), EDIT) is None
    assert cost(without(priced("prunaai/vace-14b"), "frame_num"), EDIT) is None
    endless = changed(priced("bytedance/seedance-2.0"), "duration", maximum=None)
    assert cost(endless, {"prompt": "a", "duration": -1}) is None


def test_a_model_that_counts_neither_seconds_nor_frames_edits_the_whole_video() -> None:
    assert cost(without(priced("prunaai/vace-14b"), "frame_num"), EDIT, MediaLength(12.5, 300)) == 12.5


@pytest.mark.parametrize("facts", [{"also": (-1,)}, {"default": None}])
def test_where_the_model_chooses_how_many_frames_it_is_the_most_that_it_could(facts: dict[str, Any]) -> None:
    manifest = changed(priced("prunaai/vace-14b"), "frame_num", **facts)
    asked = {**EDIT, "frame_num": -1} if "also" in facts else EDIT
    assert cost(manifest, asked) == pytest.approx(81 / 16, abs=1e-5)
    unbound = changed(manifest, "frame_num", maximum=None)
    assert cost(unbound, asked, MediaLength(20.0, 480)) == 30.0  # all of its frames, at 16 a second
    assert cost(unbound, asked) is None


@pytest.mark.parametrize(
    ("asked", "seconds"), [({}, 5), ({"duration": 5}, 5), ({"duration": 12}, 12), ({"duration": -1}, 15)]
)
def test_seconds_that_are_asked_for_are_counted_and_the_longest_where_the_model_chooses(
    asked: dict[str, Any], seconds: float
) -> None:
    assert cost(priced("bytedance/seedance-2.0", usd=0.1), {"prompt": "a", **asked}) == pytest.approx(seconds / 10)


def test_a_duration_that_a_model_takes_as_text_is_counted_too() -> None:
    texts: dict[str, Any] = {"kind": "string", "choices": ("auto", "5", "10s"), "minimum": None, "maximum": None}
    manifest = changed(priced("bytedance/seedance-2.0"), "duration", **texts, also=(), default="auto")
    seconds = {asked: cost(manifest, {"prompt": "a", "duration": asked}) for asked in ("5", "10s", "auto", None)}
    assert seconds == {"5": 5, "10s": 10, "auto": 10, None: 10}


@given(st.floats(0, 1e6), st.sampled_from(range(1, 82, 4)), st.floats(1, 120))
def test_an_estimate_is_never_less_than_what_the_output_costs(usd: float, frames: int, rate: float) -> None:
    found = cost(priced("prunaai/vace-14b", usd=usd, frame_rate=rate), {**EDIT, "frame_num": frames})
    assert found is not None
    assert found >= usd * frames / rate - 1e-9 * max(1.0, found)
    assert found <= usd * frames / rate + 1.1e-6 + 1e-9 * found


def test_a_price_for_each_run_is_the_price_whatever_is_asked() -> None:
    assert cost(priced("prunaai/vace-14b", "run", 0.3), EDIT) == 0.3
