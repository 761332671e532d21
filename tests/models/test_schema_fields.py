"""The inputs of a schema as records: every odd form that providers publish, with the facts that a manifest needs."""

from typing import Any

import pytest
from schemas import fal_document

from rotoscope.errors import InvalidInput
from rotoscope.models.schemas.documents import parse_model_name, read_document
from rotoscope.models.schemas.fields import SchemaField

SIZES = {
    "Size": {"type": "object", "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}}},
    "Mode": {"type": "string", "enum": ["inpaint", "outpaint"]},
    "Length": {"type": "integer", "enum": [49, 81]},
    "Self": {"type": "object", "properties": {"again": {"$ref": "#/components/schemas/Self"}}},
    "Loop": {"$ref": "#/components/schemas/Loop"},
}


def field(schema: Any, *, required: bool = False) -> SchemaField:
    document = fal_document("o/m", {"it": schema}, {}, required=["it"] if required else [], schemas=SIZES)
    output = {"type": "object", "properties": {"video": {"$ref": "#/components/schemas/File"}}}
    document["components"]["schemas"]["AppOutput"] = output
    (found,) = read_document(parse_model_name("fal:o/m"), document).fields
    return found


@pytest.mark.parametrize(
    ("schema", "facts"),
    [
        ({"type": "string"}, {"type": "string", "choices": (), "default": None}),
        (
            {"allOf": [{"$ref": "#/components/schemas/Mode"}], "default": "inpaint"},
            {"type": "string", "choices": ("inpaint", "outpaint"), "default": "inpaint"},
        ),
        (
            {"$ref": "#/components/schemas/Length", "default": 49},
            {"type": "integer", "choices": (49, 81), "default": 49},
        ),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"type": "integer", "default": None}),
        ({"type": ["integer", "null"], "default": 3}, {"type": "integer", "default": 3}),
        ({"type": "string", "enum": ["64", "32"], "default": 64}, {"choices": ("64", "32"), "default": "64"}),
        ({"enum": ["5", 10]}, {"type": "string", "choices": ("5", "10")}),
        ({"type": "string", "enum": ["a", None]}, {"choices": ("a",)}),
        (
            {
                "anyOf": [{"$ref": "#/components/schemas/Size"}, {"type": "string", "enum": ["square"]}],
                "default": {"width": 1024, "height": 1024},
            },
            {"type": "string", "choices": ("square",), "default": None},
        ),
        (
            {"anyOf": [{"type": "string", "enum": ["16:9"]}, {"type": "string"}], "default": "16:9"},
            {"type": "string", "choices": (), "default": "16:9"},
        ),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, {"minimum": 0, "maximum": 1, "is_exclusive": True}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"minimum": 1, "is_exclusive": False}),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, {"minimum": 4}),
        ({"type": "integer", "minimum": 9, "maximum": 3}, {"minimum": None, "maximum": None}),
        ({"type": "integer", "multipleOf": 16}, {"step": 16}),
        (
            {"type": "array", "items": {"type": "string"}, "maxItems": 4, "default": []},
            {"type": "string", "many": True, "max_items": 4, "default": []},
        ),
        ({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, {"type": "object", "many": True}),
        ({"type": "string", "format": "password"}, {"is_secret": True}),
        ({"type": "string", "x-cog-secret": True}, {"is_secret": True}),
        ({"type": "string", "deprecated": True}, {"is_hidden": True}),
        ({"type": "boolean", "default": "True"}, {"type": "boolean", "default": True}),
        ({"enum": [True, False]}, {"type": "boolean", "choices": ()}),
        ({"type": "integer", "default": 2.5}, {"type": "integer", "default": None}),
        ({"type": "string", "enum": ["Extra 🚀", "None"], "default": "None"}, {"default": "None"}),
        ({"$ref": "#/components/schemas/Self"}, {"type": "object", "item_names": frozenset({"again"})}),
        ({"$ref": "#/components/schemas/Loop"}, {"type": "object"}),
        ({"$ref": "#/components/schemas/Nowhere"}, {"type": "object"}),
        ({"const": "fixed"}, {"type": "string", "choices": ("fixed",)}),
    ],
    ids=lambda one: str(one)[:50],
)
def test_a_form_of_a_schema_is_read_as_what_the_provider_takes(schema: Any, facts: dict[str, Any]) -> None:
    found = field(schema)
    assert {name: getattr(found, name) for name in facts} == facts


def test_a_default_that_is_none_of_the_choices_is_dropped_and_said() -> None:
    found = field({"type": "string", "enum": ["a"], "default": "b"})
    assert found.default is None
    assert "'b'" in found.dropped[0]


def test_what_is_required_is_taken_from_the_record_that_the_path_names() -> None:
    assert field({"type": "string"}, required=True).is_required


@pytest.mark.parametrize(
    "name",
    [
        "", "fal", "fal:", "fal:/x", "fal:a", "fal:a/../b", "fal:a/b:1", "replicate:a", "replicate:a/b/c",
        "replicate:a/b:!", "segmind:a/b", "fal:a b/c", f"fal:a/{'b' * 200}",
    ],
)  # fmt: skip
def test_a_name_that_is_in_no_form_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"name of a model|no version"):
        parse_model_name(name)


def test_a_document_of_another_model_is_refused_by_its_name() -> None:
    document = fal_document("o/other", {"prompt": {"type": "string"}}, {"video": {}})
    with pytest.raises(InvalidInput, match="'o/other'"):
        read_document(parse_model_name("fal:o/m"), document)
