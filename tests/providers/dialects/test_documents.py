"""The requests that dialects build against the example documents of the models, field by field."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rotoscope.providers.dialects import DIALECTS
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.states import Call, Open, Succeeded, Ticket, Working

DOCUMENTS = Path(__file__).parents[4] / "shared" / "seeds"
pytestmark = pytest.mark.skipif(not DOCUMENTS.is_dir(), reason="the example documents lie beside the repository")


def document(number: str) -> str:
    (path,) = DOCUMENTS.glob(f"{number}_*.txt")
    return path.read_text(encoding="utf-8")


def blocks(text: str) -> Iterator[Any]:
    """Every JSON object or array in a text, outermost only."""
    decoder, place = json.JSONDecoder(), 0
    while found := re.compile(r"[\[{]").search(text, place):
        try:
            block, place = decoder.raw_decode(text, found.start())
        except ValueError:
            place = found.end()
        else:
            yield block


def found_in(pattern: str, text: str, flags: int = 0) -> str:
    """What the group of a pattern matches."""
    found = re.search(pattern, text, flags)
    assert found is not None
    return found[1]


def url_of(call: HttpCall | None) -> str:
    """The URL of a request that there is."""
    assert call is not None
    return call.url


def fields_of(call: HttpCall) -> dict[str, Any]:
    """The JSON body of a request."""
    assert isinstance(call.json, dict)
    return call.json


def curl(text: str) -> tuple[str, dict[str, Any]]:
    """The URL and the body of the curl command in a document of Replicate's."""
    body, url = re.findall(r"-d \$'(\{.*?\})' \\\n(https://\S+)", text, re.DOTALL)[0]
    return url, json.loads(body)


def test_the_request_for_sa2va_is_the_documents_curl_command() -> None:
    """Document 000: a community model, named with its version."""
    url, body = curl(document("000"))
    endpoint, version = body["version"].split(":")
    call = Call("replicate", endpoint, body["input"], version=version, form="version")
    built = DIALECTS["replicate"]({"api": "https://api.replicate.com"}).submit(call)
    assert (built.url, built.json) == (url, body)


def test_the_finished_prediction_of_sa2va_in_the_document_is_read() -> None:
    shown = next(block for block in blocks(document("000")) if "status" in block)
    ticket = Ticket(shown["id"], shown["model"])
    dialect = DIALECTS["replicate"]({"api": "https://api.replicate.com"})
    state = dialect.read(Reply(200, {}, json.dumps(shown).encode()), Working(ticket))
    assert state == Succeeded(ticket, shown["output"], shown["metrics"], tuple(shown["logs"].split("\n")))
    assert dialect.ask(Working(ticket)).url == shown["urls"]["get"]
    assert url_of(dialect.cancel(ticket)) == shown["urls"]["cancel"]


def test_the_request_for_sa2va_on_fal_is_the_documents_input_without_a_wrapper() -> None:
    """Document 001: endpoint and input of `fal.subscribe`, id of `fal.queue.status`."""
    text = document("001")
    endpoint = found_in(r'fal\.subscribe\("([^"]+)"', text)
    given, output = blocks(text[text.index("5. Schema") :])
    dialect = DIALECTS["fal"]({"api": "https://queue.fal.run"})
    built = dialect.submit(Call("fal", endpoint, given, form="queue"))
    assert (built.url, built.json) == ("https://queue.fal.run/fal-ai/sa2va/8b/image", given)

    ticket = Ticket(found_in(r'requestId: "([^"]+)"', text), endpoint)
    ready = dialect.read(Reply(200, {}, b'{"status": "COMPLETED"}'), Working(ticket))
    assert isinstance(ready, Open)
    state = dialect.read(Reply(200, {}, json.dumps(output).encode()), ready)
    assert state == Succeeded(ticket, output)


def test_the_request_for_seedance_is_the_documents_curl_command() -> None:
    """Document 002: an official model, with a Chinese prompt."""
    url, body = curl(document("002"))
    call = Call("replicate", "bytedance/seedance-2.0", body["input"], form="official")
    built = DIALECTS["replicate"]({"api": "https://api.replicate.com"}).submit(call)
    assert (built.url, built.json) == (url, body)
    assert fields_of(built)["input"]["prompt"] == "按 Image 1 的故事版生成视频"


def test_the_finished_prediction_of_seedance_in_the_document_is_read() -> None:
    shown = next(block for block in blocks(document("002")) if "status" in block)
    ticket = Ticket(shown["id"], shown["model"])
    dialect = DIALECTS["replicate"]({"api": "https://api.replicate.com"})
    state = dialect.read(Reply(200, {}, json.dumps(shown).encode()), Working(ticket))
    assert state == Succeeded(ticket, shown["output"], shown["metrics"], tuple(shown["logs"].split("\n")))


def test_the_request_for_sam_is_the_documents_axios_call() -> None:
    """Document 003. Its `image` is the result of a function there, so that field alone is not compared."""
    text = document("003")
    url = found_in(r'const url = "([^"]+)"', text)
    image = found_in(r"toB64\('([^']+)'\)", text)
    data = json.loads(re.sub(r"toB64\('[^']+'\)", json.dumps(image), found_in(r"const data = (\{.*?\});", text)))
    call = Call("segmind", url.rpartition("/")[2], data, form="v1")
    built = DIALECTS["segmind"]({"api": "https://api.segmind.com"}).submit(call)
    assert built.url == url
    assert {name: fields_of(built)[name] for name in data if name != "image"} == {
        "base64": False,
        "overlay_mask": True,
        "prompt": "boy",
    }
    assert list(fields_of(built)) == list(data)


def test_the_request_for_vace_is_the_documents_example_with_version_and_input() -> None:
    """Document 004: a gateway, whose path names the model and whose body names the version too."""
    text = document("004")
    path = found_in(r"^Path(/\S+)$", text, re.MULTILINE)
    described = next(block for block in blocks(text) if isinstance(block, dict) and "examples" in block)
    body = json.loads(described["examples"][0]["value"])
    call = Call("gateway", "prunaai/vace-14b", body["input"], version=body["version"], form="official")
    built = DIALECTS["replicate"]({"api": "https://gateway.example/replicate"}).submit(call)
    assert (built.url, built.json) == (f"https://gateway.example{path}", body)


def test_the_urls_in_the_gateways_reply_are_not_followed() -> None:
    answers = next(block for block in blocks(document("004")) if isinstance(block, list) and "data" in block[0])
    shown = json.loads(next(answer["data"] for answer in answers if "urls" in answer["data"]))
    assert shown["urls"]["get"].startswith("https://api.replicate.com/")
    dialect = DIALECTS["replicate"]({"api": "https://gateway.example/replicate"})
    state = dialect.read(Reply(200, {}, json.dumps(shown).encode()), Call("gateway", "prunaai/vace-14b", {}))
    prediction = f"https://gateway.example/replicate/v1/predictions/{shown['id']}"
    assert isinstance(state, Open)
    assert dialect.ask(state).url == prediction
    assert url_of(dialect.cancel(state.ticket)) == f"{prediction}/cancel"
