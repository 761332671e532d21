"""Memory of a long clip on its whole way: an edit by `target` with `keep_outside`, for a short clip and for a long one.

A process opens the job as the server does and drives it; its workers decode, measure and encode. The provider is in
another process: it answers at once, the masks as run lengths, the edit as the clip with a box in it inverted. What is
printed is the peak of either side over what it had before the call, and how much more the long clip took.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import anyio
from chain import FINDER
from edit_proof import moving_pattern, write_edit
from figures import arguments, headline
from scripted_provider import Answer, ScriptedProvider

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.contracts.arguments import EditVideoWithMask, parse_arguments
from rotoscope.contracts.results import VideoResult
from rotoscope.settings import read_settings
from rotoscope_sandbox.serving import serve_in_thread

SIZE, RATE = (832, 480), 16
HOLD_MB = 16  # a frame in RGB has 1.2 MB


class InstantProvider(ScriptedProvider):
    """Finds a box in every frame, and has a film for every edit."""

    def __init__(self, film: Path, frames: int) -> None:
        super().__init__()
        self.files["/out.mp4"] = film.read_bytes()
        self.runs = [box_runs(number) for number in range(frames)]
        self.url = ""
        self.edits: set[str] = set()
        self.respond = self.answer_at_once

    async def answer_at_once(self, method: str, path: str, body: bytes) -> Answer:
        if path == "/v1/files":
            return 201, {"id": "f1", "urls": {"get": f"{self.url}/v1/files/f1"}}
        if method == "GET" and path.startswith("/v1/predictions/"):
            run = path.split("/")[3]
            output = f"{self.url}/out.mp4" if run in self.edits else self.runs
            return 200, self.full({"status": "succeeded", "output": output}, run)
        found = await self.answer(method, path, body)
        if method == "POST" and b"src_mask" in body:
            self.edits.add(f"p{self.posts}")
        return found


def box_runs(number: int) -> str:
    """The box of `write_edit` in one frame, as run lengths."""
    width, height = SIZE
    left = width // 5 + 2 * number
    wide = max(min(width // 4, width - left), 1)
    left = min(left, width - 1)
    return " ".join(f"{row * width + left} {wide}" for row in range(height // 4, height // 2))


def read_peak(pid: int | str) -> float:
    """The peak of a process's memory in MB: `ru_maxrss` would begin with that of the process that has started it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


async def watch_workers(peaks: dict[str, float]) -> None:
    """Note the peak of every child of this process, until cancelled."""
    while True:
        for children in Path("/proc/self/task").glob("*/children"):
            with suppress(OSError):
                for pid in children.read_text(encoding="ascii").split():
                    peaks[pid] = max(read_peak(pid), peaks.get(pid, 0.0))
        await anyio.sleep(0.1)


async def drive(home: Path, url: str) -> None:
    """One edit, and what it took: printed as JSON."""
    environment = {"ROTOSCOPE_HOME": str(home / "r"), "REPLICATE_API_TOKEN": "r8_none-of-yours"}
    environment |= {"REPLICATE_BASE_URL": url, "ROTOSCOPE_SANDBOX": "never"}
    settings = read_settings(environment)
    given = {"prompt": "a room", "model": "prunaai/vace-14b@replicate", "target": "the box", "keep_outside": True}
    asked = parse_arguments(EditVideoWithMask, {"video": str(home / "clip.mp4"), **given})
    async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
        studio = open_studio(settings, stdio_roots(settings, home, home), tasks, closing)
        studio.start_background(tasks)
        before, workers = read_peak("self"), dict[str, float]()
        tasks.start_soon(watch_workers, workers)
        result = await studio.perform("edit_video_with_mask", asked, "local", 1800)
        assert isinstance(result, VideoResult)
        assert result.status == "succeeded", result
        assert result.changes is not None, result.warnings
        compared, restored = result.changes.frames_compared, result.changes.outside_restored
        tasks.cancel_scope.cancel()
    found = {"server": read_peak("self"), "before": before, "worker": max(workers.values())}
    print(json.dumps({**found, "compared": compared, "restored": restored}))


def measure(seconds: int) -> dict[str, Any]:
    frames = seconds * RATE
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "r" / "models").mkdir(parents=True)
        (home / "r" / "models" / "finder.toml").write_text(FINDER, encoding="utf-8")
        write_edit(moving_pattern(SIZE, frames), home, 18, None)
        provider = InstantProvider(home / "edit.mp4", frames)
        with serve_in_thread(cast("Any", provider)) as provider.url:
            command = [sys.executable, __file__, "--drive", folder, provider.url]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(short: int, long: int) -> None:
    print(headline(f"memory of an edit by target with keep_outside, {SIZE[0]}x{SIZE[1]}, {RATE} frames a second"))
    found = {seconds: measure(seconds) for seconds in (short, long)}
    for seconds, one in found.items():
        server = f"server {one['server']:.0f} MB ({one['before']:.0f} before), workers at most {one['worker']:.0f} MB"
        kept = "laid back" if one["restored"] else "not laid back"
        print(f"  {seconds:4} s: {server}; {one['compared']} frames compared, {kept}")
    grown = {side: found[long][side] - found[short][side] for side in ("server", "worker")}
    print(f"  the longer one: server {grown['server']:+.0f} MB, worker {grown['worker']:+.0f} MB (to hold: {HOLD_MB})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        anyio.run(drive, Path(sys.argv[2]), sys.argv[3])
    else:
        sizes = arguments(__doc__, short=(6, 1, "seconds of the short clip"), long=(60, 2, "seconds of the long one"))
        main(int(sizes["short"]), int(sizes["long"]))
