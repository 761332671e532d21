"""What a request is about, read from its words alone."""

import json

import pytest

from rotoscope_sandbox.faults.deeds import Deed, What, deed_of, id_told, naming_model

VERSION = "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"


@pytest.mark.parametrize(
    ("request_line", "what", "wire", "model", "prediction"),
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
def test_each_route_is_a_deed(request_line: str, what: str, wire: str, model: str, prediction: str) -> None:
    method, path = request_line.split()
    deed = deed_of(method, path)
    assert deed is not None
    assert (deed.what, deed.wire, deed.model, deed.prediction, deed.direct) == (what, wire, model, prediction, False)


@pytest.mark.parametrize(
    "request_line",
    ["GET /", "GET /sandbox/ledger", "GET /v1/webhooks/default/secret", "GET /v1/files", "DELETE /v1/files/abc",
     "GET /.well-known/jwks.json", "GET /files/abc.png"],
)  # fmt: skip
def test_what_no_fault_concerns_is_no_deed(request_line: str) -> None:
    assert deed_of(*request_line.split()) is None


@pytest.mark.parametrize(
    ("path", "host"), [("/v1/sam-v2-image", ""), ("/sync/fal-ai/sam2/image", ""), ("/fal-ai/sam2/image", "fal.run:443")]
)
def test_a_submit_that_answers_with_the_result_is_direct(path: str, host: str) -> None:
    deed = deed_of("POST", path, host=host)
    assert deed is not None
    assert (deed.what, deed.direct) == (What.SUBMIT, True)


def test_a_gateway_speaks_replicates_words() -> None:
    assert Deed(What.ASK, "gateway", "/").family == "replicate"


@pytest.mark.parametrize("version", [VERSION, f"bytedance/sa2va-4b-image:{VERSION}", "bytedance/sa2va-4b-image"])
def test_replicates_model_is_named_by_the_body(version: str) -> None:
    deed = naming_model(Deed(What.SUBMIT, "replicate", "/"), json.dumps({"version": version}).encode())
    assert deed.model == "bytedance/sa2va-4b-image"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"version": null}'])
def test_a_body_that_names_no_model_leaves_the_deed_as_it_was(body: bytes) -> None:
    deed = Deed(What.SUBMIT, "replicate", "/")
    assert naming_model(deed, body) == deed


def test_the_id_is_where_each_wire_tells_it() -> None:
    told = json.dumps({"id": "one", "request_id": "two"}).encode()
    assert id_told(Deed(What.SUBMIT, "gateway", "/"), {}, told) == "one"
    assert id_told(Deed(What.SUBMIT, "fal", "/"), {}, told) == "two"
    assert id_told(Deed(What.SUBMIT, "segmind", "/", direct=True), {"x-request-id": "three"}, b"\xff") == "three"
    assert id_told(Deed(What.SUBMIT, "fal", "/"), {}, b"{") == ""
