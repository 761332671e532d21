"""`rotoscope models add`: from a schema on disk, or at a server of this machine, to a manifest that a call uses."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from calls import ServerBuilder
from mcp import Client
from schemas import fal_document, replicate_document

from rotoscope.settings import read_settings
from rotoscope_sandbox import Sandbox

Run = Callable[..., "subprocess.CompletedProcess[str]"]
FILE = {"$ref": "#/components/schemas/File"}
ENDPOINT = "acme/film/image-to-video"
DOCUMENT = fal_document(
    ENDPOINT,
    {
        "prompt": {"type": "string", "examples": ["A ship sails on."]},
        "image_url": {"type": "string", "examples": ["https://example.com/ship.png"]},
        "duration": {"type": "string", "enum": ["5", "10"], "default": "5"},
        "camera": {"type": "string", "enum": ["still", "pan"]},
        "seed": {"type": "integer"},
    },
    {"video": FILE},
    required=["prompt", "image_url"],
    category="image-to-video",
)
MODEL = replicate_document(
    "acme/film",
    {"prompt": {"type": "string"}},
    {"type": "string", "format": "uri"},
    required=["prompt"],
    default_example={"output": "https://example.com/a.mp4", "metrics": {"predict_time": 42.0}},
)
VERSION = {"id": "1" * 64, "openapi_schema": MODEL["latest_version"]["openapi_schema"]}


@pytest.fixture
def run(tmp_path: Path, home: Path) -> Run:
    def command(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
        own = {"HOME": str(home), "ROTOSCOPE_HOME": str(tmp_path / "rotoscope"), "PYTHONWARNINGS": "error"}
        return subprocess.run(
            [sys.executable, "-m", "rotoscope", "models", *arguments],
            env={**kept, **own, **more},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


@pytest.fixture
def schema(home: Path) -> Path:
    file = home / "schema.json"
    file.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    return file


def manifest_file(tmp_path: Path, name: str = "acme-film-image-to-video") -> Path:
    return tmp_path / "rotoscope" / "models" / f"{name}.toml"


class Answers(BaseHTTPRequestHandler):
    """Answers GET requests from a table, and keeps what was asked."""

    table: dict[str, tuple[int, Any]]
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization", "")))
        status, body = self.table.get(self.path.partition("?")[0], (404, {"detail": "not found"}))
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class has
        """Says nothing."""


@pytest.fixture
def provider() -> Iterator[type[Answers]]:
    """A server on this machine; its base URL is `base`."""
    handler = type("Handler", (Answers,), {"table": {}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.base = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield handler
        server.shutdown()
        thread.join()


SITE, PLATFORM, PRICES = "/api/openapi/queue/openapi.json", "/v1/models", "/v1/models/pricing"


def test_a_schema_on_disk_becomes_a_checked_manifest_without_any_network(
    run: Run, schema: Path, tmp_path: Path
) -> None:
    done = run("add", f"fal:{ENDPOINT}", "--from", str(schema))
    assert (done.returncode, done.stderr) == (0, "")
    written = manifest_file(tmp_path)
    assert f"wrote {written}" in done.stdout
    assert f"POST https://queue.fal.run/{ENDPOINT}" in done.stdout
    assert '"prompt": "A ship sails on."' in done.stdout
    assert "price: not known" in done.stdout
    assert run("check", str(written)).returncode == 0
    assert ENDPOINT in run().stdout
    if hasattr(os, "geteuid"):
        assert written.stat().st_mode & 0o077 == 0


def test_a_file_that_is_there_is_replaced_only_by_force(run: Run, schema: Path, tmp_path: Path) -> None:
    assert run("add", f"fal:{ENDPOINT}", "--from", str(schema)).returncode == 0
    manifest_file(tmp_path).write_text("# mine\n", encoding="utf-8")
    done = run("add", f"fal:{ENDPOINT}", "--from", str(schema))
    assert done.returncode == 2
    assert "is there already. Give --force" in done.stderr
    assert manifest_file(tmp_path).read_text(encoding="utf-8") == "# mine\n"
    assert run("add", f"fal:{ENDPOINT}", "--from", str(schema), "--force").returncode == 0
    assert "acme" in manifest_file(tmp_path).read_text(encoding="utf-8")


def test_a_manifest_can_be_looked_at_before_it_is_written(run: Run, schema: Path, tmp_path: Path) -> None:
    done = run("add", f"fal:{ENDPOINT}", "--from", str(schema), "--print")
    assert done.returncode == 0
    assert 'argument = "first_frame"' in done.stdout
    assert not manifest_file(tmp_path).exists()


@pytest.mark.parametrize(
    ("model", "content", "words"),
    [
        ("fal:acme/film/image-to-video", "{", "holds no JSON object"),
        ("fal:acme/film/image-to-video", "[1]", "holds no JSON object"),
        ("fal:acme/film/image-to-video", "{}", "There is no schema"),
        ("replicate:acme/film", "{}", "There is no schema"),
        ("film", "{}", "is no name of a model"),
        ("fal:acme/music", json.dumps(fal_document("acme/music", {"prompt": {}}, {"audio": FILE})), "makes sound"),
    ],
)
def test_what_gives_no_manifest_ends_in_one_sentence(
    run: Run, home: Path, tmp_path: Path, model: str, content: str, words: str
) -> None:
    (home / "given.json").write_text(content, encoding="utf-8")
    done = run("add", model, "--from", "given.json")
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "rotoscope" / "models").exists()


def test_fals_schema_is_read_without_a_key_and_its_price_only_with_one(run: Run, provider: Any, tmp_path: Path) -> None:
    provider.table = {
        SITE: (200, DOCUMENT),
        PRICES: (
            200,
            {"prices": [{"endpoint_id": ENDPOINT, "unit_price": 0.05, "unit": "seconds", "currency": "USD"}]},
        ),
    }
    without = run("add", f"fal:{ENDPOINT}", FAL_BASE_URL=provider.base)
    assert (without.returncode, without.stderr) == (0, "")
    assert provider.asked == [(f"{SITE}?endpoint_id={ENDPOINT}", "")]
    done = run("add", f"fal:{ENDPOINT}", "--force", FAL_BASE_URL=provider.base, FAL_KEY="id:secret-canary")
    assert (done.returncode, done.stderr) == (0, "")
    assert provider.asked[1:] == [
        (f"{SITE}?endpoint_id={ENDPOINT}", ""),
        (f"{PRICES}?endpoint_id={ENDPOINT}", "Key id:secret-canary"),
    ]
    text = manifest_file(tmp_path).read_text(encoding="utf-8")
    assert 'unit = "output_second"' in text
    assert "usd = 0.05" in text
    assert "fal says 0.05 USD for each seconds" in text
    assert "canary" not in text + done.stdout


@pytest.mark.parametrize(
    ("usd", "unit", "currency"),
    [(0, "compute seconds", "USD"), (0.01, "1000 tokens", "USD"), (0.01, "seconds", "EUR"), ("1", "image", "USD")],
)
def test_a_price_that_a_manifest_cannot_say_stays_a_comment(
    run: Run, provider: Any, tmp_path: Path, usd: object, unit: str, currency: str
) -> None:
    price = {"endpoint_id": ENDPOINT, "unit_price": usd, "unit": unit, "currency": currency}
    provider.table = {SITE: (200, DOCUMENT), PRICES: (200, {"prices": [price]})}
    done = run("add", f"fal:{ENDPOINT}", FAL_BASE_URL=provider.base, FAL_KEY="id:secret-canary")
    assert done.returncode == 0
    text = manifest_file(tmp_path).read_text(encoding="utf-8")
    assert f"# fal says {usd} {currency} for each {unit}" in text
    assert "\n[price]" not in text


def test_the_platform_is_asked_where_the_site_has_no_schema(run: Run, provider: Any, tmp_path: Path) -> None:
    entry = {"endpoint_id": ENDPOINT, "metadata": {"display_name": "Acme Film"}, "openapi": DOCUMENT}
    provider.table = {SITE: (500, b"<html>"), PLATFORM: (200, {"models": [entry]})}
    done = run("add", f"fal:{ENDPOINT}", FAL_BASE_URL=provider.base)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'title = "Acme Film"' in manifest_file(tmp_path).read_text(encoding="utf-8")


def test_a_model_of_replicate_needs_a_key_and_is_called_by_its_version(run: Run, provider: Any, tmp_path: Path) -> None:
    model, version = "/v1/models/acme/film", f"/v1/models/acme/film/versions/{'1' * 64}"
    provider.table = {model: (200, MODEL), version: (200, VERSION)}
    base = provider.base
    refused = run("add", "replicate:acme/film", REPLICATE_BASE_URL=base)
    assert refused.returncode == 2
    assert "REPLICATE_API_TOKEN" in refused.stderr
    assert provider.asked == []
    done = run("add", "replicate:acme/film", REPLICATE_BASE_URL=base, REPLICATE_API_TOKEN="r8_canary")
    assert (done.returncode, done.stderr) == (0, "")
    text = manifest_file(tmp_path, "acme-film").read_text(encoding="utf-8")
    assert f'version = "{"0" * 64}"' in text
    assert "typical_seconds = 42" in text
    fixed = f"replicate:acme/film:{'1' * 64}"
    done = run("add", fixed, "--force", REPLICATE_BASE_URL=base, REPLICATE_API_TOKEN="r8_canary")
    assert (done.returncode, done.stderr) == (0, "")
    assert f'version = "{"1" * 64}"' in manifest_file(tmp_path, "acme-film").read_text(encoding="utf-8")
    assert provider.asked == [(path, "Bearer r8_canary") for path in (model, model, version)]


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (404, {}, 2, "has no model"),
        (401, {}, 1, "does not accept the key"),
        (500, b"oh no", 1, "it answered 500"),
        (200, b"not json", 1, "it answered 200"),
        (200, {"owner": "acme", "name": "film", "latest_version": None}, 2, "There is no schema"),
    ],
)
def test_a_provider_that_gives_no_schema_ends_in_one_sentence(
    run: Run, provider: Any, status: int, body: Any, code: int, words: str
) -> None:
    provider.table = {"/v1/models/acme/film": (status, body)}
    done = run("add", "replicate:acme/film", REPLICATE_BASE_URL=provider.base, REPLICATE_API_TOKEN="r8_canary")
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.anyio
async def test_a_call_uses_what_was_written(
    run: Run, schema: Path, photo: Path, environment: dict[str, str], sandbox: Sandbox, serve: ServerBuilder
) -> None:
    assert run("add", f"fal:{ENDPOINT}", "--from", str(schema)).returncode == 0
    server = serve(read_settings(environment), sandbox)
    asked = {
        "model": ENDPOINT, "prompt": "She waves", "first_frame": str(photo), "duration": 10, "seed": 7,
        "options": {"camera": "pan"}, "dry_run": True,
    }  # fmt: skip
    async with Client(server) as client:
        answer = await client.call_tool("generate_video", asked)
    assert answer.structured_content is not None
    sent = answer.structured_content["planned_input"]
    assert {name: sent[name] for name in ("prompt", "duration", "camera", "seed")} == {
        "prompt": "She waves", "duration": "10", "camera": "pan", "seed": 7,
    }  # fmt: skip
    assert sent["image_url"].startswith("artifact://")
