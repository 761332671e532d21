"""The wheel installed as on a machine of its own: a new environment, an empty home, and no checkout to fall back on."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["TOP", "Stranger", "install_wheel"]

TOP = Path(__file__).parents[2]
FROM_INDEX = "ROTOSCOPE_SOAK_INSTALL"
"""Where it is set, the dependencies come from the package index, as a user's do."""
_INSTALL_SECONDS, _COMMAND_SECONDS = 300, 120
# Every Python of the environment, workers included, notes which files of the checkout it opens or looks for.
_WATCH = """
import os, sys
def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
        place = os.path.abspath(os.fsdecode(arguments[0]))
        if place.startswith({top!r}) and not place.startswith({log!r}):
            with open({log!r}, "a") as log:
                log.write(place + "\\n")
sys.addaudithook(note)
"""


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody who has installed the wheel and nothing else.

    Attributes:
        bin: where the commands are.
        home: an empty home directory, also the working directory.
        seen: which files of the checkout were opened, a line each; no file while there were none.
    """

    bin: Path
    home: Path
    seen: Path

    @property
    def env(self) -> dict[str, str]:
        """What a new terminal has. Nothing listens at the proxy, so that no test asks for anything elsewhere."""
        path = os.pathsep.join((str(self.bin), os.defpath))
        nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
        return {"HOME": str(self.home), "PATH": path, **nowhere, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command; what it opened of the checkout is in `seen`."""
        return subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )


def install_wheel(folder: Path) -> Stranger:
    """Build the wheel, and install it with pip into a new environment in the folder.

    From the index that takes pip 27 s on a machine with nothing else to do, 54 s beside other tests. So, unless
    `ROTOSCOPE_SOAK_INSTALL` is set (`make soak`), the distributions that the wheel asks for, and those that they ask
    for, are linked file by file from the environment of the tests, where pip has put them in the versions of
    constraints.txt. Nothing else is there: what our code imports and does not declare is missing, as for a user. pip
    then finds every requirement met, or fails, for it may look nowhere else.
    """
    (wheel,) = WheelBuilder(str(TOP)).build(directory=str(folder))
    environment = folder / "environment"
    venv.create(environment, symlinks=os.name != "nt")
    (site,) = environment.glob("lib/python*/site-packages")
    from_index = bool(os.environ.get(FROM_INDEX))
    if not from_index:
        _link_dependencies(wheel, site)
    own = [] if from_index else ["--isolated", "--no-index"]
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, *own, "-c", str(TOP / "constraints.txt"), wheel],
        capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    home, seen = folder / "home", folder / "seen"
    home.mkdir()
    (site / "watch_the_checkout.py").write_text(_WATCH.format(top=f"{TOP}{os.sep}", log=str(seen)), encoding="utf-8")
    (site / "watch_the_checkout.pth").write_text("import watch_the_checkout\n", encoding="utf-8")
    return Stranger(environment / "bin", home, seen)


def _link_dependencies(wheel: str, site: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (facts,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        ours = PathDistribution(zipfile.Path(archive, facts.removesuffix("METADATA")))
        needed = list(_needed(ours, frozenset(), {}))
    for found in needed:
        for file in found.files or ():
            if ".." in file.parts or file.suffix == ".pth":  # its commands, which ours does not call
                continue
            place = site / file
            place.parent.mkdir(parents=True, exist_ok=True)
            _put(Path(str(found.locate_file(file))), place)


def _put(source: Path, place: Path) -> None:
    """The same file under another name; no symbolic link, which some libraries would follow back."""
    try:
        place.hardlink_to(source)
    except OSError:  # another disk
        shutil.copy2(source, place)


def _needed(one: Distribution, extras: frozenset[str], met: dict[str, frozenset[str]]) -> Iterator[Distribution]:
    """What a distribution with some extras requires, and what that requires, each once."""
    for line in one.requires or ():
        asked = Requirement(line)
        if asked.marker and not any(asked.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        name, wanted = canonicalize_name(asked.name), frozenset(asked.extras)
        if name in met and wanted <= met[name]:
            continue
        found = distribution(name)
        if name not in met:
            yield found
        met[name] = met.get(name, frozenset()) | wanted
        yield from _needed(found, met[name], met)
