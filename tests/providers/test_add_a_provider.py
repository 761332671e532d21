"""docs/add-a-provider.md, followed to the letter: its blocks are the files, its commands are run."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

from rotoscope.media.image.masks import encode_mask_png

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "add-a-provider.md"
KEY = "toy-key-0123456789"


def page_files() -> dict[str, str]:
    """The page's blocks that begin with the name of a file, by that name."""
    blocks = re.findall(r"^```(?:python|toml)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return {block.split("\n", 1)[0].removeprefix("# "): block for block in blocks}


def page_commands() -> list[str]:
    """The commands of the section "Run it", one a line."""
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return str(commands).splitlines()


class ToyServer(ThreadingHTTPServer):
    """The Toy provider: a job is queued, then running, then done with a mask; it keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ToyHandler)
        self.base = f"http://127.0.0.1:{self.server_address[1]}"
        self.submitted: list[dict[str, object]] = []
        self.keys: list[str | None] = []
        self.questions = 0
        mask = np.zeros((512, 512), bool)
        mask[100:300, 150:400] = True
        self.mask = encode_mask_png(mask)


class ToyHandler(BaseHTTPRequestHandler):
    server: ToyServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.submitted.append(body)
        self.server.keys.append(self.headers["authorization"])
        self.send_job(201, {"id": "job-1", "status": "queued"})

    def do_GET(self) -> None:
        if self.path == "/mask.png":
            self.send_content(200, "image/png", self.server.mask)
            return
        self.server.keys.append(self.headers["authorization"])
        self.server.questions += 1
        is_done = self.server.questions > 1
        output = {"mask": f"{self.server.base}/mask.png"} if is_done else None
        self.send_job(200, {"id": "job-1", "status": "done" if is_done else "running", "output": output})

    def send_job(self, status: int, job: Mapping[str, object]) -> None:
        self.send_content(status, "application/json", json.dumps(job).encode())

    def send_content(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Nothing on stderr."""


@pytest.fixture
def toy() -> Iterator[ToyServer]:
    with ToyServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for `sys.path` with the page's package installed in it, as pip would from its wheel."""
    project, files = tmp_path / "project", page_files()
    project.mkdir()
    for name in ("toy_dialect.py", "pyproject.toml"):
        (project / name).write_text(files[name], encoding="utf-8")
    (wheel,) = WheelBuilder(str(project)).build(directory=str(tmp_path / "dist"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def variables(tmp_path: Path, site: Path) -> dict[str, str]:
    """An environment with the page's provider and model in the user's folder, and no setting of anybody else."""
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True, mode=0o700)
    for name in ("providers.toml", "toy-segmenter.toml"):
        (models / name).write_text(page_files()[name], encoding="utf-8")
    shutil.copy(TOP / "src" / "rotoscope" / "assets" / "astronaut.jpg", tmp_path / "photo.jpg")
    return {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": str(site),
        "HOME": str(tmp_path),
        "ROTOSCOPE_HOME": str(tmp_path / "home"),
    }


def run_command(command: list[str], folder: Path, variables: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, env=dict(variables), cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_page_from_nothing_to_a_finished_job(toy: ToyServer, tmp_path: Path, variables: dict[str, str]) -> None:
    export, check, call = page_commands()
    at_server = {**variables, "TOY_BASE_URL": toy.base}
    checked = run_command(["sh", "-ec", f"{export}\n{check}"], tmp_path, at_server)
    assert checked.returncode == 0, checked.stderr
    assert f"POST {toy.base}/v1/jobs" in checked.stdout
    assert not toy.submitted

    done = run_command(["sh", "-ec", f"{export}\n{call}"], tmp_path, at_server)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert (result["status"], result["provider"], result["sandbox"]) == ("succeeded", "toy", False)
    assert result["masks"][0]["box"] == {"left": 150, "top": 100, "right": 400, "bottom": 300}
    (sent,) = toy.submitted
    assert sent["model"] == "segmenter"
    assert set(toy.keys) == {f"Bearer {KEY}"}
    assert KEY not in done.stdout + done.stderr


def test_the_laws_hold_for_the_dialect_of_the_page(tmp_path: Path, variables: dict[str, str]) -> None:
    laws = TOP / "tests" / "providers" / "dialects" / "test_laws.py"
    command = [sys.executable, "-m", "pytest", str(laws), "-k", "toy", "-q", "-p", "no:cacheprovider"]
    done = run_command(command, TOP, variables)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d{2,} passed", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize(
    ("line", "broken", "reason"),
    [
        ("from rotoscope.errors import Nothing", True, "cannot be imported: ImportError"),
        ("Toy = None", True, "(toy_dialect:Toy) cannot be used: it is no class"),
        ("", False, "No dialect 'toy' is shipped or installed"),
    ],
    ids=["import error", "no class", "not installed"],
)
def test_a_dialect_that_cannot_be_used_is_left_out_and_named(
    tmp_path: Path, site: Path, variables: dict[str, str], line: str, broken: bool, reason: str
) -> None:
    if broken:
        with (site / "toy_dialect.py").open("a", encoding="utf-8") as module:
            module.write(f"\n{line}\n")
    else:
        variables["PYTHONPATH"] = ""
    done = run_command([sys.executable, "-m", "rotoscope", "models"], tmp_path, variables)
    assert done.returncode == 0, done.stderr
    printed = " ".join((done.stdout + done.stderr).split())
    assert "providers.toml: toy.dialect" in printed
    assert reason in printed
    assert "bytedance/sa2va-4b-image" in done.stdout


def test_a_dialect_that_fails_on_the_reply_to_a_submit_never_submits_twice(
    toy: ToyServer, tmp_path: Path, site: Path, variables: dict[str, str]
) -> None:
    with (site / "toy_dialect.py").open("a", encoding="utf-8") as module:
        module.write("\nToy.read = lambda self, reply, about: reply.fields()['no such member']\n")
    export, _, call = page_commands()
    done = run_command(["sh", "-ec", f"{export}\n{call}"], tmp_path, {**variables, "TOY_BASE_URL": toy.base})
    assert done.returncode == 3, done.stdout + done.stderr
    assert json.loads(done.stdout)["status"] == "needs_review"
    assert len(toy.submitted) == 1


def test_without_its_key_the_provider_cannot_be_used_and_the_sandbox_does_not_stand_in(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    _, _, call = page_commands()
    done = run_command(["sh", "-ec", call], tmp_path, variables)
    assert done.returncode == 2
    assert "TOY_API_KEY" in done.stdout + done.stderr
