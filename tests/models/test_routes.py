"""Several routes to one model: what is different on each, which one a request takes, and the operator's own prices."""

from pathlib import Path
from typing import Any

import pytest

from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.manifest import Manifest
from rotoscope.models.plan import plan_call
from rotoscope.models.price import Price
from rotoscope.models.routing import rank_routes
from rotoscope.providers.http.messages import Json

CATALOG = load_catalog(manifest_folder())
PROVIDERS = CATALOG.providers
PICTURE = "https://pictures.invalid/a.png"
FILM: dict[str, Any] = {
    "id": "maker/film",
    "title": "Film",
    "tool": "generate_video",
    "source": "nobody",
    "outputs": {"video": "$"},
    "timing": {"typical_seconds": 60, "deadline_seconds": 600},
    "example": {},
    "inputs": {
        "prompt": {"kind": "string", "argument": "prompt"},
        "duration": {"kind": "integer", "argument": "duration", "default": 5, "minimum": 4, "maximum": 15},
        "seed": {"kind": "integer", "argument": "seed", "drawn": True},
    },
    "routes": [
        {
            "provider": "replicate",
            "endpoint": "maker/film",
            "price": {"unit": "output_second", "usd": 0.2, "seen": "2026-11"},
        },
        {
            "provider": "fal",
            "endpoint": "maker/film/text-to-video",
            "endpoint_with": {
                "image_urls": "maker/film/reference-to-video",
                "image_url": "maker/film/image-to-video",
            },
            "inputs": {
                "prompt": {"kind": "string", "argument": "prompt"},
                "duration": {
                    "kind": "string",
                    "argument": "duration",
                    "default": "auto",
                    "choices": ["auto", "4", "5", "8"],
                },
                "image_url": {"kind": "image", "argument": "first_frame"},
                "image_urls": {"kind": "image", "many": True, "argument": "reference_images"},
            },
            "outputs": {"video": "video"},
            "price": {"unit": "output_second", "usd": 0.1, "seen": "2026-11"},
        },
        {"provider": "gateway", "endpoint": "maker/film", "price": {"unit": "unknown", "note": "ask them"}},
    ],
}


def film(**facts: Any) -> Manifest:
    return Manifest.model_validate(FILM | facts)


def ranked(arguments: dict[str, Json], manifest: Manifest | None = None) -> list[str]:
    model = manifest or film()
    return [route.provider for route in rank_routes(model, model.routes, arguments, PROVIDERS)]


def test_the_cheapest_route_is_first_and_one_of_unknown_price_is_after_it() -> None:
    assert ranked({"prompt": "a", "duration": 5}) == ["fal", "replicate", "gateway"]


def test_a_route_that_would_leave_an_argument_out_is_after_those_that_send_all() -> None:
    assert ranked({"prompt": "a", "duration": 5, "seed": 7}) == ["replicate", "gateway", "fal"]
    assert ranked({"prompt": "a", "duration": 5, "first_frame": PICTURE})[0] == "fal"


def test_a_route_that_refuses_the_request_is_last() -> None:
    assert ranked({"prompt": "a", "duration": 12}) == ["replicate", "gateway", "fal"]


def test_a_value_that_is_refused_is_not_left_out_by_another_route() -> None:
    assert ranked({"prompt": "a", "duration": 99, "seed": 7})[0] == "replicate"
    assert ranked({"prompt": "a", "seed": "seven"})[0] == "replicate"


def test_of_equal_prices_the_order_of_the_manifest_counts() -> None:
    routes = [{**route, "price": {"unit": "run", "usd": 0.1, "seen": "2026-11"}} for route in FILM["routes"]]
    assert ranked({"prompt": "a"}, film(routes=routes)) == ["replicate", "fal", "gateway"]


def test_the_only_route_of_a_model_has_a_price_of_its_own_too() -> None:
    first, price = FILM["routes"][0], {"unit": "run", "usd": 0.7, "seen": "2026-11"}
    alone = film(routes=[first], price=price)
    own = first["price"]
    assert alone.at(alone.routes[0]).price == Price.model_validate(own), "not that of the manifest"
    bare = film(routes=[{name: value for name, value in first.items() if name != "price"}], price=price)
    assert bare.at(bare.routes[0]).price == Price.model_validate(price)


def test_a_route_has_inputs_outputs_and_a_price_of_its_own() -> None:
    model = film()
    here, there = (model.at(route) for route in model.routes[:2])
    assert (set(here.inputs), here.outputs.video) == ({"prompt", "duration", "seed"}, "$")
    assert (set(there.inputs), there.outputs.video) == ({"prompt", "duration", "image_url", "image_urls"}, "video")
    assert there.timing == here.timing, "what a route does not say is the manifest's"
    assert (here.price and here.price.usd, there.price and there.price.usd) == (0.2, 0.1)


@pytest.mark.parametrize(
    ("asked", "endpoint"),
    [
        ({}, "maker/film/text-to-video"),
        ({"first_frame": PICTURE}, "maker/film/image-to-video"),
        ({"reference_images": [PICTURE]}, "maker/film/reference-to-video"),
        ({"reference_images": []}, "maker/film/text-to-video"),
    ],
)
def test_the_inputs_that_are_given_decide_the_endpoint_of_a_route(asked: dict[str, Json], endpoint: str) -> None:
    model = film()
    call = plan_call(model.at(model.routes[1]), model.routes[1], {"prompt": "a", **asked}, lambda: 1).call
    assert call.endpoint == endpoint


def test_a_job_finds_the_route_on_which_it_was_opened() -> None:
    catalog = CATALOG.__class__(PROVIDERS, {"maker/film": film()})
    found = catalog.find_at("maker/film", "fal", "maker/film/image-to-video")
    assert found.outputs.video == "video"
    assert catalog.find_at("maker/film", "replicate", "maker/film").outputs.video == "$"
    assert catalog.find_at("maker/film", "nobody").routes[0].provider == "replicate"


@pytest.mark.parametrize(
    "facts", [{"endpoint_with": {"picture": "b"}}, {"inputs": {"a": {"kind": "string", "needs": ["b"]}}}]
)
def test_a_route_that_names_an_input_which_it_has_not_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no such input"):
        film(routes=[{"provider": "fal", "endpoint": "a", **facts}])


TIERED = """
["prunaai/vace-14b@gateway"]
unit = "run"
usd = 1.0
seen = "2026-11"

[["prunaai/vace-14b@gateway".tiers]]
when = { speed = "a" }
usd = 2.0
"""


def write_prices(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prices.toml").write_text(text, encoding="utf-8")
    return folder


def test_the_operator_can_tell_the_price_of_a_route(tmp_path: Path) -> None:
    text = '["prunaai/vace-14b@gateway"]\nunit = "run"\nusd = 0.4\nseen = "2026-11"\n'
    catalog = load_catalog(manifest_folder(), write_prices(tmp_path / "models", text))
    assert catalog.problems == ()
    model = catalog.models["prunaai/vace-14b"]
    prices = {route.provider: model.at(route).price for route in model.routes}
    assert prices["gateway"] == Price(unit="run", usd=0.4, seen="2026-11")
    assert prices["replicate"] == CATALOG.find_at(model.id, "replicate").price, "the others stay"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('["prunaai/vace-14b@segmind"]\nunit = "run"\nusd = 0.4\nseen = "2026-11"\n', "there is no route"),
        ('["prunaai/vace-14b"]\nunit = "run"\nusd = 0.4\nseen = "2026-11"\n', "there is no route"),
        ('["prunaai/vace-14b@gateway"]\nunit = "run"\nseen = "2026-11"\n', "give usd"),
        (
            '["prunaai/vace-14b@gateway"]\nunit = "run"\nusd = nan\nseen = "2026-11"\n',
            "prices.prunaai/vace-14b@gateway",
        ),
        (TIERED, "no such input: speed"),
        ("usd = = 3", "is not TOML"),
    ],
)
def test_a_price_that_cannot_be_used_is_named_and_keeps_nothing_from_starting(
    tmp_path: Path, text: str, problem: str
) -> None:
    catalog = load_catalog(manifest_folder(), write_prices(tmp_path / "models", text))
    assert len(catalog.problems) == 1
    assert "prices.toml" in catalog.problems[0]
    assert problem in catalog.problems[0]
    assert set(catalog.models) == set(CATALOG.models)
