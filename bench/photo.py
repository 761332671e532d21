"""What a photo of 24 megapixels costs until it is admitted: seconds, memory, and how large it leaves.

Each kind is admitted by path in a process of its own, whose libraries are loaded by a small picture before; the memory
is what its peak grew by over that. Decoding is done in that process, where the server has a worker for it.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import anyio
from figures import arguments, headline

from rotoscope.media.intake import FilePreparer, Intake
from rotoscope.media.paths import Roots
from rotoscope.media.vault import FolderVault
from rotoscope.workers.limits import WorkLimits

PHOTO = Path(__file__).parents[1] / "src" / "rotoscope" / "assets" / "astronaut.jpg"
Result = TypeVar("Result")
Given = TypeVarTuple("Given")
KINDS = ("camera.jpg", "turned.jpg", "progressive.jpg", "screen.png", "web.webp")


class Here:
    """Does in this process what workers do for the server."""

    async def run(self, function: Callable[[*Given], Result], *arguments: *Given, limits: WorkLimits) -> Result:
        return function(*arguments)

    def warm(self) -> None:
        pass


def make(folder: Path, megapixels: float) -> None:
    """A photo with grain, as cameras, phones and web sites write it."""
    import numpy as np
    from PIL import Image, ImageCms

    width = round((megapixels * 1e6 * 3 / 2) ** 0.5)
    with Image.open(PHOTO) as small:
        grown = small.convert("RGB").resize((width, width * 2 // 3), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(1).normal(0, 4, (grown.height, grown.width, 1)).astype(np.int8)
    photo = Image.fromarray((np.asarray(grown).astype(np.int16) + grain).clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo.save(folder / "camera.jpg", quality=92)
    photo.save(folder / "turned.jpg", quality=92, exif=exif, icc_profile=profile)
    photo.save(folder / "progressive.jpg", quality=92, progressive=True)
    photo.save(folder / "screen.png", compress_level=1)
    photo.save(folder / "web.webp", quality=85, method=1)
    photo.resize((60, 40)).save(folder / "small.jpg", icc_profile=profile)


def peak() -> int:
    """The most memory that this process had, in kB. What `getrusage` tells is that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]  # it is there


def one(path: Path) -> None:
    def check(url: str) -> str:
        return url

    async def unused(*_: object) -> Any:
        return ""

    async def anyone(*_: object) -> bool:
        return True

    intake = Intake(
        FilePreparer(FolderVault(path.parent / path.stem), Here()),
        Roots((path.parent,), path.parent),
        unused,
        check,
        unused,
        anyone,
    )

    async def admit(name: str) -> int:
        return (await intake.admit("image", name, "image", "bench", pass_urls=False)).size or 0

    anyio.run(admit, "small.jpg")
    before, begun = peak(), time.perf_counter()
    size = anyio.run(admit, path.name)
    seconds, grown = time.perf_counter() - begun, peak() - before
    print(f"{seconds:.2f} {grown // 1024} {size}")


def main(megapixels: float) -> None:
    print(headline(f"a photo of {megapixels:g} megapixels, admitted"))
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), megapixels)
        for name in KINDS:
            path = Path(folder) / name
            command = [sys.executable, __file__, "--one", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            came, left = path.stat().st_size / 1e6, int(done[2]) / 1e6
            cost = f"{done[0]} s (to hold: 1), grew by {done[1]} MB (to hold: 300)"
            print(f"  {name:15} {cost}, {came:.1f} to {left:.1f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(Path(sys.argv[2]))
    else:
        main(arguments(__doc__, megapixels=(24.0, 0.5, "how large the photo is"))["megapixels"])
