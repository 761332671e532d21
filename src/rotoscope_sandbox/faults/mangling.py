"""True answers, changed. Pure: from a fault, a deed and the app's own reply to another reply.

Every function answers None where the fault has nothing to change, so that its count is not used up: a status goes
backwards only after it has been told, and an output is missing only once there should be one.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from rotoscope_sandbox.faults.deeds import Deed, What
from rotoscope_sandbox.faults.refusals import Reply, problem
from rotoscope_sandbox.faults.scenarios import Fault

__all__ = ["is_final", "is_running", "reworded", "with_fresh_urls"]

_JSON: TypeAlias = Any
_PAGE = b"<html><head><title>Welcome</title></head><body>Please sign in.</body></html>"
_FINAL = {"succeeded", "failed", "canceled", "aborted", "COMPLETED", "FAILED"}
_RUNNING = {"processing", "IN_PROGRESS", "PROCESSING"}
_EARLIER = {
    "final": {"replicate": "processing", "fal": "IN_PROGRESS", "segmind": "PROCESSING"},
    "running": {"replicate": "starting", "fal": "IN_QUEUE", "segmind": "QUEUED"},
}
_IDS: dict[str, object] = {"null": None, "number": 7, "list": [], "empty": ""}
_OUTPUTS: dict[str, object] = {"null": None, "empty": [], "shape": {"unexpected": 7}}
_OK = 200


def reworded(fault: Fault, deed: Deed, reply: Reply, *, seen: bool = False) -> Reply | None:
    """The reply as the fault would have it, or None where it changes nothing.

    Args:
        fault: one of kind `reword`.
        deed: what was asked.
        reply: what the app answered.
        seen: whether a status that may go back has been told of this prediction before (F18).
    """
    match fault.name:
        case "F6":
            return _unreadable(fault.said("kind"), reply)
        case "F7":
            return _without_id(fault, deed, reply)
        case "F17":
            return (
                None if deed.family == "fal" and deed.what is What.RESULT else _still(deed, reply, fault.said("word"))
            )
        case "F18":
            return _still(deed, reply, _EARLIER[fault.said("after")][deed.family]) if seen else None
        case "F22":
            return _other_output(fault, deed, reply)
        case _:
            return None


def _parsed(reply: Reply) -> _JSON:
    try:
        return json.loads(reply.body)
    except ValueError:
        return None


def _with_body(reply: Reply, body: object, status: int | None = None) -> Reply:
    return replace(reply, body=json.dumps(body).encode(), status=status or reply.status)


def _accepted(reply: Reply) -> bool:
    return reply.status // 100 == 2  # noqa: PLR2004 - any success


def _unreadable(kind: str, reply: Reply) -> Reply | None:
    if not _accepted(reply):
        return None
    if kind == "html":
        return Reply(_OK, {"content-type": "text/html"}, _PAGE)
    if kind == "json":
        return Reply(reply.status, {"content-type": "application/json"}, b'{"id": "')
    return replace(reply, headers={**reply.headers, "content-type": "text/plain"})


def _without_id(fault: Fault, deed: Deed, reply: Reply) -> Reply | None:
    """No id, or one that is none; nor, unless asked for, URLs that would give it away."""
    if not _accepted(reply):
        return None
    if deed.direct:
        known = ("x-request-id", "x-fal-request-id")
        return replace(reply, headers={name: value for name, value in reply.headers.items() if name not in known})
    body = _parsed(reply)
    if not isinstance(body, dict):
        return None
    for name in ("id", "request_id", "gateway_request_id"):
        if name in body:
            body = _dropped(body, name) if fault.said("id") == "missing" else body | {name: _IDS[fault.said("id")]}
    if fault.said("urls") == "no":
        for name in ("urls", "status_url", "response_url", "cancel_url", "poll_url"):
            body = _dropped(body, name)
    headers = {name: value for name, value in reply.headers.items() if name != "x-fal-request-id"}
    return replace(_with_body(reply, body), headers=headers)


def _dropped(body: dict[str, _JSON], name: str) -> dict[str, _JSON]:
    return {key: value for key, value in body.items() if key != name}


def is_final(deed: Deed, reply: Reply) -> bool:
    """Whether a reply to an ask says that the prediction is over."""
    if deed.family == "fal" and deed.what is What.RESULT:
        return reply.status == _OK
    return _status(reply) in _FINAL


def is_running(deed: Deed, reply: Reply) -> bool:
    """Whether a reply to an ask says that the prediction is running."""
    return deed.what in (What.ASK, What.RESULT) and _status(reply) in _RUNNING


def _status(reply: Reply) -> str:
    body = _parsed(reply)
    told = body.get("status") if isinstance(body, dict) else None
    return told if isinstance(told, str) else ""


def _still(deed: Deed, reply: Reply, word: str) -> Reply | None:
    """The reply as it would be if the prediction were in an open state of that name."""
    if deed.family == "fal" and deed.what is What.RESULT:
        return problem("fal", 400, "Request is still in progress") if reply.status == _OK else None
    body = _parsed(reply)
    if not _status(reply):
        return None
    if deed.family == "replicate":
        nothing_yet = {"status": word, "output": None, "error": None, "completed_at": None}
        return _with_body(reply, _dropped(body, "metrics") | nothing_yet)
    body = _dropped(_dropped(body, "error"), "error_type") | {"status": word, "metrics": {}}
    if deed.family == "segmind":
        return _with_body(reply, body | ({"output": None} if "output" in body else {}), _OK)
    return _with_body(reply, body, 202)


def _other_output(fault: Fault, deed: Deed, reply: Reply) -> Reply | None:
    change = _output_change(fault)
    if reply.status not in (_OK, 201) or (deed.what is What.ASK and deed.family != "replicate"):
        return None
    if deed.family == "segmind" and deed.direct:
        return _direct_output(fault, reply)
    body = _parsed(reply)
    if deed.family == "fal":
        whole = deed.what is What.RESULT or deed.direct
        return _with_body(reply, change(body)) if whole else None
    if _status(reply) not in ("succeeded", "COMPLETED") or "output" not in body:
        return None
    return _with_body(reply, body | {"output": change(body["output"])})


def _direct_output(fault: Fault, reply: Reply) -> Reply | None:
    """Segmind's v1 answers with the picture: it can be empty or something else, but names no host."""
    if fault.said("kind") == "host":
        return None
    if reply.headers.get("content-type") == "application/json":
        body = _OUTPUTS.get(fault.said("kind"))
        return _with_body(reply, {"image": body})
    if fault.said("kind") == "shape":
        return replace(
            _with_body(reply, _OUTPUTS["shape"]), headers={**reply.headers, "content-type": "application/json"}
        )
    return replace(reply, body=b"")


def _output_change(fault: Fault) -> Callable[[_JSON], _JSON]:
    kind = fault.said("kind")
    if kind == "hollow":
        return lambda output: _each_text(output, lambda text: None if _is_url(text) else text)
    if kind == "host":
        return lambda output: _each_text(output, lambda text: _on_host(text, fault.said("host")))
    return lambda _: _OUTPUTS[kind]


def _each_text(value: _JSON, change: Callable[[str], object]) -> _JSON:
    if isinstance(value, dict):
        return {name: _each_text(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_each_text(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _on_host(text: str, host: str) -> str:
    return urlsplit(text)._replace(scheme="https", netloc=host).geturl() if _is_url(text) else text


def with_fresh_urls(reply: Reply) -> Reply:
    """The reply with output URLs that differ from the first ones, as a provider signs them anew (F23)."""

    def fresh(text: str) -> str:
        own = _is_url(text) and "/outputs/" in text
        return f"{text}?fresh=1" if own else text

    body = _parsed(reply)
    return reply if body is None else _with_body(reply, _each_text(body, fresh))
