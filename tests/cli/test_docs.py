"""The generated pages: complete, up to date, and what an editor reads accepts what the program accepts."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel, create_model

from rotoscope.cli.docs import generated_pages
from rotoscope.cli.manifest_docs import manifest_page, manifest_schema
from rotoscope.models.encoders import ENCODERS
from rotoscope.models.film_limits import FilmLimits
from rotoscope.models.manifest import ENCODER_ALIASES, Input, Manifest, Outputs, Route, Timing
from rotoscope.models.price import FrameSize, Price, PriceFactor, PriceTier
from rotoscope.models.provider import Auth, FactRecord, Header, Provider

TOP = Path(__file__).parents[2]
SHIPPED = sorted((TOP / "manifests" / "models").glob("*.toml"))
RECORDS: list[type[FactRecord]] = [
    Manifest,
    Route,
    Input,
    Outputs,
    Timing,
    Price,
    PriceTier,
    PriceFactor,
    FrameSize,
    FilmLimits,
    Provider,
    Auth,
    Header,
]
MANIFEST: dict[str, Any] = tomllib.loads((TOP / "manifests" / "models" / "sam-v2-image.toml").read_text("utf-8"))


def schema_errors(manifest: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft7Validator(json.loads(manifest_schema())).iter_errors(manifest)]


@pytest.mark.parametrize("path", generated_pages(TOP), ids=lambda path: path.name)
def test_a_generated_page_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generated_pages(TOP)[path], "run `make docs`"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_of_a_manifest_is_described(record: type[FactRecord]) -> None:
    for name, field in record.model_fields.items():
        assert field.description, f"{record.__name__}.{name} says nothing"
        assert f"| `{name}` |" in manifest_page()
        if "bool" not in str(field.annotation) and name not in {"note", "notes", "list_note"}:
            assert field.examples or "table" in field.description or name in {"example", "minimum"}


def test_the_examples_of_the_fields_are_values_that_they_take() -> None:
    for record in RECORDS:
        for field in record.model_fields.values():
            for example in field.examples or ():
                annotation: Any = field.annotation
                shape: type[BaseModel] = create_model(record.__name__, value=(annotation, field))
                shape.model_validate({"value": example})


def test_every_encoder_is_described_with_its_former_name() -> None:
    assert all(f"`{name}`" in manifest_page() for name in (*ENCODERS, *ENCODER_ALIASES))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_manifest_names_the_schema_and_follows_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    directive, _, _ = text.partition("\n")
    assert (file.parent / directive.removeprefix("#:schema ")).resolve() == TOP / "manifests" / "model.schema.json"
    assert schema_errors(tomllib.loads(text)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tool": "make_tea"}, "make_tea"),
        ({"rnak": 1}, "rnak"),
        ({"routes": []}, "[]"),
        ({"inputs": {"image": {"kind": "smell"}}}, "smell"),
        ({"price": {"unit": "run", "usd": -1, "seen": "now"}}, "-1"),
    ],
)
def test_the_schema_refuses_a_manifest_that_would_not_be_read(change: dict[str, Any], words: str) -> None:
    assert any(words in message for message in schema_errors({**MANIFEST, **change}))


def test_the_schema_takes_former_names_of_encoders() -> None:
    for former in ENCODER_ALIASES:
        inputs = {**MANIFEST["inputs"], "coordinates": {"kind": "string", "argument": "points", "encode": former}}
        assert schema_errors({**MANIFEST, "inputs": inputs}) == []
