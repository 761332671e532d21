"""One input of a model as its schema tells of it, as a record. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotoscope.models.manifest import Scalar
from rotoscope.models.schemas.resolving import Resolver
from rotoscope.providers.http.messages import Json

__all__ = ["SchemaField", "read_fields"]

MAX_FIELDS = 200
"""How many inputs of a schema are read."""

_MAX_CHOICES, _MAX_NAME, _MAX_COUNT = 300, 100, 1_000_000
_LARGEST = 2**64  # of a limit; what is above means no limit
_TYPES = ("string", "integer", "number", "boolean", "object")


@dataclass(frozen=True, slots=True)
class SchemaField:
    """An input of a model.

    Attributes:
        type: string, integer, number, boolean or object; of a list, that of its items.
        format: the format that the schema names, such as uri; of a list, that of its items.
        choices: the only values taken; empty where any is.
        default: what the provider uses; of any JSON type, None where there is none.
        item_names: the properties of an object, or of the items of a list of objects.
        dropped: facts of the schema that could not be taken over, in words.
    """

    name: str
    type: str
    many: bool = False
    is_required: bool = False
    format: str = ""
    choices: tuple[Scalar, ...] = ()
    default: Json = None
    minimum: float | None = None
    maximum: float | None = None
    step: int | None = None
    max_length: int | None = None
    max_items: int | None = None
    title: str = ""
    description: str = ""
    examples: tuple[Json, ...] = ()
    item_names: frozenset[str] = frozenset()
    is_secret: bool = False
    is_hidden: bool = False
    is_exclusive: bool = False
    dropped: tuple[str, ...] = ()


def read_fields(schema: Json, resolver: Resolver) -> tuple[SchemaField, ...]:
    """The inputs of an input schema, in the order in which the provider shows them."""
    record = resolver.resolve(schema)
    required = record.get("required")
    needed = {one for one in required if isinstance(one, str)} if isinstance(required, list) else set()
    found: list[tuple[float, SchemaField]] = []
    shown = record.get("x-fal-order-properties")
    listed = shown if isinstance(shown, list) else []
    order = {name: place for place, name in enumerate(listed) if isinstance(name, str)}
    for name, one in list(resolver.properties(record).items())[:MAX_FIELDS]:
        if not name or len(name) > _MAX_NAME or not name.isprintable():
            continue
        plain = resolver.resolve(one)
        place = plain.get("x-order")
        at = place if isinstance(place, int | float) else order.get(name, MAX_FIELDS)
        found.append((at, _read_field(name, plain, resolver, is_required=name in needed)))
    return tuple(field for _, field in sorted(found, key=lambda pair: pair[0]))


def _read_field(name: str, schema: Mapping[str, Json], resolver: Resolver, *, is_required: bool) -> SchemaField:
    many = schema.get("type") == "array"
    item = resolver.resolve(schema.get("items")) if many else dict(schema)
    values = item.get("enum")
    choices, kind = _read_choices(values if isinstance(values, list) else [], _type_of(item))
    if many and kind == "array":
        kind, item = "object", {}
    minimum, maximum, is_exclusive = _read_range(item, kind)
    default, dropped = _read_default(schema.get("default"), kind, choices, many=many)
    text = str(item.get("format") or schema.get("format") or "")
    return SchemaField(
        name=name,
        type=kind,
        many=many,
        is_required=is_required,
        format=text.lower()[:40],
        choices=choices,
        default=default,
        minimum=minimum,
        maximum=maximum,
        step=_count(item.get("multipleOf")) if kind == "integer" else None,
        max_length=_count(item.get("maxLength")) if kind == "string" and not many else None,
        max_items=_count(schema.get("maxItems")) if many else None,
        title=_text(schema.get("title")),
        description=_text(schema.get("description")) or _text(item.get("description")),
        examples=_examples(schema) or _examples(item),
        item_names=frozenset(resolver.properties(item)),
        is_secret=text == "password" or any(one.get("x-cog-secret") is True for one in (schema, item)),
        is_hidden=any(schema.get(key) is True for key in ("deprecated", "hidden", "x-hidden", "x-deprecated")),
        is_exclusive=is_exclusive,
        dropped=dropped,
    )


def _type_of(schema: Mapping[str, Json]) -> str:
    kind = schema.get("type")
    if kind in (*_TYPES, "array"):
        return str(kind)
    if isinstance(schema.get("properties"), dict):
        return "object"
    value = schema.get("default")
    return {bool: "boolean", int: "integer", float: "number", str: "string"}.get(
        type(value), "string" if schema.get("enum") or "format" in schema else "object"
    )


def _read_choices(values: Sequence[Json], kind: str) -> tuple[tuple[Scalar, ...], str]:
    """The choices in one type, and that type: numbers and texts in one list are texts."""
    plain = [one for one in values if isinstance(one, bool | int | float | str)]
    if not plain or len(plain) > _MAX_CHOICES:
        return (), kind
    if all(isinstance(one, bool) for one in plain):
        return (), "boolean"
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in plain) and kind != "string":
        whole = all(isinstance(one, int) for one in plain)
        return tuple(dict.fromkeys(plain)), "integer" if whole else "number"
    if all(isinstance(one, int) and not isinstance(one, bool) for one in plain):
        return tuple(dict.fromkeys(plain)), "integer"
    return tuple(dict.fromkeys(one if isinstance(one, str) else str(one) for one in plain)), "string"


def _read_default(value: Json, kind: str, choices: tuple[Scalar, ...], *, many: bool) -> tuple[Json, tuple[str, ...]]:
    """The default in the type of the input; one that cannot be right is dropped, and said."""
    if value is None:
        return None, ()
    if many:
        listed = value if isinstance(value, list) else [value]
        read = [_fit_default(one, kind, choices) for one in listed]
        return (list(read), ()) if None not in read else (None, (f"the default {_show(value)} is no list of {kind}",))
    fitted = _fit_default(value, kind, choices)
    return (fitted, ()) if fitted is not None else (None, (f"the default {_show(value)} is no {kind} that it takes",))


def _fit_default(value: Json, kind: str, choices: tuple[Scalar, ...]) -> Json:
    fitted = _convert(value, kind)
    if not choices or fitted is None or fitted in choices:
        return fitted
    return None


def _convert(value: Json, kind: str) -> Json:
    match kind:
        case "string":
            return value if isinstance(value, str) else None if isinstance(value, bool | dict | list) else _plain(value)
        case "integer" | "number":
            number = _number(value)
            if number is None or (kind == "integer" and number != int(number)):
                return None
            return int(number) if kind == "integer" else number
        case "boolean":
            return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())
    return value if isinstance(value, dict | list) else None


def _plain(value: Json) -> str | None:
    number = _number(value)
    return None if number is None else f"{number:g}" if number != int(number) else str(int(number))


def _number(value: Json) -> float | None:
    """A number of ordinary size, also one that is written as text."""
    if isinstance(value, str):
        try:
            value = float(value[:40])
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if (isinstance(value, float) and not math.isfinite(value)) or abs(value) > _LARGEST:
        return None
    return value


def _read_range(schema: Mapping[str, Json], kind: str) -> tuple[float | None, float | None, bool]:
    """Minimum and maximum, and whether a bound itself is not taken (of a number; of an integer it is moved by one)."""
    if kind not in ("integer", "number"):
        return None, None, False
    bounds: list[float | None] = []
    is_exclusive = False
    for inside, outside, other, shift in (
        ("minimum", "exclusiveMinimum", "ge", 1),
        ("maximum", "exclusiveMaximum", "le", -1),
    ):
        bound, limit = _number(schema.get(inside, schema.get(other))), schema.get(outside)
        beyond = bound if limit is True else _number(limit) if not isinstance(limit, bool) else None
        if beyond is not None:
            is_exclusive |= kind == "number"
            bound = beyond + (shift if kind == "integer" else 0)
        bounds.append(bound)
    low, high = bounds
    return (None, None, False) if low is not None and high is not None and low > high else (low, high, is_exclusive)


def _count(value: Json) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_COUNT
    return value if whole and isinstance(value, int) else None


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _examples(schema: Mapping[str, Json]) -> tuple[Json, ...]:
    listed = schema.get("examples")
    found = listed if isinstance(listed, list) else [schema["example"]] if "example" in schema else []
    return tuple(one for one in found[:20] if one is not None)


def _show(value: Json) -> str:
    return repr(value)[:40]
