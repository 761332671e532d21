"""Gateways that speak Replicate's wire below another path: a whole job through an emulation of each documented one.

Cloudflare's AI Gateway stands for all of `https://api.replicate.com/v1`; CometAPI and other resellers keep `/v1` below
a path of theirs; a proxy of one's own may have neither. The tables are those of docs/add-a-provider.md.
"""

import json
import os
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from films import film

from rotoscope.cli.commands import run_command
from rotoscope.models.catalog import manifest_folder
from rotoscope.providers.http.messages import versioned_base
from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

Message = MutableMapping[str, Any]
Run = Callable[[str, Mapping[str, object]], tuple[int, dict[str, Any], str]]
PAGE = Path(__file__).parents[2] / "docs" / "add-a-provider.md"
REPLICATE_TOKEN, CLOUDFLARE_TOKEN = "r8_test_token_of_replicate", "cf-token-0123456789"
PORTKEY_KEY, COMETAPI_KEY = "pk-key-9876543210", "sk-comet-0246813579"
AT_REPLICATE = re.compile(rb"http://127\.0\.0\.1:[0-9]+(/replicate)?/v1/predictions")


def block(name: str) -> str:
    """The block of docs/add-a-provider.md that begins with a comment."""
    blocks = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (found,) = (one for one in blocks if one.startswith(f"# {name}\n"))
    return str(found)


@dataclass
class Gateway:
    """The sandbox's Replicate below `prefix`, which stands for `https://api.replicate.com/v1`, and nothing else.

    Attributes:
        prefix: the path below which it answers.
        documented: the requests that it takes, as a pattern of method and path; others are not found.
        required: the headers without which it refuses a request, and their values.
        inside: the sandbox's path that the prefix stands for.
    """

    app: Sandbox
    prefix: str
    documented: str = ".*"
    required: Mapping[str, str] = field(default_factory=dict)
    inside: str = "/v1"
    paths: list[str] = field(default_factory=list)
    posted: list[str] = field(default_factory=list)
    fetched_with: list[set[str]] = field(default_factory=list)

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
        headers = {name.decode().lower(): value.decode() for name, value in scope.get("headers", ())}
        if scope["type"] == "http" and path.startswith("/outputs/"):
            self.fetched_with.append(set(headers))
        elif scope["type"] == "http":
            inner = self.place_of(scope["method"], path, headers)
            scope = {**scope, "path": inner, "raw_path": inner.encode()}
            send = AddressesOfReplicate(send)
        await self.app(scope, receive, send)

    def place_of(self, method: str, path: str, headers: Mapping[str, str]) -> str:
        """Where a request goes inside the sandbox."""
        self.paths.append(path)
        below = path.removeprefix(self.prefix) if path.startswith(f"{self.prefix}/") else ""
        if method == "POST":
            self.posted.append(below)
        is_taken = below and re.fullmatch(self.documented, f"{method} {below}")
        has_keys = all(headers.get(name) == value for name, value in self.required.items())
        return f"{self.inside}{below}" if is_taken and has_keys else "/v1/nowhere"


class AddressesOfReplicate:
    """Sends a reply on with the addresses of predictions as Replicate itself writes them."""

    def __init__(self, send: Callable[[Message], Awaitable[None]]) -> None:
        self.send = send
        self.start: Message = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = AT_REPLICATE.sub(b"https://api.replicate.com/v1/predictions", self.body)
        kept = [(name, value) for name, value in self.start["headers"] if name.lower() != b"content-length"]
        await self.send({**self.start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
        await self.send({**message, "body": body})


@pytest.fixture
def own_home(tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.endswith(("_KEY", "_TOKEN", "_SECRET", "_BASE_URL")) or name.startswith("ROTOSCOPE_"):
            monkeypatch.delenv(name)
    home = tmp_path / "rotoscope"
    values = {"HOME": str(home), "ROOTS": str(photo.parent), "SANDBOX": "never", "UNPRICED": "run"}
    for name, value in values.items():
        monkeypatch.setenv(f"ROTOSCOPE_{name}", value)
    monkeypatch.setenv("REPLICATE_API_TOKEN", REPLICATE_TOKEN)
    (home / "models").mkdir(mode=0o700, parents=True)
    return home


@contextmanager
def served_gateway(folder: Path, prefix: str, **facts: Any) -> Iterator[tuple[Gateway, str]]:
    gateway = Gateway(build_sandbox(folder, pace=0), prefix, **facts)
    with serve_in_thread(gateway) as url:
        yield gateway, url


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Run:
    """Calls a tool at the command line: its exit code, its result, and all that was printed and logged."""

    def call(tool: str, asked: Mapping[str, object]) -> tuple[int, dict[str, Any], str]:
        code = run_command(["call", tool, "--json", json.dumps(asked)])
        printed = capsys.readouterr()
        return code, json.loads(printed.out), printed.out + printed.err + caplog.text

    return call


def edit_in(folder: Path) -> dict[str, object]:
    """An edit of a small clip inside a small mask."""
    clip, mask = film(folder / "clip.mp4", frames=9, size=(96, 64)), folder / "mask.png"
    picture = np.zeros((64, 96), np.uint8)
    picture[16:48, 32:64] = 255
    cv2.imwrite(str(mask), picture)
    return {"prompt": "a hat", "video": str(clip), "mask": str(mask), "frame_num": 9}


def everything_in(home: Path) -> bytes:
    """What the ledger holds, and every small file beside it."""
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as ledger:
        rows = "\n".join(ledger.iterdump()).encode()
    return rows + b"".join(one.read_bytes() for one in home.rglob("*") if one.is_file())


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


CLOUDFLARE = {
    "documented": r"POST /predictions|GET /predictions(/[^/]+)?|POST /predictions/[^/]+/cancel|POST /files",
    "required": {"authorization": f"Bearer {REPLICATE_TOKEN}", "cf-aig-authorization": f"Bearer {CLOUDFLARE_TOKEN}"},
}
PORTKEY = {
    "documented": r"POST /predictions|GET /predictions/[^/]+|POST /predictions/[^/]+/cancel",
    "required": {
        "authorization": f"Bearer {REPLICATE_TOKEN}",
        "x-portkey-api-key": PORTKEY_KEY,
        "x-portkey-provider": "replicate",
    },
}
RESELLER = {
    "documented": r"POST /models/[^/]+/[^/]+/predictions|GET /predictions/[^/]+",
    "required": {"authorization": f"Bearer {COMETAPI_KEY}"},
    "inside": "/replicate/v1",
}


@dataclass(frozen=True)
class Documented:
    """A gateway of docs/add-a-provider.md with a key of its own."""

    title: str
    prefix: str
    facts: Mapping[str, Any]
    variable: str
    secret: str


@pytest.mark.parametrize(
    "one",
    [
        Documented("Cloudflare", "/v1/ACCOUNT/GATEWAY/replicate", CLOUDFLARE, "CF_AIG_TOKEN", CLOUDFLARE_TOKEN),
        Documented("Portkey", "/v1", PORTKEY, "PORTKEY_API_KEY", PORTKEY_KEY),
    ],
    ids=lambda one: str(one.title),
)
def test_the_documented_gateway_with_a_key_of_its_own_runs_whole_jobs_and_that_key_shows_nowhere(
    tmp_path: Path, photo: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, run: Run, one: Documented
) -> None:
    (own_home / "models" / "providers.toml").write_text(block(f"providers.toml for {one.title}"), encoding="utf-8")
    film_of_words = {"prompt": "a red boat", "duration": 4, "resolution": "480p", "generate_audio": False}
    with served_gateway(tmp_path / "sandbox", one.prefix, **one.facts) as (gateway, url):
        monkeypatch.setenv("REPLICATE_BASE_URL", f"{url}{one.prefix}")
        code, refused, _ = run("generate_video", film_of_words)
        assert (code, refused["error"]["code"]) == (2, "auth")
        assert one.variable in refused["error"]["message"]
        assert not gateway.paths

        monkeypatch.setenv(one.variable, one.secret)
        code, planned, printed = run("generate_video", {**film_of_words, "dry_run": True})
        request = planned["planned_request"]
        assert request["url"] == f"{url}{one.prefix}/predictions"
        assert request["body"]["version"] == "bytedance/seedance-2.0"
        assert any(value.endswith(f"${one.variable}") for value in request["headers"].values())
        for tool, asked in (
            ("generate_video", film_of_words),
            ("segment_image", {"image": str(photo), "instruction": "the astronaut"}),
        ):
            code, result, more = run(tool, asked)
            assert (code, result["status"], result["provider"]) == (0, "succeeded", "replicate"), result["error"]
            printed += more
    assert len(gateway.state.accepted) == 2
    assert [path for path in gateway.posted if path != "/files"] == ["/predictions", "/predictions"]
    assert gateway.fetched_with
    assert not {"authorization", *one.facts["required"]} & {name for names in gateway.fetched_with for name in names}
    for key in (one.secret, REPLICATE_TOKEN):
        assert key not in printed
        assert key.encode() not in everything_in(own_home)


def test_the_documented_reseller_with_a_table_of_its_own_runs_a_whole_job(
    tmp_path: Path, home: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    (own_home / "models" / "providers.toml").write_text(block("providers.toml for CometAPI"), encoding="utf-8")
    shipped = (manifest_folder() / "models" / "vace-14b.toml").read_text(encoding="utf-8")
    before, _, rest = shipped.partition("[[routes]]")
    route = f"{block('a route to CometAPI')}\n{rest[rest.index('[inputs.prompt]') :]}"
    (own_home / "models" / "vace-14b.toml").write_text(before + route, encoding="utf-8")
    asked = edit_in(home)
    with served_gateway(tmp_path / "sandbox", "/replicate/v1", **RESELLER) as (gateway, url):
        monkeypatch.setenv("COMETAPI_BASE_URL", f"{url}/replicate/v1")
        monkeypatch.setenv("COMETAPI_KEY", COMETAPI_KEY)
        code, result, printed = run("edit_video_with_mask", asked)
    assert (code, result["status"], result["provider"]) == (0, "succeeded", "cometapi"), result["error"]
    assert gateway.posted == ["/models/prunaai/vace-14b/predictions"]
    assert COMETAPI_KEY not in printed


def test_one_reseller_needs_two_variables_alone(
    tmp_path: Path, home: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    asked = edit_in(home)
    with served_gateway(tmp_path / "sandbox", "/replicate/v1", **RESELLER) as (gateway, url):
        monkeypatch.setenv("GATEWAY_BASE_URL", f"{url}/replicate/v1")
        monkeypatch.setenv("GATEWAY_API_KEY", COMETAPI_KEY)
        monkeypatch.delenv("REPLICATE_API_TOKEN")
        code, result, _ = run("edit_video_with_mask", asked)
    assert (code, result["status"], result["provider"]) == (0, "succeeded", "gateway"), result["error"]
    assert gateway.posted == ["/models/prunaai/vace-14b/predictions"]


@pytest.mark.parametrize("table", ["Cloudflare", "Portkey"])
def test_the_sandbox_stands_in_for_a_documented_gateway_while_no_key_is_set(
    photo: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, run: Run, table: str
) -> None:
    (own_home / "models" / "providers.toml").write_text(block(f"providers.toml for {table}"), encoding="utf-8")
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    monkeypatch.setenv("ROTOSCOPE_SANDBOX", "auto")
    code, result, _ = run(
        "segment_image",
        {"image": str(photo), "instruction": "the astronaut", "model": "bytedance/sa2va-4b-image@replicate"},
    )
    assert (code, result["status"], result["sandbox"]) == (0, "succeeded", True)


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


@pytest.mark.parametrize(
    ("base", "version_path", "whole"),
    [
        ("https://host", "/v1", "https://host/v1"),
        ("https://host/v1/", "/v1", "https://host/v1"),
        ("https://host/v1/replicate", "/v1", "https://host/v1/replicate/v1"),
        ("https://host/replicate", "/api/v2", "https://host/replicate/api/v2"),
        ("https://host/replicate/", "", "https://host/replicate"),
        ("https://host/v1", "", "https://host/v1"),
    ],
)
def test_where_the_record_says_where_the_version_stands_nothing_is_guessed(
    base: str, version_path: str, whole: str
) -> None:
    assert versioned_base(base, version_path) == whole
