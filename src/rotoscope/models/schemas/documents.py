"""A provider's document about one model, in one form for all providers. Pure.

fal publishes the OpenAPI of each endpoint's queue, or the same inside a record with metadata. Replicate publishes a
record with the schema of the latest version and a whole prediction as its example; a version alone has the schema.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rotoscope.contracts.characters import one_line, replace_lone_surrogates
from rotoscope.errors import InvalidInput
from rotoscope.models.catalog import describe_writing_by_hand
from rotoscope.models.schemas.fields import SchemaField, read_fields
from rotoscope.models.schemas.resolving import Resolver
from rotoscope.providers.http.messages import Json, measure_depth

__all__ = ["ModelDocument", "ModelName", "parse_model_name", "read_document"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9._-]+)+")
_VERSION = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._-]{0,127}")
_MAX_NAME, _MAX_TITLE, _MAX_TEXT, _MAX_DEPTH = 100, 80, 600, 60
_LARGEST_INTEGER, _WEEK = 2**63, 604_800


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model at a provider, as a user writes it: `fal:ID`, `replicate:OWNER/NAME`, `replicate:OWNER/NAME:VERSION`."""

    provider: str
    endpoint: str
    version: str | None = None

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.provider}:{self.endpoint}" + (f":{self.version}" if self.version else "")


@dataclass(frozen=True, slots=True)
class ModelDocument:
    """What a provider publishes of a model.

    Attributes:
        is_official: whether the provider runs it itself, so that it is called without a version; None: not said.
        category: the provider's own word for what it does, such as image-to-video; may be empty.
        fields: its inputs.
        output: the schema of its output, resolved at its top.
        example_input, example_output: of a run that the provider shows.
        predict_seconds, wait_seconds: how long that run took, and how long it waited before.
    """

    name: ModelName
    title: str
    description: str
    category: str
    is_official: bool | None
    fields: tuple[SchemaField, ...]
    output: Mapping[str, Json]
    resolver: Resolver = field(repr=False)
    example_input: Mapping[str, Json] = field(default_factory=dict)
    example_output: Json = None
    predict_seconds: float | None = None
    wait_seconds: float | None = None
    is_deprecated: bool = False


def parse_model_name(text: str) -> ModelName:
    """Read the name of a model at a provider.

    Raises:
        InvalidInput: it is not in one of the forms.
    """
    provider, _, rest = text.strip().partition(":")
    endpoint, _, version = rest.partition(":")
    hint = "Write fal:ID, replicate:OWNER/NAME or replicate:OWNER/NAME:VERSION."
    if provider not in ("fal", "replicate") or not _NAME.fullmatch(endpoint) or len(endpoint) > _MAX_NAME:
        raise InvalidInput(f"{text[:100]!r} is no name of a model.", hint=hint)
    if ".." in endpoint.split("/") or "." in endpoint.split("/"):
        raise InvalidInput(f"{text[:100]!r} is no name of a model.", hint=hint)
    if provider == "fal" and version:
        raise InvalidInput("A model at fal has no version.", hint=hint)
    if provider == "replicate" and (endpoint.count("/") != 1 or (version and not _VERSION.fullmatch(version))):
        raise InvalidInput(f"{text[:100]!r} is no name of a model.", hint=hint)
    return ModelName(provider, endpoint, version or None)


def read_document(name: ModelName, document: Json) -> ModelDocument:
    """Read a provider's document.

    Args:
        name: the model that it should be about.
        document: the parsed JSON: of fal an OpenAPI document, or the record of its platform around one; of Replicate a
            model or a version.

    Raises:
        InvalidInput: there is no schema in it, or it is of another model.
    """
    if measure_depth(document, _MAX_DEPTH + 1) > _MAX_DEPTH:
        raise InvalidInput("The document has more levels than any schema.", hint="Give the provider's own document.")
    clean = _clean(replace_lone_surrogates(document))
    record = clean if isinstance(clean, dict) else {}
    return _read_fal(name, record) if name.provider == "fal" else _read_replicate(name, record)


def _clean(value: object) -> Json:
    """A value without numbers that no manifest can hold."""
    match value:
        case dict():
            return {str(key): _clean(one) for key, one in value.items()}
        case list():
            return [_clean(one) for one in value]
        case float() if not math.isfinite(value):
            return None
        case bool() | str() | float() | None:
            return value
        case int():
            return value if abs(value) < _LARGEST_INTEGER else float(value) if abs(value) < 10**30 else None
    return None


def _read_fal(name: ModelName, record: Mapping[str, Json]) -> ModelDocument:
    listed = record.get("models")
    entry = _record(listed[0]) if isinstance(listed, list) and listed else record
    metadata = _record(entry.get("metadata"))
    openapi = _record(entry.get("openapi")) or entry
    schemas = _record(_record(openapi.get("components")).get("schemas"))
    resolver = Resolver(schemas)
    own = _record(_record(openapi.get("info")).get("x-fal-metadata"))
    found = own.get("endpointId") or entry.get("endpoint_id")
    if isinstance(found, str) and found != name.endpoint:
        raise InvalidInput(f"The document is of {one_line(found, _MAX_NAME)!r}.", hint=f"Name it: fal:{found[:100]}.")
    taken, given = _fal_schemas(openapi, name.endpoint)
    fields = read_fields(taken, resolver)
    output = resolver.resolve(given)
    if not fields or not output:
        raise _no_schema_error(name)
    return ModelDocument(
        name=name,
        title=_text(metadata.get("display_name"), _MAX_TITLE) or _title_of(name),
        description=_text(metadata.get("description"), _MAX_TEXT),
        category=_text(own.get("category"), _MAX_TITLE) or _text(metadata.get("category"), _MAX_TITLE),
        is_official=True,
        fields=fields,
        output=output,
        resolver=resolver,
        is_deprecated=metadata.get("status") == "deprecated",
    )


def _fal_schemas(openapi: Mapping[str, Json], endpoint: str) -> tuple[Json, Json]:
    """The schemas of the input and of the output, as the paths name them: names of schemas were seen to mislead."""
    taken: Json = None
    given: Json = None
    for path, operations in _record(openapi.get("paths")).items():
        if endpoint not in path:
            continue
        post, get = _record(_record(operations).get("post")), _record(_record(operations).get("get"))
        body = _json_content(post.get("requestBody"))
        if body is not None and taken is None:
            taken = body
        reply = _json_content(_record(get.get("responses")).get("200"))
        if reply is not None and path.rstrip("/").endswith("{request_id}"):
            given = reply
    return taken, given


def _json_content(holder: Json) -> Json:
    content = _record(_record(holder).get("content"))
    return _record(content.get("application/json")).get("schema")


def _read_replicate(name: ModelName, record: Mapping[str, Json]) -> ModelDocument:
    version = _record(record.get("latest_version")) if "latest_version" in record else record
    schemas = _record(_record(_record(version.get("openapi_schema")).get("components")).get("schemas"))
    resolver = Resolver(schemas)
    owner, called = record.get("owner"), record.get("name")
    if isinstance(owner, str) and isinstance(called, str) and f"{owner}/{called}" != name.endpoint:
        found = one_line(f"{owner}/{called}", _MAX_NAME)
        raise InvalidInput(f"The document is of {found!r}.", hint=f"Name it: replicate:{found}.")
    fields = read_fields(schemas.get("Input"), resolver)
    if not fields:
        raise _no_schema_error(name)
    example = _record(record.get("default_example"))
    metrics = _record(example.get("metrics"))
    predicted, total = _seconds(metrics.get("predict_time")), _seconds(metrics.get("total_time"))
    identifier = version.get("id")
    official = record.get("is_official")
    return ModelDocument(
        name=ModelName(
            "replicate",
            name.endpoint,
            name.version or (identifier if isinstance(identifier, str) and _VERSION.fullmatch(identifier) else None),
        ),
        title=_title_of(name),
        description=_text(record.get("description"), _MAX_TEXT),
        category="",
        is_official=official if isinstance(official, bool) and not name.version else None,
        fields=fields,
        output=resolver.resolve(schemas.get("Output")),
        resolver=resolver,
        example_input=_record(example.get("input")),
        example_output=example.get("output"),
        predict_seconds=predicted,
        wait_seconds=total - predicted if total is not None and predicted is not None and total > predicted else None,
    )


def _no_schema_error(name: ModelName) -> InvalidInput:
    return InvalidInput(
        f"There is no schema of {name} in the document.",
        hint=f"Save the provider's own document and give it with --from, or {describe_writing_by_hand()}.",
    )


def _title_of(name: ModelName) -> str:
    parts = name.endpoint.split("/")
    kept = parts[1:] if len(parts) > 1 else parts
    return one_line(" ".join(kept).replace("-", " ").replace("_", " "), _MAX_TITLE)


def _seconds(value: Json) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _WEEK
    return float(value) if known and isinstance(value, int | float) else None


def _text(value: Json, limit: int) -> str:
    return one_line(value, limit) if isinstance(value, str) else ""


def _record(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
