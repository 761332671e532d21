"""Models as Replicate shows them: the catalog, the schema of their inputs, and how an invalid input is refused.

The official clients ask for models and versions (`models.get`, `versions.list`, ...), for the account and for lists
that are empty here. The words of a refusal are those of the JSON schema validator that Replicate runs (gojsonschema):
public logs show `required` (of the object that lacks the field: "field": "input") and `enum`; the other kinds are
written as that validator writes them.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from rotoscope_sandbox.core import Core, Endpoint, ErrorResponse
from rotoscope_sandbox.models import Field, InputProblem, Model

__all__ = ["CATALOG", "UnknownPathRoute", "invalid_input", "list_page", "not_found", "replicate_error"]

_WIRE = "replicate"
_SINCE = "2025-01-01T00:00:00.000Z"
_HASH = "0" * 64
_JSON_TYPES = {"list": "array"}
_PYTHON_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}


def replicate_error(status: int, title: str, detail: str, **more: object) -> ErrorResponse:
    """An error in Replicate's form, which is that of RFC 7807."""
    return ErrorResponse(status, {"title": title, "detail": detail, "status": status, **more})


def not_found() -> ErrorResponse:
    """The answer where there is nothing."""
    return replicate_error(404, "Not found", "The requested resource could not be found.")


def list_page(results: Iterable[object], before: str | None = None, after: str | None = None) -> JSONResponse:
    """A page of a list, with the addresses of the pages around it."""
    return JSONResponse({"previous": before, "next": after, "results": list(results)})


class UnknownPathRoute(Route):
    """Any other path that is meant for Replicate: it comes with Replicate's kind of key, and not with Segmind's."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As a route does, unless the request is another wire's."""
        headers = dict(scope.get("headers", ()))
        scheme = headers.get(b"authorization", b"").partition(b" ")[0].lower()
        has_key = scheme in (b"bearer", b"token") and b"x-api-key" not in headers
        path = scope.get("path", "")
        # One part after /v1 is a model of Segmind's, whatever key it comes with.
        is_slug = scope.get("method") == "POST" and path.count("/") == len(("v1", "slug"))
        is_ours = path.startswith("/replicate/") or (has_key and not is_slug)
        return super().matches(scope) if is_ours else (Match.NONE, {})


async def _get_model(core: Core, request: Request) -> Response:
    return JSONResponse(_model_body(_find_requested_model(core, request)))


async def _list_models(core: Core, _: Request) -> Response:
    return list_page(map(_model_body, core.models(_WIRE)))


async def _list_versions(core: Core, request: Request) -> Response:
    model = _find_requested_model(core, request)
    return list_page([_version_body(model)] if model.version else [])


async def _get_version(core: Core, request: Request) -> Response:
    model = _find_requested_model(core, request)
    if model.version != request.path_params["version"]:
        raise not_found()
    return JSONResponse(_version_body(model))


async def _get_account(_: Core, __: Request) -> Response:
    return JSONResponse({"type": "user", "username": "sandbox", "name": "The sandbox", "github_url": None})


async def _list_hardware(_: Core, __: Request) -> Response:
    return JSONResponse([{"name": "CPU", "sku": "cpu"}])


async def _empty_list(_: Core, __: Request) -> Response:
    return list_page([])


CATALOG: Mapping[str, Endpoint] = {
    "/models": _list_models,
    "/models/{owner}/{name}": _get_model,
    "/models/{owner}/{name}/versions": _list_versions,
    "/models/{owner}/{name}/versions/{version}": _get_version,
    "/account": _get_account,
    "/hardware": _list_hardware,
    "/collections": _empty_list,
    "/deployments": _empty_list,
    "/trainings": _empty_list,
}
"""Paths below /v1 that a GET is answered at."""


def _find_requested_model(core: Core, request: Request) -> Model:
    model = core.model(_WIRE, f"{request.path_params['owner']}/{request.path_params['name']}")
    if model is None:
        raise not_found()
    return model


def _model_body(model: Model) -> dict[str, Any]:
    owner, _, name = model.name.partition("/")
    links = ("github_url", "paper_url", "license_url", "cover_image_url", "default_example")
    return {
        "url": f"https://replicate.com/{model.name}",
        "owner": owner,
        "name": name,
        "description": "Played by the sandbox.",
        "visibility": "public",
        "is_official": not model.version,
        "run_count": 0,
        "latest_version": _version_body(model),
        **dict.fromkeys(links),
    }


def _version_body(model: Model) -> dict[str, Any]:
    inputs = {name: _schema_of(name, field, order) for order, (name, field) in enumerate(model.fields.items())}
    required = [name for name, field in model.fields.items() if field.required]
    schemas = {
        "Input": {"type": "object", "title": "Input", "required": required, "properties": inputs},
        "Output": {"title": "Output"},
    }
    return {
        "id": model.version or _HASH,
        "created_at": _SINCE,
        "cog_version": "0.13.7",
        "openapi_schema": {
            "openapi": "3.0.2",
            "info": {"title": "Cog", "version": "0.1.0"},
            "paths": {},
            "components": {"schemas": schemas},
        },
    }


def _schema_of(name: str, field: Field, order: int) -> dict[str, Any]:
    bounds = {"minimum": field.least, "maximum": field.most} if field.type in ("integer", "number") else {}
    options = {"enum": list(field.options)} if field.options else {}
    limits = {key: value for key, value in {**bounds, **options}.items() if value is not None}
    return {"type": _JSON_TYPES.get(field.type, field.type), "title": name, "x-order": order, **limits}


def invalid_input(problems: Iterable[InputProblem], model: Model | None, given: Mapping[str, Any]) -> ErrorResponse:
    """The 422 for an input.

    Args:
        problems: what is wrong.
        model: whose input it is; None where the request has no input at all.
        given: the input.
    """
    fields = [_invalid_field(one, None if model is None else model.fields.get(one.field), given) for one in problems]
    detail = "".join(f"- {one['field']}: {one['description']}\n" for one in fields)
    return replicate_error(422, "Input validation failed", detail, invalid_fields=fields)


def _invalid_field(problem: InputProblem, known: Field | None, given: Mapping[str, Any]) -> dict[str, str]:
    if problem.kind == "missing":
        # The object that lacks it is at fault; a request without an input lacks it in the body itself.
        where = "input" if known is not None else ""
        return {"type": "required", "field": where, "description": f"{problem.field} is required"}
    kind, description = _describe(problem, known, given.get(problem.field))
    return {"type": kind, "field": f"input.{problem.field}", "description": description}


def _describe(problem: InputProblem, known: Field | None, value: Any) -> tuple[str, str]:
    if known is None:
        return problem.kind, problem.message
    allowed = ", ".join(json.dumps(option, ensure_ascii=False) for option in known.options)
    expected, actual = _JSON_TYPES.get(known.type, known.type), _PYTHON_TYPES.get(type(value).__name__, "null")
    descriptions = {
        "literal_error": ("enum", f"{problem.field} must be one of the following: {allowed}"),
        "too_small": ("number_gte", f"Must be greater than or equal to {known.least}"),
        "too_large": ("number_lte", f"Must be less than or equal to {known.most}"),
        "too_long": ("array_max_items", f"Array must have at most {known.most} items"),
    }
    if problem.kind == "too_long" and isinstance(value, str):
        return "string_lte", f"String length must be less than or equal to {known.most}"
    if problem.kind.endswith("_type"):
        return "invalid_type", f"Invalid type. Expected: {expected}, given: {actual}"
    return descriptions.get(problem.kind, (problem.kind, problem.message))
