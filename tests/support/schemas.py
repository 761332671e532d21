"""Small documents in the forms in which fal and Replicate publish the schemas of models."""

from typing import Any

__all__ = ["fal_document", "replicate_document"]

FILE = {"title": "File", "type": "object", "properties": {"url": {"type": "string"}, "file_size": {"type": "integer"}}}


def fal_document(
    endpoint: str,
    properties: dict[str, Any],
    output: dict[str, Any],
    *,
    required: list[str] | None = None,
    category: str = "",
    schemas: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The OpenAPI document of an endpoint's queue, with a second, empty `Input` that no path refers to."""

    def content(name: str) -> dict[str, Any]:
        return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}

    known = {
        "QueueStatus": {"type": "object", "properties": {"status": {"type": "string"}}},
        "OtherInput": {"type": "object"},
        "AppInput": {"type": "object", "required": required or [], "properties": properties},
        "AppOutput": {"type": "object", "properties": output},
        "File": FILE,
        "Image": {**FILE, "title": "Image"},
    }
    return {
        "openapi": "3.0.4",
        "info": {"x-fal-metadata": {"endpointId": endpoint, "category": category}},
        "components": {"schemas": {**known, **(schemas or {})}},
        "paths": {
            f"/{endpoint}/requests/{{request_id}}/status": {"get": {"responses": {"200": content("QueueStatus")}}},
            f"/{endpoint}": {
                "post": {"requestBody": content("AppInput"), "responses": {"200": content("QueueStatus")}}
            },
            f"/{endpoint}/requests/{{request_id}}": {"get": {"responses": {"200": content("AppOutput")}}},
        },
    }


def replicate_document(
    name: str,
    properties: dict[str, Any],
    output: dict[str, Any],
    *,
    required: list[str] | None = None,
    schemas: dict[str, Any] | None = None,
    **record: Any,
) -> dict[str, Any]:
    """A model's record, with its latest version."""
    owner, _, called = name.partition("/")
    known = {"Input": {"type": "object", "required": required or [], "properties": properties}, "Output": output}
    version = {"id": "0" * 64, "openapi_schema": {"components": {"schemas": {**known, **(schemas or {})}}}}
    return {"owner": owner, "name": called, "description": "", "latest_version": version, **record}
