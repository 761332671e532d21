"""`rotoscope sandbox` and `python -m rotoscope_sandbox`: another process that goes wrong on demand."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import pytest

from rotoscope.cli.commands import run_command
from rotoscope_sandbox import command


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
            with anyio.fail_after(60):
                assert "sandbox is at" in await anyio.to_thread.run_sync(process.stderr.readline)
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
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
