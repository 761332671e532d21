"""Commands in the documents: each is one that there is, and those of the quick start are run as by a reader."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rotoscope.cli.commands import build_parser

TOP = Path(__file__).parents[1]
DOCUMENTS = sorted((TOP / "README.md", *(TOP / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`(rotoscope [a-z][^`]*)`")
SECONDS = 120


def lines_of_blocks(text: str) -> Iterator[str]:
    for block in _BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.removeprefix("$ ").strip()


def commands_in(text: str) -> list[str]:
    """What a reader would type of ours, in blocks and in sentences."""
    shown = [*lines_of_blocks(text), *(span.replace("\n", " ") for span in _SPAN.findall(text))]
    return [line for line in shown if line.startswith("rotoscope ")]


def arguments_of(command: str) -> list[str]:
    words = shlex.split(command, comments=True)[1:]
    ends = [n for n, word in enumerate(words) if word in ("|", ">", "&&", "&")]
    return words[: ends[0]] if ends else words


COMMANDS = sorted({(file.name, command) for file in DOCUMENTS for command in commands_in(file.read_text("utf-8"))})


def test_the_documents_hold_commands() -> None:
    assert len(COMMANDS) > 60


@pytest.mark.parametrize(("document", "command"), COMMANDS)
def test_every_command_in_a_document_is_one_that_there_is(
    document: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        asked, rest = build_parser().parse_known_args(arguments_of(command))
    except SystemExit as ended:
        if ended.code == 0:  # --help ends it well
            return
        # A sentence may name a command, or an option, without what must follow it.
        assert re.search(r"arguments are required|expected one argument", capsys.readouterr().err), command
        return
    assert not rest or asked.run.__name__ == "_serve_sandbox", command


QUICK_START = [
    line
    for line in lines_of_blocks((TOP / "docs" / "quick-start.md").read_text("utf-8"))
    if line.startswith("rotoscope ")
]


def test_the_commands_of_the_quick_start_do_what_it_says(tmp_path: Path, photo: Path) -> None:
    home = tmp_path / "reader"
    home.mkdir()
    shutil.copy(photo, home / "photo.jpg")
    kept = {name: os.environ[name] for name in ("LANG",) if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**kept, "PATH": path, "HOME": str(home), "ROTOSCOPE_HOME": str(home / "rotoscope")}
    env["ROTOSCOPE_SANDBOX_WEIGHTS"] = str(tmp_path / "none.onnx")  # named, so that no test downloads any
    printed = ""
    assert len(QUICK_START) >= 7
    for line in QUICK_START:
        ran = subprocess.run(
            shlex.split(line), env=env, cwd=home, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert ran.returncode == 0, f"{line}\n{ran.stderr}"
        printed += ran.stdout
    assert (home / "demo-out").is_dir()
    assert all(word in printed for word in ("segment_image", "planned_request", "mcpServers", "Installation"))
