"""`rotoscope export`: files appear whole, in their place, and never over others."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from calls import BOX
from export_readers import by_pycocotools, by_svg
from PIL import Image

from rotoscope.cli.export_files import ExportTarget, check_target, place_files
from rotoscope.errors import InvalidInput, StorageFailed

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, home: Path) -> Run:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    own = {"HOME": str(home), "ROTOSCOPE_HOME": str(tmp_path / "rotoscope"), "PYTHONWARNINGS": "error"}
    env = {**kept, **own, "ROTOSCOPE_SANDBOX_WEIGHTS": str(tmp_path / "none.onnx")}

    def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "rotoscope", *arguments],
            env=env,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return command


def test_a_real_photos_mask_is_exported_by_the_command(run: Run, photo: Path, home: Path) -> None:
    called = json.loads(run("call", "segment_image", "--json", json.dumps({"image": photo.name, "box": BOX})).stdout)
    job_id = called["job_id"]
    with Image.open(called["masks"][0]["media"]["path"]) as mask:
        wanted = np.asarray(mask) > 127

    done = run("export", job_id, "--format", "coco")
    name = f"{job_id[:8]}-coco.json"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"wrote 1 file: {name}\n", "")
    assert np.array_equal(by_pycocotools({"annotations.json": (home / name).read_bytes()})[0][1], wanted)

    again = run("export", job_id, "--format", "coco")
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert run("export", job_id, "--format", "coco", "--force").returncode == 0

    assert run("export", f"job://{job_id}", "--format", "svg", "--out", "new/x.svg").returncode == 0
    ((_, drawn),) = by_svg({"photo.svg": (home / "new" / "x.svg").read_bytes()})
    assert np.array_equal(drawn, wanted)

    packed = run("export", job_id, "--format", "yolo-seg", "--out", "set.zip")
    assert packed.stdout == "wrote 3 files: set.zip\n"
    with zipfile.ZipFile(home / "set.zip") as archive:
        assert archive.namelist() == ["images/astronaut.jpg", "labels/astronaut.txt", "data.yaml"]
        assert archive.testzip() is None
    assert not [path for path in home.rglob("*") if path.name.endswith(".part")]


def test_formats_are_listed_and_mistakes_end_with_code_2_and_one_sentence(run: Run) -> None:
    listed = run("export", "--list-formats")
    assert listed.returncode == 0
    assert {line.split()[0] for line in listed.stdout.splitlines()} >= {"coco", "yolo-seg", "cvat", "cutout", "svg"}
    for arguments in (("export",), ("export", "0" * 32, "--format", "bmp"), ("export", "0" * 32, "--format", "coco")):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("rotoscope: ")
        assert "Traceback" not in done.stderr


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Path]:
    """Files of an export, where a worker has left them."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    files = {}
    for number, name in enumerate(("images/a.png", "labels/a.txt", "data.yaml")):
        files[name] = folder / f"x-{number}"
        files[name].write_text(name)
    return files


def _target(out: Path, *, force: bool = False) -> ExportTarget:
    return ExportTarget(out, force, "export")


def _contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_several_files_become_a_folder_and_other_files_in_it_stay(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert place_files(made, _target(out)) == out
    assert _contents(out) == {name: name for name in made}
    (out / "data.yaml").write_text("mine")
    (out / "note.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="there already"):
        place_files(made, _target(out))
    assert (out / "data.yaml").read_text() == "mine"
    place_files(made, _target(out, force=True))
    assert _contents(out) == {**{name: name for name in made}, "note.txt": "mine"}


def test_a_folder_that_is_there_takes_files_of_other_names(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "note.txt").write_text("mine")
    check_target(_target(out))
    place_files(made, _target(out))
    assert _contents(out) == {**{name: name for name in made}, "note.txt": "mine"}


def test_one_file_goes_to_the_path_or_into_the_folder_that_is_named(tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_text("{}")
    assert place_files({"a.json": source}, _target(tmp_path / "b.json")) == tmp_path / "b.json"
    (tmp_path / "folder").mkdir()
    assert place_files({"a.json": source}, _target(tmp_path / "folder")) == tmp_path / "folder" / "a.json"
    assert place_files({"a.json": source}, _target(tmp_path / "new")) == tmp_path / "new" / "a.json"
    with pytest.raises(InvalidInput, match="there already"):
        check_target(_target(tmp_path / "b.json"))
    with pytest.raises(InvalidInput, match="there already"):
        place_files({"a.json": source}, _target(tmp_path / "b.json"))


def test_an_archive_is_the_same_each_time(made: dict[str, Path], tmp_path: Path) -> None:
    one, other = (place_files(made, _target(tmp_path / f"{name}.zip")) for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {name: name for name in made}


def test_several_files_are_not_written_to_the_name_of_one(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="3 files"):
        place_files(made, _target(tmp_path / "x.json"))
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    "name", ["../x.png", "/x.png", "a/../x.png", "a//x.png", "a\\x.png", "a/b/c.png", "C:x.png", "a\n.png", "", "."]
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    source = tmp_path / "x"
    source.write_text("x")
    with pytest.raises(StorageFailed, match="not safe"):
        place_files({"fine.png": source, name: source}, _target(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_names_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_text("x")
    with pytest.raises(StorageFailed, match="two of one name"):
        place_files({"a.png": source, "A.png": source}, _target(tmp_path / "out"))


def test_a_link_in_the_folder_is_not_followed(made: dict[str, Path], tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (out / "images").symlink_to(outside)
    with pytest.raises(InvalidInput, match="link"):
        place_files(made, _target(out, force=True))
    (out / "images").unlink()
    (outside / "data.yaml").write_text("mine")
    (out / "data.yaml").symlink_to(outside / "data.yaml")
    place_files(made, _target(out, force=True))
    assert (outside / "data.yaml").read_text() == "mine"
    assert (out / "data.yaml").read_text() == "data.yaml"


def test_a_place_that_cannot_be_written_is_reported_with_its_name(made: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageFailed, match="cannot be written") as caught:
        place_files(made, _target(tmp_path / "file" / "out"))
    assert "--out" in caught.value.hint


def test_nothing_is_left_where_a_file_has_gone_meanwhile(made: dict[str, Path], tmp_path: Path) -> None:
    made["data.yaml"].unlink()
    for out in ("out", "out.zip"):
        with pytest.raises(StorageFailed):
            place_files(made, _target(tmp_path / out))
    assert {path.name for path in tmp_path.iterdir()} == {"scratch"}
