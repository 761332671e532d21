"""Other models for the same request: which fit, in which order, and how they are worded."""

from dataclasses import replace

import pytest

from rotoscope.models.alternatives import MAX_ALTERNATIVES, Alternative, describe_alternatives, list_alternatives
from rotoscope.models.catalog import Catalog, load_catalog, manifest_folder
from rotoscope.models.descriptions import describe_route_price
from rotoscope.models.manifest import Manifest, PromptKind
from rotoscope.models.model_table import group_by_model, list_model_rows
from rotoscope.models.provider import Provider

SHIPPED = load_catalog(manifest_folder())
SAM, WORDS, SEGMIND = (
    SHIPPED.models[name] for name in ("fal-ai/sam2/image", "bytedance/sa2va-4b-image", "sam-v2-image")
)
VACE = SHIPPED.models["prunaai/vace-14b"]
FILM = SHIPPED.find_at("bytedance/seedance-2.0", "replicate")


def catalog(*models: Manifest) -> Catalog:
    return replace(SHIPPED, models={one.id: one for one in models})


def renamed(manifest: Manifest, name: str, rank: int) -> Manifest:
    return manifest.model_copy(update={"id": name, "rank": rank})


def price(view: Manifest, provider: Provider) -> str:
    return f"{view.id} at {provider.title}"


SEGMENTERS = catalog(SAM, WORDS, SEGMIND, FILM)


@pytest.mark.parametrize(
    ("chosen", "kinds", "others"),
    [
        (SEGMIND, {"text"}, ["bytedance/sa2va-4b-image"]),
        (SAM, {"points"}, ["sam-v2-image"]),
        (SAM, {"points", "box"}, []),
        (WORDS, None, ["sam-v2-image"]),
        (SEGMIND, None, ["bytedance/sa2va-4b-image", "fal-ai/sam2/image"]),
        (FILM, None, []),
    ],
)
def test_another_model_has_the_same_tool_and_takes_the_same_prompts(
    chosen: Manifest, kinds: set[PromptKind] | None, others: list[str]
) -> None:
    asked = None if kinds is None else frozenset(kinds)
    found = list_alternatives(SEGMENTERS, chosen, lambda _: True, price, asked)
    assert sorted(one.model for one in found) == others


def test_a_model_that_lacks_an_argument_for_given_media_is_no_alternative() -> None:
    inputs = {name: field for name, field in FILM.inputs.items() if field.argument != "last_frame"}
    short = renamed(FILM, "short", 1).model_copy(update={"inputs": inputs})
    both = catalog(FILM, short, renamed(FILM, "whole", 2))
    found = list_alternatives(both, FILM, lambda _: True, price, frozenset(), {"first_frame", "last_frame"})
    assert [one.model for one in found] == ["whole"]


def test_those_that_can_be_used_come_first_then_the_rank_and_a_few_are_enough() -> None:
    many = catalog(VACE, *(renamed(VACE, f"m{n}", 9 - n) for n in range(5)), renamed(VACE, "far", 99))
    ready = catalog(*many.models.values(), SAM)
    only_gateway = many.models["far"].model_copy(update={"routes": VACE.routes[:1]})
    ready = replace(ready, models={**ready.models, "far": only_gateway})
    found = list_alternatives(ready, VACE, lambda provider: provider == "gateway", price)
    assert [one.model for one in found] == ["m4", "m3", "m2"]
    assert len(found) == MAX_ALTERNATIVES
    replicate = {one.id: one.model_copy(update={"routes": VACE.routes[1:]}) for one in many.models.values()}
    mixed = replace(ready, models={**replicate, "far": only_gateway})
    found = list_alternatives(mixed, VACE, lambda provider: provider == "gateway", price)
    assert found[0] == Alternative("far", "far at Replicate-shaped gateway")
    assert found[1] == Alternative("m4", "m4 at Replicate", "REPLICATE_API_TOKEN")


def test_the_price_is_that_of_the_route_that_would_be_taken() -> None:
    two = catalog(VACE, renamed(VACE, "twin", 1))
    (found,) = list_alternatives(two, VACE, lambda provider: provider == "replicate", price)
    assert found.price == "twin at Replicate"


def test_alternatives_are_one_sentence_and_none_are_no_sentence() -> None:
    found = [Alternative("a/b", "unknown"), Alternative("c", "about 0.002 USD a run", "C_KEY")]
    words = (
        "Other models that take this, with the price of a usual run: a/b (unknown), "
        "c (about 0.002 USD a run; needs C_KEY)."
    )
    assert describe_alternatives(found) == words
    assert describe_alternatives([]) == ""


def test_the_table_has_a_row_for_every_route_with_its_own_price() -> None:
    rows = list_model_rows(catalog(VACE, SEGMIND), price)
    assert [(row.model, row.provider, row.price) for row in rows] == [
        ("prunaai/vace-14b", "gateway", "prunaai/vace-14b at Replicate-shaped gateway"),
        ("prunaai/vace-14b", "replicate", "prunaai/vace-14b at Replicate"),
        ("sam-v2-image", "segmind", "sam-v2-image at Segmind"),
    ]
    assert [len(one) for one in group_by_model(rows).values()] == [2, 1]
    assert rows[2].key == "no: set SEGMIND_API_KEY"
    assert describe_route_price(SEGMIND, SHIPPED.providers["segmind"]) == "0.0018 USD, at most 0.09 USD"
