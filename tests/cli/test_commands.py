"""The command line and the stdio server, as processes of their own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import BOX
from mcp import Client, StdioServerParameters
from PIL import Image
from tiny_net import redness_net

REPOSITORY = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def env(tmp_path: Path, home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    own = {"HOME": str(home), "ROTOSCOPE_HOME": str(tmp_path / "rotoscope")}
    # Named, so that no test downloads any.
    return {**kept, **own, "ROTOSCOPE_SANDBOX_WEIGHTS": str(tmp_path / "none.onnx"), "PYTHONWARNINGS": "error"}


@pytest.fixture
def run(env: dict[str, str], home: Path) -> Run:
    def command(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "rotoscope", *arguments],
            env={**env, **more},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def test_a_call_prints_the_structured_result_and_nothing_else(run: Run, photo: Path) -> None:
    done = run("call", "segment_image", "--json", json.dumps({"image": photo.name, "box": BOX}))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["status"], found["sandbox"], found["model"]) == ("succeeded", True, "fal-ai/sam-3/image")
    with Image.open(found["masks"][0]["media"]["path"]) as mask:
        assert (mask.format, mask.size) == ("PNG", (512, 512))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no modes like these")
def test_a_home_that_others_may_write_to_is_refused_and_nothing_is_kept_there(
    run: Run, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    given = json.dumps({"image": photo.name, "box": BOX})
    done = run("call", "segment_image", "--json", given, ROTOSCOPE_HOME=str(tmp_path / "open"))
    assert done.returncode == 2
    assert "can be written by other users" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "open").iterdir())


def test_at_the_command_line_a_person_may_name_any_folder(run: Run, photo: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = photo.rename(elsewhere / "a.jpg")
    given = json.dumps({"image": os.path.relpath(moved, photo.parent), "box": BOX, "dry_run": True})
    assert run("call", "segment_image", "--json", given).returncode == 0


@pytest.mark.parametrize(
    ("tool", "given", "code"),
    [
        ("segment_image", '{"image": "none.jpg", "instruction": "a"}', "path_missing"),
        ("segment_image", '{"image": ".hidden/a.jpg", "instruction": "a"}', "path_denied"),
        ("segment_image", "{", "parse_error"),
        ("segment_image", "[]", "invalid_argument"),
        ("make_tea", "{}", "unknown_tool"),
        ("get_job", '{"job_id": "0"}', "unknown_job"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_sentence(run: Run, tool: str, given: str, code: str) -> None:
    done = run("call", tool, "--json", given)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == code
    assert done.stderr.startswith("rotoscope: ")
    assert "Traceback" not in done.stderr


def test_a_missing_key_is_reported_by_its_variable_and_the_sandbox_does_not_step_in(run: Run, photo: Path) -> None:
    given = json.dumps({"image": photo.name, "instruction": "a", "model": "bytedance/sa2va-4b-image"})
    done = run("call", "segment_image", "--json", given, FAL_KEY="id:secret")
    assert done.returncode == 2
    assert "REPLICATE_API_TOKEN" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_a_job_that_fails_ends_with_code_1(run: Run, photo: Path) -> None:
    """Nobody listens on port 9 of this machine."""
    given = json.dumps({"image": photo.name, "instruction": "a"})
    environ = {"REPLICATE_API_TOKEN": "r8_canary", "REPLICATE_BASE_URL": "http://127.0.0.1:9"}
    done = run("call", "segment_image", "--json", given, **environ)
    found = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert (found["status"], found["error"]["code"]) == ("failed", "provider_unreachable")
    assert "r8_canary" not in done.stdout + done.stderr


def test_progress_is_printed_on_stderr_with_the_jobs_id(run: Run, photo: Path) -> None:
    done = run("call", "segment_image", "--json", json.dumps({"image": photo.name, "box": BOX}))
    assert done.stderr.startswith(f"job {json.loads(done.stdout)['job_id']}: ")


def test_an_interrupted_call_names_its_job(env: dict[str, str], home: Path, photo: Path) -> None:
    """What was begun may be paid for: the person must be able to find it again."""
    given = json.dumps({"image": photo.name, "box": BOX})
    command = [sys.executable, "-m", "rotoscope", "call", "segment_image", "--json", given]
    with subprocess.Popen(
        command, env=env, cwd=home, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as call:
        assert call.stderr is not None
        first = call.stderr.readline()
        call.send_signal(signal.SIGINT)
        _, rest = call.communicate(timeout=60)
    job_id = re.match(r"job ([0-9a-f]{32}): ", first)
    assert job_id is not None
    assert f"rotoscope jobs show {job_id[1]}" in rest
    assert "Traceback" not in rest
    assert call.returncode == 130


@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/nowhere"])
def test_a_home_that_cannot_be_used_is_reported_in_one_sentence(run: Run, photo: Path, place: str) -> None:
    given = json.dumps({"image": photo.name, "box": BOX})
    for arguments in (["jobs", "list"], ["call", "segment_image", "--json", given]):
        done = run(*arguments, ROTOSCOPE_HOME=place)
        assert done.returncode == 1
        assert "ROTOSCOPE_HOME" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_port_that_is_no_port_is_refused(run: Run) -> None:
    assert run("sandbox", "--port", "99999").returncode == 2


def test_jobs_are_listed_shown_and_cancelled(run: Run, photo: Path) -> None:
    made = json.loads(run("call", "segment_image", "--json", json.dumps({"image": photo.name, "box": BOX})).stdout)
    assert made["job_id"] in run("jobs", "list").stdout
    listed = json.loads(run("jobs", "list", "--json", "--status", "succeeded").stdout)
    assert [job["job_id"] for job in listed["jobs"]] == [made["job_id"]]
    seen = json.loads(run("jobs", "show", made["job_id"]).stdout)
    assert seen["masks"] == made["masks"]
    assert seen["provider_logs"]
    assert "provider_logs" not in made
    assert json.loads(run("jobs", "cancel", made["job_id"]).stdout)["status"] == "succeeded"
    assert run("jobs", "show", "0" * 32).returncode == 2
    assert run("jobs", "list", "--status", "lost").returncode == 2


def test_models_are_a_table_of_what_is_known(run: Run) -> None:
    table = run("models").stdout
    for word in ("bytedance/seedance-2.0", "edit_video_with_mask", "points and box", "unknown", "sandbox"):
        assert word in table
    assert "no: set REPLICATE_API_TOKEN" in run("models", FAL_KEY="k").stdout
    rows = json.loads(run("models", "list", "--json", FAL_KEY="k").stdout)
    keys = {(row["tool"], row["model"], row["provider"]): row["key"] for row in rows}
    assert keys["describe_with_masks", "fal-ai/sa2va/8b/image", "fal"] == "yes"
    assert keys["edit_video_with_mask", "prunaai/vace-14b", "replicate"] == "no: set REPLICATE_API_TOKEN"


def test_checking_a_manifest_prints_the_exact_request_of_its_example(run: Run) -> None:
    shipped = REPOSITORY / "manifests" / "models" / "sa2va-4b-image.toml"
    done = run("models", "check", str(shipped), REPLICATE_API_TOKEN="r8_secret")
    assert done.returncode == 0
    head, _, body = done.stdout.partition("\n\n")[2].partition("\n\n")
    assert head.splitlines()[:2] == [
        "POST https://api.replicate.com/v1/predictions",
        "Authorization: Bearer $REPLICATE_API_TOKEN",
    ]
    assert json.loads(body)["input"]["instruction"] == "segment the snowboarder"
    assert "r8_secret" not in done.stdout


def test_checking_a_manifest_with_a_mistake_says_where_it_is(run: Run, home: Path) -> None:
    (home / "mine.toml").write_text('id = "me/mine"\n', encoding="utf-8")
    done = run("models", "check", "mine.toml")
    assert done.returncode == 2
    assert "mine.toml" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["jobs", "--help"], ["nonsense"]])
def test_help_needs_no_key_and_no_folder(run: Run, arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments)
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "rotoscope").exists()


def test_the_demo_runs_as_a_real_client_of_a_real_server(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("demo", "--out", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert "the sandbox's masks: by colours alone, without the weights of its net" in done.stdout
    assert len(re.findall(r"\d\.\d\d s$", done.stdout, re.MULTILINE)) == 8
    names = {path.name for path in out.iterdir()}
    photos = {"box-mask-0.png", "words-overlay.jpg", "describe-coco.json"}
    assert {"contact-sheet.jpg", "video-video.mp4", "edit-video.mp4"} | photos <= names
    with Image.open(out / "box-mask-0.png") as mask:
        assert mask.size == (512, 512)


def test_the_demo_says_that_it_uses_the_weights_that_are_named(env: dict[str, str], tmp_path: Path) -> None:
    """It says so before it begins, so it is stopped there."""
    named = {"ROTOSCOPE_SANDBOX_WEIGHTS": str(redness_net(tmp_path / "red.onnx"))}
    command = [sys.executable, "-m", "rotoscope", "demo", "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, env={**env, **named}, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        said = [demo.stdout.readline() for _ in range(2)]
        demo.terminate()
    assert said[1].startswith("the sandbox's masks: by its net")


@pytest.mark.parametrize("named", [True, False])
def test_a_call_without_a_key_uses_the_weights_and_says_so_where_there_are_none(
    run: Run, photo: Path, tmp_path: Path, named: bool
) -> None:
    """In their place under ROTOSCOPE_HOME, or where ROTOSCOPE_SANDBOX_WEIGHTS says."""
    given = json.dumps({"image": photo.name, "instruction": "the astronaut"})
    assert "rotoscope sandbox weights" in " ".join(
        json.loads(run("call", "segment_image", "--json", given).stdout)["warnings"]
    )
    place = tmp_path / "mine.onnx" if named else tmp_path / "rotoscope" / "weights" / "u2netp.onnx"
    place.parent.mkdir(exist_ok=True)
    redness_net(place)
    weights = str(place) if named else ""
    again = json.dumps({"image": photo.name, "instruction": "the woman"})
    found = json.loads(run("call", "segment_image", "--json", again, ROTOSCOPE_SANDBOX_WEIGHTS=weights).stdout)
    assert found["status"] == "succeeded"
    assert "rotoscope sandbox weights" not in " ".join(found["warnings"])


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_stdio_server_serves_either_era_and_keeps_stdout_clean(
    env: dict[str, str], home: Path, photo: Path, mode: str
) -> None:
    """The client reads every line of stdout as protocol: a stray line would end the session."""
    command = StdioServerParameters(command=sys.executable, args=["-m", "rotoscope", "serve"], env=env, cwd=home)
    messages: list[str] = []

    async def note_progress(progress: float, total: float | None, message: str | None) -> None:
        messages.append(message or "")

    with anyio.fail_after(180):
        async with Client(command, mode=mode) as client:
            arguments: dict[str, Any] = {"image": str(photo), "box": BOX}
            refused = {**arguments, "image": "/etc/passwd"}
            bad = await client.call_tool("segment_image", refused)
            while (bad.structured_content or {}).get("status") == "queued":  # it is still being checked
                bad = await client.call_tool("segment_image", refused)
            answer = await client.call_tool("segment_image", arguments, progress_callback=note_progress)
            found = answer.structured_content
            while found is not None and found["status"] in ("queued", "running"):
                answer = await client.call_tool("get_job", {"job_id": found["job_id"], "wait_seconds": 5})
                found = answer.structured_content
    assert bad.is_error
    assert found is not None
    assert found["status"] == "succeeded"
    assert messages


def test_a_server_that_nobody_calls_loads_neither_ledger_nor_pixels_nor_network(
    env: dict[str, str], home: Path
) -> None:
    heavy = {"sqlalchemy", "httpx", "numpy", "PIL", "av", "cv2", "rotoscope.studio.studio", "rotoscope_sandbox"}
    script = (
        "import sys; from rotoscope.cli.commands import run_command; code = run_command(['serve']);"
        f"print(code, 'mcp' in sys.modules, sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=env,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0 True []\n", "")


@pytest.mark.anyio
async def test_a_sandbox_over_http_serves_like_the_one_inside(
    env: dict[str, str], home: Path, photo: Path, run: Run
) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
    command = [sys.executable, "-m", "rotoscope", "sandbox", "--port", str(port)]
    with subprocess.Popen(command, env={**env, "ROTOSCOPE_HOME": str(home / "other")}, cwd=home) as process:
        try:
            with anyio.fail_after(180):
                await reachable(port)
            given = json.dumps({"image": photo.name, "box": BOX})
            call = anyio.to_thread.run_sync(
                lambda: run("call", "segment_image", "--json", given, ROTOSCOPE_SANDBOX=f"http://127.0.0.1:{port}")
            )
            done = await call
        finally:
            process.terminate()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sandbox"] is True
    assert found["masks"][0]["media"]["source_url"].startswith(f"http://127.0.0.1:{port}/")


async def reachable(port: int) -> None:
    while True:
        try:
            async with await anyio.connect_tcp("127.0.0.1", port):
                return
        except OSError:
            await anyio.lowlevel.checkpoint()
