"""References and alternatives of a JSON schema, resolved to plain schemas. Pure; of any JSON it makes something.

Schemas in use are of OpenAPI 3.0 and 3.1 at once: `$ref` beside `default`, `allOf` around an enumeration, `anyOf` with
null, `nullable`, lists of types, references to nothing, and records that contain themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotoscope.providers.http.messages import Json

__all__ = ["Resolver"]

_MAX_LEVELS, _MAX_STEPS = 12, 20_000  # of references inside references, and of one document
_COMPOSED = ("$ref", "allOf", "anyOf", "oneOf")
_SCALARS = ("string", "integer", "number", "boolean")


@dataclass(slots=True)
class Resolver:
    """Resolves the schemas of one document.

    Attributes:
        named: the document's schemas by name.
        left: how many steps may still be taken: a small document can refer to itself in very many ways.
    """

    named: Mapping[str, Json]
    left: int = _MAX_STEPS

    def resolve(self, schema: Json, levels: int = _MAX_LEVELS) -> dict[str, Json]:
        """A schema without references and alternatives at its top; what it says itself comes before what it refers to.

        Alternatives become the one that a caller can use best: null makes the value nullable, an enumeration comes
        before free text, a list before one value of it.
        """
        self.left -= 1
        if not isinstance(schema, dict) or levels <= 0 or self.left < 0:
            return {}
        merged: dict[str, Json] = {}
        if isinstance(reference := schema.get("$ref"), str):
            target = self.named.get(reference.rpartition("/")[2].replace("~1", "/").replace("~0", "~"))
            merged = self.resolve(target, levels - 1)
        for part in _as_list(schema.get("allOf")):
            merged = _merge(merged, self.resolve(part, levels - 1))
        for key in ("anyOf", "oneOf"):
            variants = [self.resolve(part, levels - 1) for part in _as_list(schema.get(key))]
            if variants:
                merged = _merge(merged, _join_variants(variants))
        return _plain_type(_merge(merged, {key: one for key, one in schema.items() if key not in _COMPOSED}))

    def properties(self, schema: Mapping[str, Json]) -> dict[str, Json]:
        """The properties of a resolved object schema, unresolved, by name."""
        found = schema.get("properties")
        return found if isinstance(found, dict) else {}


def _as_list(value: Json) -> Sequence[Json]:
    return value if isinstance(value, list) else ()


def _merge(first: Mapping[str, Json], second: Mapping[str, Json]) -> dict[str, Json]:
    merged = {**first, **second}
    one, other = first.get("properties"), second.get("properties")
    if isinstance(one, dict) and isinstance(other, dict):
        merged["properties"] = {**one, **other}
    return merged


def _plain_type(schema: dict[str, Json]) -> dict[str, Json]:
    """A schema whose `type` is one name, and which says `nullable` where null is one of its types or values."""
    types, values = schema.get("type"), schema.get("enum")
    if "const" in schema and "enum" not in schema:
        schema["enum"] = values = [schema["const"]]
    if isinstance(types, list):
        plain = [one for one in types if isinstance(one, str) and one != "null"]
        schema["nullable"] = schema.get("nullable") is True or len(plain) < len(types)
        schema["type"] = plain[0] if plain else "null"
    elif not isinstance(types, str):
        schema.pop("type", None)
    if isinstance(values, list) and None in values:
        schema["enum"], schema["nullable"] = [one for one in values if one is not None], True
    return schema


def _join_variants(variants: Sequence[dict[str, Json]]) -> dict[str, Json]:
    kept = [one for one in variants if one.get("type") != "null"]
    nullable: dict[str, Json] = {"nullable": True} if len(kept) < len(variants) else {}
    if len(kept) <= 1:
        return {**(kept[0] if kept else {}), **nullable}
    listed = [one for one in kept if isinstance(one.get("enum"), list)]
    if len(listed) == len(kept):
        values: list[Json] = [value for one in listed for value in _as_list(one.get("enum"))]
        return {**kept[0], "enum": values, **nullable}
    return {**_best_variant(kept), **nullable}


def _best_variant(variants: Sequence[dict[str, Json]]) -> dict[str, Json]:
    types = [one.get("type") for one in variants]
    if set(types) <= {"integer", "number"}:
        return variants[types.index("number")] if "number" in types else variants[0]
    listed = [one for one in variants if one.get("enum")]
    if set(types) == {"string"} and listed:
        # The enumeration is a proposal: other texts are taken too.
        free = next(one for one in variants if not one.get("enum"))
        return {**listed[0], **free, "enum": [], "examples": listed[0].get("enum", [])}
    if listed:
        return listed[0]
    for wanted in ("array", *_SCALARS):
        if wanted in types:
            return variants[types.index(wanted)]
    return variants[0]
