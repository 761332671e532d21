"""`rotoscope sandbox` and `python -m rotoscope_sandbox`: another process that goes wrong on demand."""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import pytest
from engine_media import make_scene
from tiny_net import redness_net

from rotoscope.cli.commands import run_command
from rotoscope.settings import read_settings
from rotoscope_sandbox import command, weights_download


@pytest.mark.anyio
@pytest.mark.parametrize("start", [["rotoscope", "sandbox"], ["rotoscope_sandbox"]])
async def test_the_command_obeys_its_file_and_every_change_of_it(tmp_path: Path, start: list[str]) -> None:
    rules = tmp_path / "faults.toml"
    rules.write_text("[[rules]]\nfault = 'close'\nwire = 'segmind'\n")
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
    command = [sys.executable, "-m", *start, "--port", str(port), "--faults", str(rules)]
    env = {**os.environ, "ROTOSCOPE_HOME": str(tmp_path / "home")}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            with anyio.fail_after(180):
                assert "sandbox is at" in await anyio.to_thread.run_sync(process.stderr.readline)
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                    await two_fates(client, rules)
        finally:
            process.terminate()


async def two_fates(client: httpx.AsyncClient, rules: Path) -> None:
    given: dict[str, Any] = {"json": {"prompt": "boy"}, "headers": {"x-api-key": "SG_test"}}
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/v2/sam-v2-image", **given)
    rules.write_text("[[rules]]\nfault = 'no-credit'\n")
    assert (await client.post("/v2/sam-v2-image", **given)).status_code == 406
    assert (await client.get("/sandbox/ledger")).json()["posts"] == {"segmind": 2}


@pytest.mark.parametrize("text", ["[[rules]]\nfault = 'F99'\n", None])
def test_a_file_that_means_nothing_ends_the_command_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "home"))
    rules = tmp_path / "faults.toml"
    if text is not None:
        rules.write_text(text)
    assert run_command(["sandbox", "--faults", str(rules)]) == 2
    assert "faults.toml" in capsys.readouterr().err


def test_an_option_that_there_is_not_is_refused_in_the_name_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_command(["sandbox", "--speed", "3"])
    assert "rotoscope sandbox: error: unrecognized arguments: --speed 3" in capsys.readouterr().err


def test_an_option_that_another_command_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_command(["demo", "--port", "3"])
    assert "rotoscope: error: unrecognized arguments: --port 3" in capsys.readouterr().err


def test_the_sandbox_has_its_own_command_and_names_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rotoscope_sandbox", "--faults", str(tmp_path / "none.toml")])
    assert command.run_as_module() == 2
    assert "none.toml" in capsys.readouterr().err


@pytest.mark.parametrize("start", [["rotoscope", "sandbox"], ["rotoscope_sandbox"]])
def test_the_command_uses_the_weights_that_an_option_names(tmp_path: Path, start: list[str]) -> None:
    weights, scene = redness_net(tmp_path / "red.onnx"), make_scene()
    corners = dict(zip(("x_min", "y_min", "x_max", "y_max"), scene.box, strict=True))
    command = [sys.executable, "-m", *start, "--port", "0", "--pace", "0", "--weights", str(weights)]
    env = {**os.environ, "ROTOSCOPE_HOME": str(tmp_path / "home")}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
            assert found is not None
            with httpx.Client(base_url=found[0], timeout=30, headers={"authorization": "Key test:key"}) as client:
                asked = {"image_url": scene.uri, "box_prompts": [corners]}
                made = client.post("/sync/fal-ai/sam2/image", json=asked).json()["sandbox"]
        finally:
            process.terminate()
    assert (made["method"], made["notice"]) == ("u2net from a box", None)


def test_the_weights_are_brought_where_the_server_looks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ROTOSCOPE_SANDBOX_WEIGHTS", raising=False)
    place = read_settings(os.environ).sandbox_weights
    place.parent.mkdir(parents=True)
    place.write_bytes(b"the right file")
    right = replace(weights_download.U2NETP, sha256=hashlib.sha256(b"the right file").hexdigest())
    monkeypatch.setattr(weights_download, "U2NETP", right)
    assert run_command(["sandbox", "weights"]) == 0
    said = capsys.readouterr().err
    assert f"They are there already: {place}" in said
    assert "not used" not in said
