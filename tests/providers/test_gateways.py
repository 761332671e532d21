"""Gateways that speak Replicate's wire below another path: a whole job through an emulation of each documented one.

Cloudflare's AI Gateway stands for all of `https://api.replicate.com/v1`; CometAPI and other resellers keep `/v1` below
a path of theirs; a proxy of one's own may have neither.
"""

import json
import os
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rotoscope.cli.commands import run_command
from rotoscope.providers.http.messages import versioned_base
from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

Message = MutableMapping[str, Any]


class Gateway:
    """The sandbox's Replicate below `prefix`, which stands for `https://api.replicate.com/v1`, and nothing else."""

    def __init__(self, app: Sandbox, prefix: str) -> None:
        self.app = app
        self.prefix = prefix
        self.paths: list[str] = []

    @property
    def state(self) -> Any:
        return self.app.state

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and not path.startswith("/outputs/"):
            self.paths.append(path)
            inside = path.removeprefix(self.prefix) if path.startswith(f"{self.prefix}/") else "/nowhere"
            scope = {**scope, "path": f"/v1{inside}", "raw_path": f"/v1{inside}".encode()}
        await self.app(scope, receive, send)


@pytest.fixture
def own_home(tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith(("_KEY", "_TOKEN", "_SECRET", "_BASE_URL")) or name.startswith("ROTOSCOPE_"):
            monkeypatch.delenv(name)
    values = {"HOME": str(tmp_path / "rotoscope"), "ROOTS": str(photo.parent), "SANDBOX": "never", "UNPRICED": "run"}
    for name, value in values.items():
        monkeypatch.setenv(f"ROTOSCOPE_{name}", value)
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_test")


@contextmanager
def served_gateway(folder: Path, prefix: str) -> Iterator[tuple[Gateway, str]]:
    gateway = Gateway(build_sandbox(folder, pace=0), prefix)
    with serve_in_thread(gateway) as url:
        yield gateway, url


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize(
    ("prefix", "base"),
    [
        ("/v1", ""),
        ("/v1", "/v1"),
        ("/v1", "/v1/"),
        ("/v1/account/mine/replicate", "/v1/account/mine/replicate"),
        ("/v1/account/mine/replicate", "/v1/account/mine/replicate/"),
        ("/replicate/v1", "/replicate"),
        ("/replicate/v1", "/replicate/v1"),
    ],
    ids=str,
)
def test_a_job_runs_through_a_gateway_whose_base_has_its_version_anywhere(
    tmp_path: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    prefix: str,
    base: str,
) -> None:
    with served_gateway(tmp_path / "sandbox", prefix) as (gateway, url):
        monkeypatch.setenv("REPLICATE_BASE_URL", f"{url}{base}")
        asked = {"image": str(photo), "instruction": "the astronaut", "model": "bytedance/sa2va-4b-image"}
        assert run_command(["call", "segment_image", "--json", json.dumps(asked)]) == 0
        result = json.loads(capsys.readouterr().out)
    assert (result["status"], result["provider"], result["sandbox"]) == ("succeeded", "replicate", False)
    assert len(gateway.state.accepted) == 1
    assert all(path.startswith(f"{prefix}/") for path in gateway.paths)


@pytest.mark.parametrize(
    ("base", "whole"),
    [
        ("https://api.replicate.com", "https://api.replicate.com/v1"),
        ("https://api.replicate.com/v1", "https://api.replicate.com/v1"),
        ("https://gateway.ai.cloudflare.com/v1/a/g/replicate", "https://gateway.ai.cloudflare.com/v1/a/g/replicate"),
        ("https://api.cometapi.com/replicate/v1/", "https://api.cometapi.com/replicate/v1"),
        ("https://host/replicate", "https://host/replicate/v1"),
        ("https://v1.host/replicate", "https://v1.host/replicate/v1"),
        ("https://host/dev1/replicate", "https://host/dev1/replicate/v1"),
    ],
)
def test_the_version_is_added_where_the_path_has_none(base: str, whole: str) -> None:
    assert versioned_base(base) == whole
