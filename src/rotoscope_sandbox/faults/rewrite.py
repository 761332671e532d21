"""The app's true answers, changed by a fault. Pure: from a fault, an operation and the app's reply to another reply.

A function answers None where the fault has nothing to change, so that its count is not used up: a status goes back only
after it has been shown once, and an output is missing only once there should be one.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from rotoscope_sandbox.faults.definitions import Fault
from rotoscope_sandbox.faults.error_responses import HttpReply, error_reply
from rotoscope_sandbox.faults.operations import Action, Operation

__all__ = ["has_awaited_status", "refresh_urls", "rewrite_reply"]

_Json: TypeAlias = Any
_PAGE = b"<html><head><title>Welcome</title></head><body>Please sign in.</body></html>"
_FINAL = {"succeeded", "failed", "canceled", "aborted", "COMPLETED", "FAILED"}
_RUNNING = {"processing", "IN_PROGRESS", "PROCESSING"}
_EARLIER = {
    "final": {"replicate": "processing", "fal": "IN_PROGRESS", "segmind": "PROCESSING"},
    "running": {"replicate": "starting", "fal": "IN_QUEUE", "segmind": "QUEUED"},
}
_IDS: dict[str, object] = {"null": None, "number": 7, "list": [], "empty": ""}
_OUTPUTS: dict[str, object] = {"null": None, "empty": [], "shape": {"unexpected": 7}}
_ID_HEADERS = ("x-request-id", "x-fal-request-id")
_OK = 200


def rewrite_reply(fault: Fault, operation: Operation, reply: HttpReply, *, was_shown: bool = False) -> HttpReply | None:
    """The reply as the fault would have it, or None where it changes nothing.

    Args:
        fault: one that is acted out by a rewrite.
        operation: what the request does.
        reply: what the app answered.
        was_shown: whether a status that may go back was answered before, for this prediction.
    """
    match fault.name:
        case "unreadable-reply":
            return _unreadable(fault.text("kind"), reply)
        case "no-id":
            return _without_id(fault, operation, reply)
        case "status-unknown":
            is_result = operation.family == "fal" and operation.action is Action.RESULT
            return None if is_result else _with_open_status(operation, reply, fault.text("word"))
        case "status-goes-back":
            status = _EARLIER[fault.text("after")][operation.family]
            return _with_open_status(operation, reply, status) if was_shown else None
        case "bad-output":
            return _with_bad_output(fault, operation, reply)
        case _:
            return None


def _body_of(reply: HttpReply) -> _Json:
    try:
        return json.loads(reply.body)
    except ValueError:
        return None


def _status_of(reply: HttpReply) -> str:
    body = _body_of(reply)
    status = body.get("status") if isinstance(body, dict) else None
    return status if isinstance(status, str) else ""


def _with_body(reply: HttpReply, body: object, status: int | None = None) -> HttpReply:
    return replace(reply, body=json.dumps(body).encode(), status=status or reply.status)


def _without(body: dict[str, _Json], *names: str) -> dict[str, _Json]:
    return {name: value for name, value in body.items() if name not in names}


def _unreadable(kind: str, reply: HttpReply) -> HttpReply | None:
    if not reply.is_success:
        return None
    if kind == "html":
        return HttpReply(_OK, {"content-type": "text/html"}, _PAGE)
    if kind == "json":
        return HttpReply(reply.status, {"content-type": "application/json"}, b'{"id": "')
    return replace(reply, headers={**reply.headers, "content-type": "text/plain"})


def _without_id(fault: Fault, operation: Operation, reply: HttpReply) -> HttpReply | None:
    """Drops or corrupts the id and, unless `urls=yes`, drops the URLs that contain it."""
    if not reply.is_success:
        return None
    nameless = replace(reply, headers=_without(dict(reply.headers), *_ID_HEADERS))
    if operation.is_direct:
        return nameless
    body = _body_of(reply)
    if not isinstance(body, dict):
        return None
    for name in {"id", "request_id", "gateway_request_id"} & set(body):
        is_missing = fault.text("id") == "missing"
        body = _without(body, name) if is_missing else body | {name: _IDS[fault.text("id")]}
    if fault.text("urls") == "no":
        body = _without(body, "urls", "status_url", "response_url", "cancel_url", "poll_url")
    return _with_body(nameless, body)


def has_awaited_status(fault: Fault, operation: Operation, reply: HttpReply) -> bool:
    """Whether a reply shows the status after which `status-goes-back` may act."""
    if fault.text("after") == "running":
        return operation.action in (Action.ASK, Action.RESULT) and _status_of(reply) in _RUNNING
    if operation.family == "fal" and operation.action is Action.RESULT:
        return reply.status == _OK
    return _status_of(reply) in _FINAL


def _with_open_status(operation: Operation, reply: HttpReply, status: str) -> HttpReply | None:
    """The reply as it would be if the prediction were in an open state of that name."""
    if operation.family == "fal" and operation.action is Action.RESULT:
        return error_reply("fal", 400, "Request is still in progress") if reply.status == _OK else None
    body = _body_of(reply)
    if not _status_of(reply):
        return None
    if operation.family == "replicate":
        nothing_yet = {"status": status, "output": None, "error": None, "completed_at": None}
        return _with_body(reply, _without(body, "metrics") | nothing_yet)
    body = _without(body, "error", "error_type") | {"status": status, "metrics": {}}
    if operation.family == "segmind":
        return _with_body(reply, body | ({"output": None} if "output" in body else {}), _OK)
    return _with_body(reply, body, 202)


def _with_bad_output(fault: Fault, operation: Operation, reply: HttpReply) -> HttpReply | None:
    change = _output_change(fault)
    if reply.status not in (_OK, 201) or (operation.action is Action.ASK and operation.family != "replicate"):
        return None
    if operation.family == "segmind" and operation.is_direct:
        return _with_bad_bytes(fault.text("kind"), reply)
    body = _body_of(reply)
    if operation.family == "fal":
        is_whole = operation.action is Action.RESULT or operation.is_direct
        return _with_body(reply, change(body)) if is_whole else None
    if _status_of(reply) not in ("succeeded", "COMPLETED") or "output" not in body:
        return None
    return _with_body(reply, body | {"output": change(body["output"])})


def _with_bad_bytes(kind: str, reply: HttpReply) -> HttpReply | None:
    """Segmind's v1 answers with the picture: it can be empty or something else, but names no host."""
    if kind == "host":
        return None
    if reply.headers.get("content-type") == "application/json":
        return _with_body(reply, {"image": _OUTPUTS.get(kind)})
    if kind == "shape":
        headers = {**reply.headers, "content-type": "application/json"}
        return _with_body(replace(reply, headers=headers), _OUTPUTS["shape"])
    return replace(reply, body=b"")


def _output_change(fault: Fault) -> Callable[[_Json], _Json]:
    kind = fault.text("kind")
    if kind == "hollow":
        return lambda output: _with_each_text(output, lambda text: None if _is_url(text) else text)
    if kind == "host":
        return lambda output: _with_each_text(output, lambda text: _on_host(text, fault.text("host")))
    return lambda _: _OUTPUTS[kind]


def _with_each_text(value: _Json, change: Callable[[str], object]) -> _Json:
    if isinstance(value, dict):
        return {name: _with_each_text(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_each_text(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _on_host(text: str, host: str) -> str:
    return urlsplit(text)._replace(scheme="https", netloc=host).geturl() if _is_url(text) else text


def refresh_urls(reply: HttpReply) -> HttpReply:
    """The reply with output URLs that differ from the first ones, as where a provider signs them again."""

    def refresh(text: str) -> str:
        return f"{text}?fresh=1" if _is_url(text) and "/outputs/" in text else text

    body = _body_of(reply)
    return reply if body is None else _with_body(reply, _with_each_text(body, refresh))
