"""docs/add-a-model.md followed to the letter: the file as it stands there, its commands, and what they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-model.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(MANIFEST,) = (text for kind, text in BLOCKS if kind == "toml")
COMMANDS = [text.removeprefix("$ ").strip() for kind, text in BLOCKS if kind == "console"]
OUTPUTS = [text.strip().splitlines() for kind, text in BLOCKS if kind == "text"]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the page's commands are those of a POSIX shell")


@pytest.fixture
def manifest_file(home: Path) -> Path:
    """The file where the page says that it goes."""
    file = home / ".local" / "share" / "rotoscope" / "models" / "kling.toml"
    file.parent.mkdir(parents=True, mode=0o700)
    file.write_text(MANIFEST, encoding="utf-8")
    return file


def run(command: str, home: Path) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"HOME": str(home), "PATH": path, "ROTOSCOPE_ROOTS": str(home)}
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_page_has_a_command_and_an_output_for_each_step() -> None:
    assert len(COMMANDS) == 3
    assert len(OUTPUTS) == 4


def test_the_check_of_the_page_passes_and_prints_what_the_page_shows(home: Path, manifest_file: Path) -> None:
    done = run(COMMANDS[0], home)
    assert (done.returncode, done.stderr) == (0, ""), manifest_file
    for line in OUTPUTS[0]:
        assert line in done.stdout


def test_the_mistake_of_the_page_is_named_as_the_page_shows(home: Path, manifest_file: Path) -> None:
    (line,) = re.findall(r"Without the line `(.*)`", PAGE)
    manifest_file.write_text(MANIFEST.replace(line, ""), encoding="utf-8")
    done = run(COMMANDS[0], home)
    assert done.returncode == 2
    (message,) = OUTPUTS[1]
    assert message in done.stderr


@pytest.mark.usefixtures("manifest_file")
@pytest.mark.parametrize("step", [1, 2], ids=["dry run", "sandbox"])
def test_a_call_of_the_page_gives_what_the_page_shows(home: Path, photo: Path, step: int) -> None:
    photo.rename(home / "photo.jpg")
    done = run(COMMANDS[step], home)
    assert done.returncode == 0, done.stderr
    for line in OUTPUTS[step + 1]:
        assert line in done.stdout
