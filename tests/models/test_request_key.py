"""The key of a request: equal for its spellings, different for any other input of the model."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rotoscope.contracts.arguments import EditVideoWithMask, GenerateVideo, SegmentImage, parse_arguments
from rotoscope.contracts.tools import TOOLS
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.manifest import Manifest
from rotoscope.models.plan import plan_call
from rotoscope.models.request_key import canonical_request, request_and_price_keys, trim_arguments
from rotoscope.providers.http.egress import check_url

CATALOG = load_catalog(manifest_folder())
VIDEO, MASK, PICTURE = (f"artifact://{letter * 64}" for letter in "abc")
BLANKS = st.text(" \n\t\r", max_size=3)
TEXTS = st.text("ab é🎬\n", min_size=1, max_size=12).filter(str.strip)
ADDRESSES = st.sampled_from(
    ["https://example.com/a.png", "https://example.com/b%2Fc.png?x=1&y=~", "https://example.com/"]
)
CHOICES: Mapping[str, Mapping[str, st.SearchStrategy[Any]]] = {
    "generate_video": {
        "duration": st.sampled_from([-1, *range(4, 16)]),
        "resolution": st.sampled_from(["480p", "720p", "1080p", "4k"]),
        "aspect_ratio": st.sampled_from(["16:9", "4:3", "adaptive"]),
        "generate_audio": st.booleans(),
        "reference_images": st.lists(ADDRESSES, max_size=3),
        "seed": st.integers(0, 2**31 - 1),
    },
    "edit_video_with_mask": {
        "size": st.sampled_from(["832*480", "1280*720", "480*832"]),
        "frame_num": st.sampled_from([1, 5, 41, 81]),
        "speed_mode": st.sampled_from(["consistent", "fast", "fastest"]),
        "sample_steps": st.integers(1, 100),
        "sample_shift": st.integers(1, 100),
        "sample_solver": st.sampled_from(["unipc", "dpm++"]),
        "sample_guide_scale": st.integers(0, 20),
        "reference_images": st.lists(ADDRESSES, max_size=2),
        "seed": st.integers(0, 2**31 - 1),
    },
}
NEEDED = {"generate_video": {}, "edit_video_with_mask": {"video": VIDEO, "mask": MASK}}
MODELS = {"generate_video": "bytedance/seedance-2.0", "edit_video_with_mask": "prunaai/vace-14b"}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "generate_video": {
        "duration": 5, "resolution": "720p", "aspect_ratio": "16:9", "generate_audio": True, "reference_images": [],
        "reference_videos": [], "reference_audios": [], "first_frame": None, "seed": -1,
    },
    "edit_video_with_mask": {
        "size": "832*480", "frame_num": 81, "speed_mode": "consistent", "sample_steps": 50, "sample_shift": 16,
        "sample_solver": "unipc", "sample_guide_scale": 5, "reference_images": [], "seed": -1,
    },
}  # fmt: skip
Request = tuple[str, dict[str, Any]]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    tool = draw(st.sampled_from(sorted(CHOICES)))
    given = draw(st.fixed_dictionaries({}, optional=dict(CHOICES[tool])))
    return tool, {"prompt": draw(TEXTS), **NEEDED[tool], **given}


def respelled_address(draw: st.DrawFn, address: str) -> str:
    tail = address.removeprefix("https://example.com")
    host = draw(st.sampled_from(["example.com", "EXAMPLE.com", "example.com:443", "Example.Com:443"]))
    scheme = draw(st.sampled_from(["https", "HTTPS", "Https"]))
    tail = draw(st.sampled_from([tail, tail.replace("%2F", "%2f"), tail.replace("~", "%7E"), tail.replace("~", "%7e")]))
    tail = "" if tail == "/" and draw(st.booleans()) else tail
    return f"{draw(BLANKS)}{scheme}://{host}{tail}{draw(st.sampled_from(['', '#', '#x']))}{draw(BLANKS)}"


def respelled_value(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, bool) or value is None or value == []:
        return value
    if isinstance(value, int):
        return draw(st.sampled_from([value, float(value), str(value)]))
    if isinstance(value, list):
        return [respelled_address(draw, one) for one in value]
    if value.startswith("artifact:"):
        return value
    value = draw(st.sampled_from([value, value.replace("*", "x")])) if value[:1].isdigit() else value
    return f"{draw(BLANKS)}{value}{draw(BLANKS)}"


@st.composite
def spelled_twice(draw: st.DrawFn) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """One request, and again with defaults named or left out, blanks, other spellings and in another order."""
    tool, asked = draw(requests())
    named = {name: value for name, value in DEFAULTS[tool].items() if name not in asked and draw(st.booleans())}
    kept = {name: value for name, value in asked.items() if DEFAULTS[tool].get(name) != value or draw(st.booleans())}
    again = {name: respelled_value(draw, value) for name, value in {**kept, **named}.items()}
    return tool, asked, dict(draw(st.permutations(list(again.items()))))


def admitted(value: Any) -> Any:
    """Addresses as the intake gives them."""
    if isinstance(value, list):
        return [admitted(one) for one in value]
    return check_url(value.strip()).url if isinstance(value, str) and value.strip()[:5].lower() == "https" else value


def keys(tool: str, asked: Mapping[str, Any], draw: int, manifest: Manifest | None = None) -> tuple[str, str]:
    manifest = manifest or CATALOG.models[MODELS[tool]]
    parsed = parse_arguments(TOOLS[tool].arguments, asked).model_dump(mode="json", exclude={"model", "dry_run"})
    arguments = {name: admitted(value) for name, value in trim_arguments(manifest, parsed).items()}
    planned = plan_call(manifest, manifest.routes[0], arguments, lambda: draw)
    return request_and_price_keys("me", manifest, planned, {"sandbox": False})


@given(spelled_twice(), st.integers(0, 9), st.integers(0, 9))
def test_every_spelling_of_a_request_has_its_keys(
    case: tuple[str, dict[str, Any], dict[str, Any]], one: int, other: int
) -> None:
    tool, asked, again = case
    assert keys(tool, asked, one) == keys(tool, again, other)


def as_understood(tool: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Said once more and independently: what a request asks for, with the defaults of the tool's description."""
    whole = {**DEFAULTS[tool], **asked}
    return {**whole, "prompt": whole["prompt"].strip()}


@given(requests(), requests())
def test_another_request_has_another_key_and_another_price(first: Request, second: Request) -> None:
    (tool, asked), (other, again) = first, second
    mine, theirs = keys(tool, asked, 1), keys(other, again, 1)
    meant, also = as_understood(tool, asked), as_understood(other, again)
    assert (mine[0] == theirs[0]) == ((tool, meant) == (other, also))
    assert (mine[1] == theirs[1]) == ((tool, {**meant, "seed": 0}) == (other, {**also, "seed": 0}))


@given(requests(), st.data())
def test_one_changed_argument_is_another_request(request: Request, data: st.DataObject) -> None:
    tool, asked = request
    name = data.draw(st.sampled_from(sorted(CHOICES[tool])))
    changed = {**asked, name: data.draw(CHOICES[tool][name])}
    assume(as_understood(tool, changed) != as_understood(tool, asked))
    assert keys(tool, changed, 1)[0] != keys(tool, asked, 1)[0]
    assert (keys(tool, changed, 1)[1] == keys(tool, asked, 1)[1]) is (name == "seed")


@pytest.mark.parametrize(
    "change", [{"version": "2"}, {"form": "version"}, {"endpoint": "other/model"}, {"provider": "gateway"}]
)
def test_another_version_form_endpoint_or_provider_is_another_request(change: dict[str, str]) -> None:
    manifest = CATALOG.models["bytedance/seedance-2.0"]
    route = manifest.routes[0].model_copy(update=change)
    moved = manifest.model_copy(update={"routes": (route,)})
    mine, theirs = (keys("generate_video", {"prompt": "a"}, 1, one) for one in (manifest, moved))
    assert mine[0] != theirs[0]
    assert mine[1] != theirs[1]


@given(
    st.lists(st.tuples(st.floats(0, 999), st.floats(0, 999), st.booleans()), min_size=1, max_size=4),
    st.permutations(["image", "points", "box", "model"]),
)
def test_points_are_distinguished_by_the_pixel_that_is_sent(
    points: list[tuple[float, float, bool]], order: list[str]
) -> None:
    assume(any(keep for _, _, keep in points))
    manifest = CATALOG.models["fal-ai/sam2/image"]
    box = {"left": 1, "top": 2, "right": 30, "bottom": 40}

    def key(spots: list[dict[str, Any]], box: Any) -> str:
        whole = {"image": PICTURE, "points": spots, "box": box, "model": manifest.id}
        return keys("segment_image", {name: whole[name] for name in order}, 1, manifest)[0]

    exact = [{"x": x, "y": y, "keep": keep} for x, y, keep in points]
    rounded = [{"keep": keep, "y": str(round(y)), "x": float(round(x))} for x, y, keep in points]
    moved = [{**exact[0], "x": round(points[0][0]) + 1}, *exact[1:]]
    assert key(exact, box) == key(rounded, {**box, "left": 1.2})
    assert key(exact, box) != key(moved, box)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("https://e.com/a%2fb", "https://e.com/a%2Fb", True),
        ("https://e.com/%7Euser", "https://e.com/~user", True),
        ("https://e.com/a?x=1&y=2", "https://e.com/a?y=2&x=1", False),
        ("https://e.com/A", "https://e.com/a", False),
        ("https://e.com/a%2Fb", "https://e.com/a/b", False),
        ("https://e.com:8443/a", "https://e.com/a", False),
    ],
)
def test_addresses_are_one_where_they_cannot_mean_two(one: str, other: str, equal: bool) -> None:
    manifest = CATALOG.models["bytedance/seedance-2.0"]
    assert (canonical_request(manifest, {"image": one}) == canonical_request(manifest, {"image": other})) is equal


def test_an_address_in_a_prompt_is_plain_text() -> None:
    manifest = CATALOG.models["bytedance/seedance-2.0"]
    assert canonical_request(manifest, {"prompt": "https://e.com/%2f"}) != canonical_request(
        manifest, {"prompt": "https://e.com/%2F"}
    )


def test_what_is_sent_is_trimmed_like_what_is_compared() -> None:
    """Else who comes first would decide what the model is words."""
    for tool, shape, asked in (
        ("bytedance/sa2va-4b-image", SegmentImage, {"image": PICTURE, "instruction": " the cat\n"}),
        ("bytedance/seedance-2.0", GenerateVideo, {"prompt": "\tthe cat ", "resolution": " 480p"}),
        ("prunaai/vace-14b", EditVideoWithMask, {"prompt": "the cat ", "video": VIDEO, "mask": MASK}),
    ):
        manifest = CATALOG.models[tool]
        sent = plan_call(manifest, manifest.routes[0], parse_arguments(shape, asked).model_dump(mode="json"), lambda: 1)
        assert sent.call.input.get("prompt", sent.call.input.get("instruction")) == "the cat"
        assert sent.call.input.get("resolution") in (None, "480p")
