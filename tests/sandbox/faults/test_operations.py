"""What a request does, read from the route that answers it."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from rotoscope_sandbox.app import build
from rotoscope_sandbox.faults.operations import (
    Action,
    Operation,
    check_route_names,
    find_operation,
    prediction_in_reply,
    with_model_of,
)

VERSION = "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"
SUBMIT = Operation(Action.SUBMIT, "replicate")


@pytest.fixture(scope="module")
def served_app(tmp_path_factory: pytest.TempPathFactory) -> Starlette:
    return build(tmp_path_factory.mktemp("sandbox"))


def operation_of(app: Starlette, method: str, path: str, *headers: tuple[str, str]) -> Operation | None:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": raw}
    return find_operation(scope, app.routes)


def parts_of(request_line: str) -> tuple[str, str]:
    """Method and path."""
    method, path = request_line.split()
    return method, path


@pytest.mark.parametrize(
    ("request_line", "action", "wire", "model", "prediction"),
    [
        ("POST /v1/predictions", "submit", "replicate", "", ""),
        ("POST /replicate/v1/models/prunaai/vace-14b/predictions", "submit", "gateway", "prunaai/vace-14b", ""),
        ("POST /v1/models/a/b/predictions", "submit", "replicate", "a/b", ""),
        ("GET /v1/predictions", "list", "replicate", "", ""),
        ("GET /v1/predictions/abc", "ask", "replicate", "", "abc"),
        ("GET /replicate/v1/predictions/abc", "ask", "gateway", "", "abc"),
        ("POST /v1/predictions/abc/cancel", "cancel", "replicate", "", "abc"),
        ("POST /v1/files", "upload", "replicate", "", ""),
        ("GET /v1/models/requests/by-endpoint", "list", "fal", "", ""),
        ("POST /fal-ai/sa2va/8b/image", "submit", "fal", "fal-ai/sa2va/8b/image", ""),
        ("GET /fal-ai/sa2va/requests/abc/status", "ask", "fal", "", "abc"),
        ("GET /fal-ai/sa2va/requests/abc/status/stream", "stream", "fal", "", "abc"),
        ("GET /fal-ai/sa2va/requests/abc", "result", "fal", "", "abc"),
        ("PUT /fal-ai/sa2va/requests/abc/cancel", "cancel", "fal", "", "abc"),
        ("POST /storage/upload/initiate", "upload", "fal", "", ""),
        ("PUT /storage/put/abc", "upload", "fal", "", ""),
        ("POST /files/upload", "upload", "fal", "", ""),
        ("POST /v2/sam-v2-image", "submit", "segmind", "sam-v2-image", ""),
        ("GET /v2/requests/abc/status", "ask", "segmind", "", "abc"),
        ("GET /v2/requests/abc", "result", "segmind", "", "abc"),
        ("POST /upload-asset", "upload", "segmind", "", ""),
        ("GET /inference-request/request-history/abc", "list", "segmind", "", ""),
        ("GET /outputs/abc/mask.png", "output", "", "", "abc"),
    ],
)
def test_each_route_is_an_operation(
    served_app: Starlette, request_line: str, action: str, wire: str, model: str, prediction: str
) -> None:
    found = operation_of(served_app, *parts_of(request_line))
    assert found is not None
    assert (found.action, found.wire, found.model, found.prediction) == (action, wire, model, prediction)
    assert not found.is_direct


@pytest.mark.parametrize(
    "request_line",
    ["GET /", "GET /sandbox/ledger", "GET /v1/webhooks/default/secret", "GET /v1/files", "DELETE /v1/files/abc",
     "GET /.well-known/jwks.json", "GET /files/abc.png", "HEAD /outputs/abc/mask.png", "GET /v1/account",
     "GET /v1/streams/abc"],
)  # fmt: skip
def test_what_no_fault_meets_is_no_operation(served_app: Starlette, request_line: str) -> None:
    assert operation_of(served_app, *parts_of(request_line)) is None


def test_an_unknown_path_of_replicate_is_not_taken_for_a_submit_to_fal(served_app: Starlette) -> None:
    assert operation_of(served_app, "POST", "/v1/no/such", ("authorization", "Bearer x")) is None


def test_every_route_of_the_app_has_the_name_of_its_operation_or_is_explicitly_none(served_app: Starlette) -> None:
    names = {route.name for route in served_app.routes if isinstance(route, Route)}
    assert len(served_app.routes) > 40
    check_route_names(served_app.routes)
    exempt = {name for name in names if name.endswith(":other")}
    assert exempt == {"any:other", "replicate:other", "gateway:other", "fal:other", "segmind:other"}
    actions = {name.partition(":")[2].removesuffix("-direct") for name in names - exempt}
    assert actions == set(Action)


@pytest.mark.parametrize("name", ["", "endpoint", "fal:", "fal:pay", "replicate", "other", "acme:submit"])
def test_a_route_whose_name_is_no_operation_stops_the_build(name: str, tmp_path: Path) -> None:
    async def endpoint(_: Any) -> None:
        """Never called."""

    with pytest.raises(ValueError, match="/new-wire"):
        check_route_names([*build(tmp_path).routes, Route("/new-wire", endpoint, name=name)])


@pytest.mark.parametrize(
    ("path", "host"),
    [("/v1/sam-v2-image", "x"), ("/sync/fal-ai/sam2/image", "x"), ("/fal-ai/sam2/image", "fal.run:443")],
)
def test_a_submit_that_answers_with_the_result_is_direct(served_app: Starlette, path: str, host: str) -> None:
    found = operation_of(served_app, "POST", path, ("host", host))
    assert found is not None
    assert (found.action, found.is_direct) == (Action.SUBMIT, True)


def test_a_gateway_answers_in_replicates_form() -> None:
    assert Operation(Action.ASK, "gateway").family == "replicate"


@pytest.mark.parametrize("version", [VERSION, f"bytedance/sa2va-4b-image:{VERSION}", "bytedance/sa2va-4b-image"])
def test_replicates_model_is_named_by_the_body(version: str) -> None:
    found = with_model_of(SUBMIT, json.dumps({"version": version}).encode())
    assert found.model == "bytedance/sa2va-4b-image"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"version": null}'])
def test_a_body_that_names_no_model_leaves_the_operation_as_it_was(body: bytes) -> None:
    assert with_model_of(SUBMIT, body) == SUBMIT


def test_the_id_is_where_each_wire_has_it() -> None:
    body = json.dumps({"id": "one", "request_id": "two"}).encode()
    direct = Operation(Action.SUBMIT, "segmind", is_direct=True)
    assert prediction_in_reply(Operation(Action.SUBMIT, "gateway"), {}, body) == "one"
    assert prediction_in_reply(Operation(Action.SUBMIT, "fal"), {}, body) == "two"
    assert prediction_in_reply(direct, {"x-request-id": "three"}, b"\xff") == "three"
    assert prediction_in_reply(Operation(Action.SUBMIT, "fal"), {}, b"{") == ""
