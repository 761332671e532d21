"""A provider of one of the three wires that accepts what it is sent and loses its reply."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from scripted_provider import OUTPUT_URL

__all__ = ["Lossy"]


_LISTS = (
    "/v1/predictions",
    "/v1/models/requests/by-endpoint",
    "/inference-request/request-history",
)


class Lossy:
    """A provider of one of the three wires that does what it is asked to, keeps a list of it, and loses its reply.

    Attributes:
        rows: its list, as (id, input).
        lists: how its list answers: "all", "none" (empty), "broken", or "portal" (HTML with 200).
        page: how many rows a page of Replicate's list has.
        broken_pages: those pages of it that answer 503.
        date: the `Date` header of its replies; None: they have none.
        queries: what its list was asked for.
        rewrites: the inputs that it rewrites before it lists them.
        uploads: how many files were brought; each gets an address of its own.
    """

    def __init__(self, wire: str, picture: bytes) -> None:
        self.wire = wire
        self.picture = picture
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.lists = "all"
        self.rewrites: dict[str, Any] = {}
        self.page, self.broken_pages = 100, frozenset[int]()
        self.date: str | None = None
        self.queries: list[dict[str, list[str]]] = []
        self.posts = self.uploads = self.looks = 0
        self.loses = True
        self.asked: list[str] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        method, path = scope["method"], scope["path"]
        self.asked.append(f"{method} {path}")
        status, kind, content = self.answer(method, path, body, parse_qs(scope["query_string"].decode()))
        dated = [(b"date", self.date.encode())] if self.date is not None else []
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *dated]})
        await send({"type": "http.response.body", "body": content})

    def answer(self, method: str, path: str, body: bytes, query: dict[str, list[str]]) -> tuple[int, bytes, bytes]:
        if path == "/out.png":
            return 200, b"image/png", self.picture
        if self.lists == "portal" and method == "GET" and path in _LISTS:
            self.looks += 1
            return 200, b"text/html", b"<html>Sign in to the network</html>"
        found = getattr(self, self.wire)(method, path, body, query)
        return (found[0], b"application/json", json.dumps(found[1]).encode()) if isinstance(found, tuple) else found

    def accepted(self, given: dict[str, Any], reply: Any) -> tuple[int, Any]:
        self.posts += 1
        self.rows.append((f"prediction-{len(self.rows)}", {**given, **self.rewrites}))
        return (502, {"detail": "bad gateway"}) if self.loses else reply

    def listed(self, word: Callable[[str, dict[str, Any]], dict[str, Any]], member: str) -> tuple[int, Any]:
        self.looks += 1
        if self.lists == "broken":
            return 503, {}
        return 200, {member: [] if self.lists == "none" else [word(*row) for row in self.rows]}

    def replicate(self, method: str, path: str, body: bytes, query: dict[str, list[str]]) -> tuple[int, Any]:
        if path == "/v1/files":
            self.uploads += 1
            return 201, {"id": "f", "urls": {"get": f"https://sandbox.invalid/v1/files/f{self.uploads}"}}
        if method == "POST":
            asked = json.loads(body)
            self.version = str(asked.get("version", "")).rpartition(":")[2]
            reply = 201, {"id": f"prediction-{len(self.rows)}", "status": "starting"}
            return self.accepted(asked["input"], reply)
        if path == "/v1/predictions":
            return self.replicate_page(query)
        done = {"status": "succeeded", "output": {"img": OUTPUT_URL, "response": "[SEG]"}, "metrics": {}}
        name = path.rpartition("/")[2]
        given = dict(self.rows).get(name)
        known = self.replicate_row(name, given) if given is not None else {"id": name}
        return (200, {**known, "logs": "", "error": None, **done}) if given is not None else (404, {"detail": "none"})

    def replicate_page(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        """Newest first, as Replicate gives them."""
        self.queries.append(query)
        status, answer = self.listed(self.replicate_row, "results")
        number = int(query.get("page", ["0"])[0])
        if status != 200 or number in self.broken_pages:
            return 503, {}
        rows = answer["results"][::-1]
        more = len(rows) > (number + 1) * self.page
        following = f"https://sandbox.invalid/v1/predictions?page={number + 1}" if more else None
        return 200, {"results": rows[number * self.page : (number + 1) * self.page], "next": following}

    def replicate_row(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        return {"id": name, "model": "bytedance/sa2va-4b-image", "version": self.version, "input": given}

    def fal(self, method: str, path: str, body: bytes, query: dict[str, list[str]]) -> tuple[int, Any]:
        if path.startswith("/storage/upload"):
            self.uploads += 1
            return 200, {
                "upload_url": "https://sandbox.invalid/put",
                "file_url": f"https://sandbox.invalid/in{self.uploads}.png",
            }
        if method == "PUT":
            return 200, {}
        if path.endswith("/by-endpoint"):
            assert query["endpoint_id"] == ["fal-ai/sam2/image"]
            shown = "payloads" in query.get("expand", [])
            return self.listed(
                lambda name, given: {"request_id": name} | ({"json_input": given} if shown else {}), "items"
            )
        if method == "POST":
            return self.accepted(json.loads(body), (200, {"request_id": "x", "status": "IN_QUEUE"}))
        if path.endswith("/status"):
            return 200, {"status": "COMPLETED", "request_id": path.split("/")[-2]}
        return 200, {"image": {"url": OUTPUT_URL}}

    def segmind(self, method: str, path: str, body: bytes, _: dict[str, list[str]]) -> tuple[int, Any]:
        if path == "/upload-asset":
            self.uploads += 1
            return 200, {"file_urls": [f"https://sandbox.invalid/in{self.uploads}.png"]}
        if method == "POST":
            return self.accepted(json.loads(body), (200, {}))
        if path.endswith("/request-history"):
            return self.listed(self.segmind_row, "data")
        name = path.rpartition("/")[2]
        given = dict(self.rows).get(name)
        done = {"model_status": "COMPLETED", "generation_url": OUTPUT_URL, "credits_deduction": 0.0031}
        return (200, {**self.segmind_row(name, given), **done}) if given is not None else (404, {"error": "none"})

    def segmind_row(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        return {"request_id": name, "request_body": given, "model_name": "sam-v2-image"}
