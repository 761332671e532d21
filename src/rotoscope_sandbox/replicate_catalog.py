"""What Replicate shows beside predictions: models and their versions, the account, hardware, and lists that are empty.

The official clients ask for these (`models.get`, `versions.list`, `accounts.current`, ...). A path that Replicate does
not have is answered in its words, and not in those of the other wires on the same base.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from rotoscope_sandbox.models import Field, Model, all_models, find_model
from rotoscope_sandbox.site import Refusal, Site

__all__ = ["CATALOG", "LostRoute", "nowhere"]

_WIRE = "replicate"
_SINCE = "2025-01-01T00:00:00.000Z"
_HASH = "0" * 64
_JSON_TYPES = {"list": "array"}

_Act: TypeAlias = Callable[[Site, Request], Awaitable[Response]]


def nowhere() -> Refusal:
    """What is answered where there is nothing."""
    words = "The requested resource could not be found."
    return Refusal(404, {"title": "Not found", "detail": words, "status": 404})


class LostRoute(Route):
    """Any path that is meant for Replicate: it comes with Replicate's kind of key, and not with Segmind's."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As a route does, unless the request is another wire's."""
        headers = dict(scope.get("headers", ()))
        scheme = headers.get(b"authorization", b"").partition(b" ")[0].lower()
        meant = scheme in (b"bearer", b"token") and b"x-api-key" not in headers
        # One word after /v1 is a model of Segmind's, whatever key it comes with.
        lone = scope.get("method") == "POST" and scope.get("path", "").count("/") == len(("v1", "slug"))
        gateway = scope.get("path", "").startswith("/replicate/")
        return super().matches(scope) if gateway or (meant and not lone) else (Match.NONE, {})


async def _model(_: Site, request: Request) -> Response:
    return JSONResponse(_shown(_asked(request)))


async def _models(_: Site, __: Request) -> Response:
    return JSONResponse({"previous": None, "next": None, "results": [_shown(model) for model in _all()]})


async def _versions(_: Site, request: Request) -> Response:
    model = _asked(request)
    results = [_version_of(model)] if model.version else []
    return JSONResponse({"previous": None, "next": None, "results": results})


async def _version(_: Site, request: Request) -> Response:
    model = _asked(request)
    if model.version != request.path_params["version"]:
        raise nowhere()
    return JSONResponse(_version_of(model))


async def _account(_: Site, __: Request) -> Response:
    return JSONResponse({"type": "user", "username": "sandbox", "name": "The sandbox", "github_url": None})


async def _hardware(_: Site, __: Request) -> Response:
    return JSONResponse([{"name": "CPU", "sku": "cpu"}])


async def _nothing(_: Site, __: Request) -> Response:
    return JSONResponse({"previous": None, "next": None, "results": []})


CATALOG: list[tuple[str, str, _Act]] = [
    ("GET", "/models", _models),
    ("GET", "/models/{owner}/{name}", _model),
    ("GET", "/models/{owner}/{name}/versions", _versions),
    ("GET", "/models/{owner}/{name}/versions/{version}", _version),
    ("GET", "/account", _account),
    ("GET", "/hardware", _hardware),
    ("GET", "/collections", _nothing),
    ("GET", "/deployments", _nothing),
    ("GET", "/trainings", _nothing),
]
"""Method, path below /v1, and who answers."""


def _all() -> Iterator[Model]:
    return (model for model in all_models() if model.wire == _WIRE)


def _asked(request: Request) -> Model:
    model = find_model(_WIRE, f"{request.path_params['owner']}/{request.path_params['name']}")
    if model is None:
        raise nowhere()
    return model


def _shown(model: Model) -> dict[str, Any]:
    owner, _, name = model.name.partition("/")
    return {
        "url": f"https://replicate.com/{model.name}",
        "owner": owner,
        "name": name,
        "description": "Played by the sandbox.",
        "visibility": "public",
        "is_official": not model.version,
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": _version_of(model),
    }


def _version_of(model: Model) -> dict[str, Any]:
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
    told = {key: value for key, value in {**bounds, **options}.items() if value is not None}
    return {"type": _JSON_TYPES.get(field.type, field.type), "title": name, "x-order": order, **told}
