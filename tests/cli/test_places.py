"""Where a process without a home directory, or without a working directory, finds itself."""

import os
from pathlib import Path

import pytest

from rotoscope.errors import InvalidInput
from rotoscope.media.paths import default_roots
from rotoscope.settings import read_settings, user_home, working_folder


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python does for a user whom the system does not know: nothing is expanded."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(
    ("environ", "name"),
    [({}, "ROTOSCOPE_HOME"), ({"ROTOSCOPE_HOME": "~/x"}, "ROTOSCOPE_HOME"),
     ({"ROTOSCOPE_HOME": "/x", "ROTOSCOPE_ROOTS": "~/pictures"}, "ROTOSCOPE_ROOTS")],
)  # fmt: skip
def test_a_folder_below_a_home_that_there_is_not_is_refused_by_the_name_of_its_variable(
    environ: dict[str, str], name: str
) -> None:
    with pytest.raises(InvalidInput, match="home directory") as caught:
        read_settings(environ)
    assert caught.value.hint == f"Set {name} to an absolute path."


@pytest.mark.usefixtures("homeless")
def test_without_a_home_directory_the_working_directory_alone_may_be_read(tmp_path: Path) -> None:
    assert user_home() is None
    assert default_roots(tmp_path, user_home()).folders == (tmp_path,)
    assert read_settings({"ROTOSCOPE_HOME": str(tmp_path)}).home == tmp_path


def test_a_working_directory_that_was_removed_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert default_roots(working_folder(), None).folders == ()
    with pytest.raises(InvalidInput) as caught:
        read_settings({"ROTOSCOPE_HOME": "relative"})
    assert "ROTOSCOPE_HOME" in caught.value.hint
