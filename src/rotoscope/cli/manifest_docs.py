"""docs/manifest.md and manifests/model.schema.json, made from the types of a manifest."""

import json
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.encoders import ENCODERS
from rotoscope.models.film_limits import FilmLimits
from rotoscope.models.manifest import ENCODER_ALIASES, Input, Manifest, Outputs, Route, Timing
from rotoscope.models.manifest_check import REQUEST_FORMS
from rotoscope.models.plan import plan_call
from rotoscope.models.price import FrameSize, Price, PriceFactor, PriceTier, Scalar
from rotoscope.models.provider import Auth, FactRecord, Header, Provider
from rotoscope.providers.http.messages import Json

__all__ = ["manifest_page", "manifest_schema"]

_INTRODUCTION = """# Manifests

<!-- Made by `make docs` from the types in src/rotoscope/models; do not edit. -->

Everything that rotoscope knows of a model stands in one TOML file: a manifest. The shipped ones are in
`manifests/models/`, your own go to `ROTOSCOPE_HOME/models/`, and one of yours replaces a shipped one with the same
`id`. [Add a model](add-a-model.md) shows the way from a provider's page to a working file.

`rotoscope models check FILE` plans every call that the file claims to take and names the fact that a call would be
refused for. An editor that knows JSON schemas for TOML (Even Better TOML, taplo) checks the file while you type:
begin it with `#:schema` and the path of `manifests/model.schema.json`.
"""
_PROVIDERS = """Providers stand in `manifests/providers.toml`, your own in `ROTOSCOPE_HOME/models/providers.toml`: one
table for each, named as `provider` in the routes. A file that somebody else may write is not read: it says where a key
is sent."""
_PRICES = """A run is likely to cost what the rule gives for the request; at most, that and `margin`, or
`at_most_usd` if that is less. Caps count the most. Where no bound is known the price counts as unknown: computing time
has one at providers that end a run at the deadline that is sent (`stops_at_deadline`), elsewhere only by `at_most_usd`.
After twenty runs of your own the bound of computing time is one and a half times their 99th percentile, where that is
less.

What a reseller charges you can tell without a manifest, in `ROTOSCOPE_HOME/models/prices.toml`, one table for each
route, named `MODEL@PROVIDER`; it replaces the price of that route:

```toml
["prunaai/vace-14b@gateway"]
unit = "run"
usd = 0.4
seen = "2026-11"
```"""
_ENCODERS = (
    """An encoder makes a model's input from a tool argument that has another shape. A former name means the same."""
)
_FORMS = """How the paying request is made, by the provider's dialect; `form` of a route names one."""
_SPELLING = """Tools take durations and counts as numbers, and resolutions as text; many models want the other. A
manifest says how they are written; no code is needed. A choice and an alias are taken in any case and with blanks
around them."""
_SPELLED_CALLS: Sequence[tuple[str, Json]] = (
    ('argument = "duration"\nkind = "string"\nchoices = ["5", "10"]', 5),
    ('argument = "duration"\nkind = "string"\nchoices = ["4s", "8s"]', 8),
    ('argument = "duration"\nkind = "string"\nchoices = ["auto", "5s"]\naliases = { "-1" = "auto" }', -1),
    ('argument = "duration"\nkind = "string"\nspelling = "{}s"\nminimum = 1\nmaximum = 12', 7),
    ('argument = "resolution"\nkind = "integer"\nchoices = [480, 720, 1080]', "1080p"),
    ('argument = "resolution"\nkind = "integer"\nspelling = "{}p"\nminimum = 240\nmaximum = 2160', "720p"),
    (
        (
            'argument = "generate_audio"\nkind = "string"\nchoices = ["on", "off"]\n'
            'aliases = { "true" = "on", "false" = "off" }'
        ),
        True,
    ),
)


def manifest_page() -> str:
    """docs/manifest.md: every field with its type, default, meaning and an example; encoders; request forms."""
    parts = [
        _INTRODUCTION,
        *(_record_section(record) for record in (Manifest, Route, Input, FilmLimits)),
        f"## Numbers and texts\n\n{_SPELLING}\n\n{_spelling_table()}\n",
        f"## Encoders\n\n{_ENCODERS}\n\n{_encoder_table()}\n",
        *(_record_section(record) for record in (Outputs, Timing, Price)),
        f"{_PRICES}\n",
        *(_record_section(record) for record in (PriceTier, PriceFactor, FrameSize)),
        f"## Request forms\n\n{_FORMS}\n\n{_form_table()}\n",
        f"{_record_section(Provider)}\n{_PROVIDERS}\n",
        _record_section(Auth),
        _record_section(Header),
    ]
    return "\n".join(parts)


def manifest_schema() -> str:
    """The JSON schema of a manifest, for editors."""
    schema = Manifest.model_json_schema()
    for record in (schema, *schema["$defs"].values()):
        for facts in record.get("properties", {}).values():
            facts.pop("title", None)  # pydantic's own: the name once more
    encode = schema["$defs"]["Input"]["properties"]["encode"]
    encode["anyOf"][0] = {"enum": [*ENCODERS, *ENCODER_ALIASES], "type": "string"}
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "A model's manifest for rotoscope"}
    draft_07 = json.dumps({**schema, **head}, indent=2, ensure_ascii=False).replace("$defs", "definitions")
    return f"{draft_07}\n"


def _record_section(record: type[FactRecord]) -> str:
    description = " ".join((record.__doc__ or "").split())
    rows = [_field_row(name, field) for name, field in record.model_fields.items()]
    heading = ["| field | type | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([f"## {record.__name__}\n", f"{description}\n", *heading, *rows, ""])


def _field_row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else _default_text(field.get_default(call_default_factory=True))
    example = f"`{_toml_value(field.examples[0])}`" if field.examples else ""
    kind = _type_text(field.annotation)
    limits = " ".join(_limit_texts(field.metadata))
    return f"| `{name}` | {kind}{f', {limits}' if limits else ''} | {default} | {field.description or ''} | {example} |"


def _default_text(value: object) -> str:
    return "none" if value in (None, (), "", {}) else f"`{_toml_value(value)}`"


def _type_text(annotation: object) -> str:
    """A Python type in the terms of TOML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        kinds = [_type_text(one) for one in arguments if one is not type(None) and one not in get_args(Scalar)]
        scalars = [one for one in arguments if one in get_args(Scalar)]
        kinds = [*(["plain value"] if len(scalars) > 1 else map(_type_text, scalars)), *kinds]
        text = " or ".join(dict.fromkeys(kinds))
    elif origin is Annotated:
        limits = " ".join(_limit_texts(arguments[1:]))
        text = f"{_type_text(arguments[0])}{f', {limits}' if limits else ''}"
    elif origin is Literal:
        text = " or ".join(f"`{one}`" for one in arguments)
    elif origin in (tuple, list):
        text = f"list of: {_type_text(arguments[0])}"
    elif origin is not None and issubclass(origin, Mapping):
        text = f"table of: {_type_text(arguments[1])}"
    elif isinstance(annotation, type) and issubclass(annotation, FactRecord):
        text = f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    else:
        names = {bool: "true or false", int: "integer", float: "number", str: "text"}
        text = names.get(annotation, "any value") if isinstance(annotation, type) else "any value"
    return text


def _limit_texts(metadata: Sequence[Any]) -> Iterator[str]:
    """The limits in an annotation, which pydantic keeps as `annotated_types`."""
    signs = {"ge": "at least", "gt": "more than", "le": "at most"}
    for fact in metadata:
        parts = fact.metadata if isinstance(fact, FieldInfo) else [fact]
        for part in parts:
            for name, words in signs.items():
                if (bound := getattr(part, name, None)) is not None:
                    yield f"{words} {bound}"


def _toml_value(value: object) -> str:
    """A value as TOML writes it, inside a cell of a table."""
    if isinstance(value, Mapping):
        pairs = (f"{_toml_key(name)} = {_toml_value(one)}" for name, one in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("|", "\\|")


def _toml_key(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)


def _spelling_table() -> str:
    """What is sent for some inputs, found by planning a call with each."""
    manifest = load_catalog(manifest_folder()).models["bytedance/seedance-2.0"]
    rows = []
    for facts, value in _SPELLED_CALLS:
        field = Input.model_validate(tomllib.loads(facts))
        name = str(field.argument)
        changed = manifest.model_copy(
            update={"inputs": {"prompt": manifest.inputs["prompt"], name: field}, "price": None}
        )
        sent = plan_call(changed, manifest.routes[0], {"prompt": "a", name: value}, lambda: 1).call.input[name]
        says = ", ".join(f"`{line}`" for line in facts.splitlines()[1:])
        rows.append(f"| {says} | `{name}: {json.dumps(value)}` | `{json.dumps(sent)}` |")
    return "\n".join(["| the manifest says | a call with | sends |", "| --- | --- | --- |", *rows])


def _encoder_table() -> str:
    former = {name: old for old, name in ENCODER_ALIASES.items()}
    rows = []
    for name, encoder in ENCODERS.items():
        also = f" (formerly `{former[name]}`)" if name in former else ""
        makes = f'`kind = "{encoder.kind}"`{", `many = true`" if encoder.many else ""}'
        arguments = " or ".join(f"`{one}`" for one in encoder.arguments)
        example = f"`{json.dumps(encoder.example)}` becomes `{json.dumps(encoder.encode(encoder.example))}`"
        rows.append(f"| `{name}`{also} | {arguments} | {makes} | {encoder.meaning} {example} |")
    heading = ["| encoder | argument | makes | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*heading, *rows])


def _form_table() -> str:
    rows = [
        f"| `{dialect}` | `{form}` | {meaning} |"
        for dialect, forms in REQUEST_FORMS.items()
        for form, meaning in forms.items()
    ]
    return "\n".join(["| dialect | form | request |", "| --- | --- | --- |", *rows])
