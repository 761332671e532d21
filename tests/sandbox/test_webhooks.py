"""Webhooks: to this machine only, signed as the providers sign them, and wrong where `odd-webhook` asks for it."""

import base64
import hashlib
import json
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import pytest
from replicate.webhook import InvalidSignatureError, Webhooks, WebhookSigningSecret

from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.webhooks import is_own_machine

pytestmark = pytest.mark.anyio

VERSION = "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"
SAM2 = "/fal-ai/sam2/image"


@dataclass
class Mailbox:
    """Somebody who listens on this machine."""

    url: str
    came: "queue.Queue[tuple[dict[str, str], bytes]]" = field(default_factory=queue.Queue)

    async def next(self) -> tuple[dict[str, str], bytes]:
        return await anyio.to_thread.run_sync(lambda: self.came.get(timeout=60))

    async def bodies(self, number: int) -> list[dict[str, Any]]:
        return [json.loads((await self.next())[1]) for _ in range(number)]


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    class Slot(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            box.came.put(({name.lower(): value for name, value in self.headers.items()}, content))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Slot) as server:
        box = Mailbox(f"http://127.0.0.1:{server.server_address[1]}/hook?job=7")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield box
        server.shutdown()
        thread.join()


@pytest.fixture
def order(scene: Any, mailbox: Mailbox) -> dict[str, Any]:
    """A body for Replicate that names the mailbox."""
    return {
        "version": VERSION,
        "input": {"image": scene.uri, "instruction": "the ball"},
        "webhook": mailbox.url,
        "webhook_events_filter": ["start", "completed"],
    }


async def secret(app: Sandbox, ask: Any) -> WebhookSigningSecret:
    async with ask(app, "replicate") as client:
        return WebhookSigningSecret(key=(await client.get("/v1/webhooks/default/secret")).json()["key"])


async def sent(app: Sandbox, ask: Any, order: dict[str, Any], fault: str = "") -> dict[str, Any]:
    async with ask(app, "replicate") as client:
        headers = {"x-sandbox-fault": fault} if fault else {}
        reply = await client.post("/v1/predictions", json=order, headers=headers)
    assert reply.status_code == 201
    accepted: dict[str, Any] = reply.json()
    return accepted


async def test_the_start_and_the_end_are_sent_and_replicates_client_accepts_their_signature(
    app: Sandbox, ask: Any, order: dict[str, Any], mailbox: Mailbox
) -> None:
    known = await secret(app, ask)
    accepted = await sent(app, ask, order)
    for status in ({"starting", "processing", "succeeded"}, {"succeeded"}):
        headers, body = await mailbox.next()
        Webhooks.validate(headers=headers, body=body.decode(), secret=known)
        assert (json.loads(body)["id"], json.loads(body)["status"] in status) == (accepted["id"], True)
    assert json.loads(body)["output"]["img"]


async def test_without_a_filter_every_event_is_sent(
    app: Sandbox, ask: Any, order: dict[str, Any], mailbox: Mailbox
) -> None:
    await sent(app, ask, {name: value for name, value in order.items() if name != "webhook_events_filter"})
    bodies = await mailbox.bodies(4)
    assert [body["status"] for body in bodies[1:]] == ["succeeded"] * 3


async def test_odd_webhook_sends_everything_twice_with_the_same_id(
    app: Sandbox, ask: Any, order: dict[str, Any], mailbox: Mailbox
) -> None:
    app.state.faults.add("odd-webhook")
    await sent(app, ask, order)
    ids = [(await mailbox.next())[0]["webhook-id"] for _ in range(4)]
    assert ids[0] == ids[1] != ids[2] == ids[3]


async def test_odd_webhook_sends_the_end_before_the_start(
    app: Sandbox, ask: Any, order: dict[str, Any], mailbox: Mailbox
) -> None:
    await sent(app, ask, order, "odd-webhook;kind=disorder")
    first, _ = await mailbox.bodies(2)
    assert first["status"] == "succeeded"


async def test_odd_webhook_sends_before_the_post_is_answered(
    app: Sandbox, ask: Any, order: dict[str, Any], mailbox: Mailbox
) -> None:
    await sent(app, ask, order, "odd-webhook;kind=early")
    assert mailbox.came.qsize() == 2


async def test_odd_webhook_forges_the_signature(
    app: Sandbox, ask: Any, order: dict[str, Any], mailbox: Mailbox
) -> None:
    known = await secret(app, ask)
    await sent(app, ask, order, "odd-webhook;kind=forged")
    headers, body = await mailbox.next()
    with pytest.raises(InvalidSignatureError):
        Webhooks.validate(headers=headers, body=body.decode(), secret=known)


async def test_odd_webhook_is_an_hour_old_and_truly_signed(
    app: Sandbox, ask: Any, order: dict[str, Any], mailbox: Mailbox, clock: Any
) -> None:
    known = await secret(app, ask)
    await sent(app, ask, order, "odd-webhook;kind=old")
    headers, body = await mailbox.next()
    Webhooks.validate(headers=headers, body=body.decode(), secret=known)
    assert int(headers["webhook-timestamp"]) == int(clock.now) - 3600


async def test_odd_webhook_sends_nothing(app: Sandbox, ask: Any, order: dict[str, Any], mailbox: Mailbox) -> None:
    app.state.faults.add("odd-webhook;kind=never", times=1)
    silent = await sent(app, ask, order)
    spoken = await sent(app, ask, order)
    ids = {body["id"] for body in await mailbox.bodies(2)}
    assert ids == {spoken["id"]} != {silent["id"]}


async def test_fals_webhook_is_the_result_in_an_envelope_signed_with_its_published_key(
    app: Sandbox, fal: httpx.AsyncClient, scene: Any, mailbox: Mailbox
) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    given = {"image_url": scene.uri, "prompts": [{"x": 190, "y": 110}]}
    accepted = (await fal.post(SAM2, params={"fal_webhook": mailbox.url}, json=given)).json()
    headers, body = await mailbox.next()
    envelope = json.loads(body)
    assert (envelope["request_id"], envelope["status"]) == (accepted["request_id"], "OK")
    assert envelope["payload"]["image"]["url"]
    (key,) = (await fal.get("/.well-known/jwks.json")).json()["keys"]
    public = ed25519.Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    names = ("request-id", "user-id", "timestamp")
    signed = [*(headers[f"x-fal-webhook-{name}"] for name in names), hashlib.sha256(body).hexdigest()]
    public.verify(bytes.fromhex(headers["x-fal-webhook-signature"]), "\n".join(signed).encode())


async def test_fals_webhook_sends_a_failure(fal: httpx.AsyncClient, mailbox: Mailbox) -> None:
    given = {"image_url": "https://example.com/a.png", "prompts": [{"x": 1, "y": 1}]}
    await fal.post(SAM2, params={"fal_webhook": mailbox.url}, json=given)
    (envelope,) = await mailbox.bodies(1)
    assert (envelope["status"], envelope["error"]) == ("ERROR", "Unexpected status code: 422")
    assert envelope["payload"]["detail"]


class Deaf:
    """Takes a webhook only at its third attempt; it stands in for the connection."""

    def __init__(self, answers: tuple[int | None, ...]) -> None:
        self.answers = list(answers)
        self.came: queue.Queue[tuple[str, dict[str, str], bytes]] = queue.Queue()

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int | None:
        self.came.put((url, dict(headers), body))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def all(self) -> list[tuple[str, dict[str, str], bytes]]:
        """Every attempt, once none follows any more."""
        for thread in threading.enumerate():
            if thread.name == "webhook":
                await anyio.to_thread.run_sync(thread.join, 60)
        return [self.came.get_nowait() for _ in range(self.came.qsize())]


@pytest.mark.parametrize("wire", ["replicate", "fal"])
@pytest.mark.parametrize(
    ("answers", "attempts"),
    [((202,), {"replicate": 1, "fal": 1}), ((None, 500, 204), {"replicate": 3, "fal": 3}),
     ((503,), {"replicate": 7, "fal": 11})],
)  # fmt: skip
async def test_the_end_is_sent_again_until_it_is_taken_or_no_attempt_is_left(
    folder: Any,
    clock: Any,
    ask: Any,
    scene: Any,
    wire: str,
    answers: tuple[int | None, ...],
    attempts: dict[str, int],
) -> None:
    post = Deaf(answers)
    app = build_sandbox(folder, pace=0, clock=clock, post_webhook=post)
    async with ask(app, wire) as client:
        if wire == "replicate":
            order = {"version": VERSION, "input": {"image": scene.uri, "instruction": "the ball"}}
            more = {"webhook": "http://127.0.0.1:1/hook", "webhook_events_filter": ["completed"]}
            await client.post("/v1/predictions", json=order | more)
        else:
            given = {"image_url": scene.uri, "prompts": [{"x": 190, "y": 110}]}
            await client.post(SAM2, params={"fal_webhook": "http://127.0.0.1:1/hook"}, json=given)
    came = await post.all()
    assert len(came) == attempts[wire]
    name = "webhook-id" if wire == "replicate" else "x-fal-webhook-request-id"
    assert len({(url, headers[name], body) for url, headers, body in came}) == 1
    if wire == "fal":  # its deliveries have the name of the request
        assert came[0][1][name] == json.loads(came[0][2])["request_id"] == app.state.accepted[0]


async def test_only_the_end_is_sent_again(folder: Any, clock: Any, ask: Any, order: dict[str, Any]) -> None:
    post = Deaf((500,))
    app = build_sandbox(folder, pace=0, clock=clock, post_webhook=post)
    await sent(app, ask, {name: value for name, value in order.items() if name != "webhook_events_filter"})
    ids = [headers["webhook-id"] for _, headers, _ in await post.all()]
    assert sorted(ids.count(one) for one in set(ids)) == [1, 1, 1, 7]


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8000/hook", True),
        ("http://localhost/hook", True),
        ("http://[::1]:8000/hook", True),
        ("https://127.0.0.1/hook", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://example.com@127.0.0.2/", False),
        ("http://10.0.0.1/", False),
        ("http://127.0.0.1:x/", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_only_this_machine_is_called(url: str, own: bool) -> None:
    assert is_own_machine(url) is own
