"""The package: what travels in the wheel, what the README promises, one version everywhere."""

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import rotoscope
from rotoscope.cli.docs import fill_in_tables

TOP = Path(__file__).parents[1]
_OF_A_CHECKOUT = re.compile(r"\bdocs/[\w-]+\.md|\bmake (?:demo|weights|test|docs|replies|manifests|viewer|site|mcpb)\b")
# They write what is generated, so they run in a checkout only.
_FOR_DEVELOPERS = ("docs.py", "generate_replies.py", "manifest_docs.py", "page.py", "host_files/")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked far away from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(TOP)).build(directory=str(folder))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_manifests_skills_and_the_photo_travel_in_the_wheel(unpacked: Path) -> None:
    for name in ("providers.toml", "clients.toml", "models/vace-14b.toml", "claude-plugin/.mcp.json"):
        assert (unpacked / "rotoscope" / "manifests" / name).is_file()
    assert (unpacked / "rotoscope" / "assets" / "astronaut.jpg").is_file()
    assert (unpacked / "rotoscope" / "skills" / "photo-to-coco" / "SKILL.md").is_file()
    assert (unpacked / "rotoscope" / "py.typed").is_file()


def test_the_wheel_opens_a_session_from_its_own_stored_replies(unpacked: Path, tmp_path: Path) -> None:
    asked = (
        "import os; from rotoscope.cli import stored_replies as stored; "
        "print(bool(stored.read_stored_replies(os.environ)[0]), stored.FILE)"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={"PYTHONPATH": str(unpacked), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["True", str(unpacked / "rotoscope" / "cli" / "replies.json")]


def test_the_command_reaches_the_front_first() -> None:
    (command,) = entry_points(group="console_scripts", name="rotoscope")
    assert command.value == "rotoscope.__main__:main"


@pytest.mark.slow
def test_the_wheel_finds_its_manifests_where_it_is_installed(unpacked: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rotoscope", "models"],
        env={"PYTHONPATH": str(unpacked), "ROTOSCOPE_HOME": str(tmp_path), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "prunaai/vace-14b" in done.stdout


def test_the_wheel_holds_nothing_outside_the_two_packages(unpacked: Path) -> None:
    assert {path.name.partition("-")[0] for path in unpacked.iterdir()} == {"rotoscope", "rotoscope_sandbox"}


def texts_of_the_package(folder: Path) -> Iterator[tuple[str, str]]:
    """The strings of every module that can reach a user, but its docstrings, and the pages that commands print."""
    for file in sorted(folder.rglob("*.md")):
        yield file.name, file.read_text(encoding="utf-8")
    for file in sorted(folder.rglob("*.py")):
        name = file.relative_to(folder).as_posix()
        if any(f"/cli/{one}" in name or name.endswith(f"/viewer/{one}") for one in _FOR_DEVELOPERS):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
                yield f"{name}:{node.lineno}", node.value


def test_no_message_names_a_file_or_a_target_that_only_a_checkout_has() -> None:
    found = [place for place, text in texts_of_the_package(TOP / "src") if _OF_A_CHECKOUT.search(text)]
    assert found == []


def test_the_version_is_the_same_in_the_code_and_in_the_project_file() -> None:
    project = (TOP / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.+)"$', project, re.MULTILINE)[1] == rotoscope.__version__  # type: ignore[index]


def test_the_tables_of_the_readme_are_those_of_the_code() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    assert fill_in_tables(readme) == readme, "run `make docs`"


def test_the_readme_names_the_first_commands_and_the_picture_is_there() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    for first in ("rotoscope demo", "rotoscope install", "rotoscope doctor", "make demo", "make test"):
        assert first in readme
    assert (TOP / "docs" / "demo.jpg").is_file()
