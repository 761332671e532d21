"""Estimates by every form of a price: what a run will typically cost, what it can cost at most, and why."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.estimate import Estimate, LearnedSeconds, MediaLength, estimate_price
from rotoscope.models.manifest import Manifest
from rotoscope.models.price import Price

CATALOG = load_catalog(manifest_folder())
CLIP = "artifact://" + "a" * 64
FILMS = ["artifact://" + letter * 64 for letter in "cd"]


def priced(model: str, **facts: Any) -> Manifest:
    """A model with another price."""
    found = CATALOG.models[model]
    price = Price.model_validate({"seen": "2026-11", **facts})
    route = next((one for one in found.routes if one.provider == "replicate"), found.routes[0])
    return found.at(route).model_copy(update={"price": price})


def estimate(manifest: Manifest, filled: dict[str, Any] | None = None, **media: Any) -> Estimate:
    lengths = {link: MediaLength(*length) for link, length in media.pop("media", {}).items()}
    return estimate_price(manifest, filled or {}, lengths, **media)


def test_a_price_for_each_run_is_its_own_bound() -> None:
    found = estimate(priced("sam-v2-image", unit="run", usd=0.005), provider_title="fal")
    assert (found.typical_usd, found.at_most_usd) == (0.005, 0.005)
    assert found.basis == "0.005 USD a run; fal, 2026-11"


def test_a_price_of_nothing_is_free_and_an_unknown_one_is_not() -> None:
    free, unknown = priced("sam-v2-image", unit="run", usd=0.0), priced("sam-v2-image", unit="unknown")
    assert estimate(free).at_most_usd == 0.0
    assert (estimate(unknown).typical_usd, estimate(unknown).at_most_usd) == (None, None)


def test_a_tier_is_chosen_by_the_values_of_inputs_also_by_their_defaults() -> None:
    tiers = [
        {"when": {"resolution": "480p", "reference_videos": True}, "usd": 0.1},
        {"when": {"resolution": "480p"}, "usd": 0.08},
        {"when": {"resolution": "720p", "generate_audio": False}, "usd": 0.1},
        {"when": {"resolution": "720p"}, "usd": 0.2},
    ]
    manifest = priced("bytedance/seedance-2.0", unit="output_second", usd=1.0, tiers=tiers)
    asked: dict[str, float] = {
        "default": estimate(manifest, {"duration": 10}).typical_usd or 0,
        "silent": estimate(manifest, {"duration": 10, "generate_audio": False}).typical_usd or 0,
        "small": estimate(manifest, {"duration": 10, "resolution": "480p"}).typical_usd or 0,
        "small with films": estimate(
            manifest, {"duration": 10, "resolution": "480p", "reference_videos": FILMS}
        ).typical_usd or 0,
        "no tier": estimate(manifest, {"duration": 10, "resolution": "4k"}).typical_usd or 0,
    }  # fmt: skip
    assert asked == {"default": 2.0, "silent": 1.0, "small": 0.8, "small with films": 1.0, "no tier": 10.0}


def test_factors_that_fit_are_all_multiplied_and_a_minimum_holds() -> None:
    factors = [{"when": {"generate_audio": True}, "times": 2}, {"when": {"reference_videos": True}, "times": 0.5}]
    manifest = priced("bytedance/seedance-2.0", unit="output_second", usd=0.1, factors=factors, minimum_usd=0.6)
    assert estimate(manifest, {"duration": 10}).typical_usd == 2.0
    assert estimate(manifest, {"duration": 10, "reference_videos": FILMS}).typical_usd == 1.0
    assert estimate(manifest, {"duration": 4, "generate_audio": False}).typical_usd == 0.6


def test_tokens_are_counted_by_size_seconds_and_frame_rate() -> None:
    frame = {"input": "resolution", "pixels": {"480p": 864 * 496, "720p": 1280 * 720}}
    facts: dict[str, Any] = {"unit": "token", "usd": 0.014, "per": 1000, "frame": frame, "frame_rate": 24}
    manifest = priced("bytedance/seedance-2.0", **facts, margin=0.05)
    found = estimate(manifest, {"duration": 5}, provider_title="fal")
    assert found.typical_usd == pytest.approx(1280 * 720 * 5 * 24 / 1024 * 0.014 / 1000, abs=1e-6)
    assert found.at_most_usd == pytest.approx((found.typical_usd or 0) * 1.05, abs=2e-6)
    assert found.basis == "5 s at 720p, 0.3024 USD a second; fal, 2026-11"
    unlisted = estimate(manifest, {"duration": 5, "resolution": "4k"})
    assert unlisted.typical_usd == found.typical_usd, "another size counts as the largest one that is known"


def test_frames_of_the_output_and_of_the_video_are_counted() -> None:
    by_output = priced("prunaai/vace-14b", unit="output_frame", usd=0.1, per=16)
    assert estimate(by_output, {"frame_num": 81}).typical_usd == pytest.approx(81 / 16 * 0.1, abs=1e-6)
    by_input = priced("prunaai/vace-14b", unit="input_frame", usd=0.005, per=16)
    clip = {"src_video": CLIP}
    assert estimate(by_input, clip, media={CLIP: (10.0, 304)}).typical_usd == pytest.approx(0.095)
    assert estimate(by_input, clip).typical_usd is None, "nobody has read the video"


def test_films_in_are_billed_where_the_price_says_so_and_one_that_nobody_has_read_at_its_longest() -> None:
    facts: dict[str, Any] = {"unit": "output_second", "usd": 0.1, "adds_seconds_of": ["reference_videos"]}
    manifest = priced("bytedance/seedance-2.0", **facts)
    filled = {"duration": 5, "reference_videos": FILMS}
    read = estimate(manifest, filled, media={FILMS[0]: (3.0, 72), FILMS[1]: (4.0, 96)})
    assert (read.typical_usd, read.at_most_usd, read.added_units) == (1.2, 1.2, 7.0)
    tiers = [{"when": {"resolution": "720p", "reference_videos": True}, "usd": 0.2}]
    tiered = estimate(priced("bytedance/seedance-2.0", **facts, tiers=tiers), filled, provider_title="fal")
    assert tiered.basis == "5 s at 720p with reference videos, 0.2 USD a second; fal, 2026-11"
    unread = estimate(manifest, filled, media={FILMS[0]: (3.0, 72)})
    assert (unread.typical_usd, unread.at_most_usd) == (0.8, 2.0)


def test_computing_time_is_bounded_by_a_deadline_that_the_provider_enforces() -> None:
    manifest = priced("bytedance/sa2va-4b-image", unit="run_second", usd=0.001)
    found = estimate(manifest, stops_at_deadline=True, provider_title="Replicate")
    assert (found.typical_usd, found.at_most_usd) == (0.0011, 0.3)
    assert found.basis.startswith("about 1.1 s of computing, at most 300 s, after which Replicate stops it")


def test_computing_time_without_a_bound_counts_as_an_unknown_price() -> None:
    manifest = priced("bytedance/sa2va-4b-image", unit="run_second", usd=0.001)
    assert (estimate(manifest).typical_usd, estimate(manifest).at_most_usd) == (None, None)
    bounded = priced("bytedance/sa2va-4b-image", unit="run_second", usd=0.001, at_most_usd=0.05)
    assert (estimate(bounded).typical_usd, estimate(bounded).at_most_usd) == (0.0011, 0.05)


def test_own_runs_tell_the_usual_time_and_twenty_of_them_a_bound() -> None:
    manifest = priced("bytedance/sa2va-4b-image", unit="run_second", usd=0.001)
    few = estimate(manifest, stops_at_deadline=True, learned=LearnedSeconds(2.0, 8.0, 19))
    assert (few.typical_usd, few.at_most_usd) == (0.002, 0.3)
    many = estimate(manifest, stops_at_deadline=True, learned=LearnedSeconds(2.0, 8.0, 20))
    assert (many.typical_usd, many.at_most_usd) == (0.002, 0.012)
    assert "99th percentile of 20 own runs" in many.basis
    slow = estimate(manifest, stops_at_deadline=True, learned=LearnedSeconds(400.0, 900.0, 50))
    assert (slow.typical_usd, slow.at_most_usd) == (0.3, 0.3), "never above what the provider enforces"


@given(
    st.sampled_from(["run", "run_second", "output_second", "output_frame"]),
    st.floats(0, 1000),
    st.floats(0.5, 1000),
    st.floats(0, 2),
    st.floats(0, 5),
    st.one_of(st.none(), st.floats(0, 50)),
    st.sampled_from([5, 41, 81]),
)
def test_a_bound_is_never_less_than_what_is_typical(
    unit: str, usd: float, per: float, margin: float, minimum: float, most: float | None, frames: int
) -> None:
    facts: dict[str, Any] = {"unit": unit, "usd": usd, "per": per, "margin": margin, "minimum_usd": minimum}
    found = estimate(
        priced("prunaai/vace-14b", **facts, at_most_usd=most), {"frame_num": frames}, stops_at_deadline=True
    )
    assert found.typical_usd is not None
    assert found.at_most_usd is not None
    assert 0 <= found.typical_usd <= found.at_most_usd


@pytest.mark.parametrize(
    "facts",
    [
        {"unit": "run"},
        {"unit": "unknown", "usd": 0.1},
        {"unit": "run", "usd": 0.1, "seen": ""},
        {"unit": "token", "usd": 0.1},
        {"unit": "run", "usd": -0.1},
        {"unit": "run", "usd": 0.1, "currency": "EUR"},
        {"unit": "run", "usd": 0.1, "inferred": ["cost"]},
        {"unit": "run", "usd": 0.1, "tiers": [{"when": {}, "usd": 0.1}]},
    ],
)
def test_a_price_that_says_too_little_or_what_cannot_be_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Price.model_validate({"seen": "2026-11", **facts})


def test_every_shipped_route_says_its_price_or_that_no_document_tells_it() -> None:
    silent = [
        f"{manifest.id}@{route.provider}"
        for manifest in CATALOG.models.values()
        for route in manifest.routes
        if (price := manifest.at(route).price) is None or (price.unit == "unknown" and not price.note)
    ]
    assert silent == []
