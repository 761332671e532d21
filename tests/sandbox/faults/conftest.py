"""A plain client of each wire that knows nothing of faults, in process or over a socket."""

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import numpy as np
import pytest
from PIL import Image

from rotoscope_sandbox import Sandbox
from rotoscope_sandbox.serving import serve_in_thread

SA2VA = "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"
KEYS = {
    "replicate": {"authorization": "Bearer r8_test"},
    "gateway": {"authorization": "Bearer gateway"},
    "fal": {"authorization": "Key test:key"},
    "segmind": {"x-api-key": "SG_test"},
    "segmind-v1": {"x-api-key": "SG_test"},
}
PATHS = {
    "replicate": "/v1/predictions",
    "gateway": "/replicate/v1/predictions",
    "fal": "/fal-ai/sam2/image",
    "segmind": "/v2/sam-v2-image",
    "segmind-v1": "/v1/sam-v2-image",
}
SUCCESS_STATUS = {"replicate": 201, "gateway": 200, "fal": 200, "segmind": 200, "segmind-v1": 200}


@dataclass
class WireClient:
    """The requests that a client makes on one wire."""

    wire: str
    client: httpx.AsyncClient
    given: dict[str, Any]

    @property
    def success_status(self) -> int:
        """The status of an answer that accepts."""
        return SUCCESS_STATUS[self.wire]

    async def submit(self, fault: str = "", **more: Any) -> httpx.Response:
        headers = {"x-sandbox-fault": fault} if fault else {}
        return await self.client.post(PATHS[self.wire], json=self.given | more, headers=headers)

    async def submit_accepted(self, fault: str = "", **more: Any) -> dict[str, Any]:
        reply = await self.submit(fault, **more)
        assert reply.status_code == self.success_status, reply.text
        accepted: dict[str, Any] = reply.json()
        return accepted

    async def ask(self, accepted: dict[str, Any]) -> httpx.Response:
        return await self.client.get(accepted.get("status_url") or f"{PATHS[self.wire]}/{accepted['id']}")

    async def result(self, accepted: dict[str, Any]) -> httpx.Response:
        return (
            await self.client.get(accepted["response_url"]) if "response_url" in accepted else await self.ask(accepted)
        )

    async def cancel(self, accepted: dict[str, Any]) -> httpx.Response:
        if self.wire == "fal":
            return await self.client.put(accepted["cancel_url"])
        return await self.client.post(f"{PATHS[self.wire]}/{accepted['id']}/cancel")

    async def output(self, accepted: dict[str, Any]) -> str:
        """The URL of the picture that was made."""
        body = (await self.result(accepted)).json()
        if self.wire == "segmind":
            return str(body["output"]["image"])
        return str(body["image"]["url"] if self.wire == "fal" else body["output"]["img"])

    def status(self, reply: httpx.Response) -> str:
        return str(reply.json()["status"])


@dataclass(frozen=True)
class Picture:
    """A small photo that is computed in no time."""

    uri: str


@pytest.fixture(scope="session")
def scene() -> Picture:
    rows, columns = np.mgrid[0:48, 0:64]
    disc = (rows - 24) ** 2 + (columns - 32) ** 2 < 144
    frame = np.where(disc[..., None], (190, 70, 60), (60, 110, 70)) + np.random.default_rng(7).normal(0, 6, (48, 64, 1))
    target = io.BytesIO()
    Image.fromarray(frame.clip(0, 255).astype(np.uint8)).save(target, "PNG")
    return Picture(f"data:image/png;base64,{base64.b64encode(target.getvalue()).decode()}")


@pytest.fixture
def given(scene: Picture) -> Callable[[str], dict[str, Any]]:
    """A good input of a wire."""

    def chosen(wire: str) -> dict[str, Any]:
        if wire in ("replicate", "gateway"):
            return {"version": SA2VA, "input": {"image": scene.uri, "instruction": "segment the ball"}}
        if wire == "fal":
            return {"image_url": scene.uri, "prompts": [{"x": 32, "y": 24}]}
        return {"image": scene.uri, "prompt": "", "coordinates": "[32,24]"}

    return chosen


Open = Callable[[str], AbstractAsyncContextManager[WireClient]]


class _OpenClient:
    def __init__(self, client: httpx.AsyncClient, wire: str, given: dict[str, Any]) -> None:
        self._client = client
        self._customer = WireClient(wire, client, given)

    async def __aenter__(self) -> WireClient:
        return self._customer

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()


@pytest.fixture
def wire_client(app: Sandbox, given: Callable[[str], dict[str, Any]]) -> Callable[..., _OpenClient]:
    """Opens a client of the sandbox that needs no time, in this process."""

    def opened(wire: str, of: Sandbox = app) -> _OpenClient:
        transport = httpx.ASGITransport(of)
        client = httpx.AsyncClient(transport=transport, base_url="https://sandbox.invalid", headers=KEYS[wire])
        return _OpenClient(client, wire, given(wire))

    return opened


@pytest.fixture
def address(app: Sandbox) -> Iterator[str]:
    """The same sandbox over real sockets."""
    with serve_in_thread(app) as url:
        yield url


@pytest.fixture
def socket_client(address: str, given: Callable[[str], dict[str, Any]]) -> Callable[..., _OpenClient]:
    """Opens a client over a socket, which times out after some seconds."""

    def opened(wire: str, patience: float = 10.0) -> _OpenClient:
        client = httpx.AsyncClient(base_url=address, headers=KEYS[wire], timeout=patience)
        return _OpenClient(client, wire, given(wire))

    return opened
