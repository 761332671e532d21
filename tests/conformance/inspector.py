"""Drives our server with the official MCP Inspector's command line, over stdio and HTTP, in both eras.

    python tests/conformance/inspector.py [--all]

It lists the tools and calls every one: over stdio in the modern era and over HTTP in the legacy one, with `--all` over
each in both. Where the era has tasks the Inspector takes them, so a film must come back
finished: its call alone does not wait for it. Exit codes as in `run.py`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from run import CANNOT, FAILED, NODE, OK, CannotRunError, environment, install, serving

from rotoscope.cli.demo_clip import BALL_BOX, draw_clip
from rotoscope.contracts.tools import TOOLS
from rotoscope.media.video.videos import first_frame

INSPECTOR, INSPECTOR_VERSION, NODE_MAJOR = "@modelcontextprotocol/inspector", "2.12.0", "24"
SECONDS = 120
FILM = {"prompt": "a storm", "duration": 4, "resolution": "480p"}
Ask = Callable[..., dict[str, Any]]


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--all", action="store_true", help="run each transport in both eras")
    is_whole = asked.parse_args().all
    try:
        install({INSPECTOR: INSPECTOR_VERSION, "node": NODE_MAJOR})
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return CANNOT
    failures = []
    for transport, own_era in ((over_stdio, "modern"), (over_http, "legacy")):
        for era in ("legacy", "modern") if is_whole else (own_era,):
            with tempfile.TemporaryDirectory() as folder, transport(Path(folder), era) as ask:
                found = [f"{transport.__name__} {era}: {failure}" for failure in check(ask, Path(folder), era)]
            print(f"{transport.__name__}, {era}: {len(found)} failures", flush=True)
            failures += found
    print("\n".join(failures) or "Every tool answered.")
    return FAILED if failures else OK


@contextmanager
def over_stdio(folder: Path, era: str) -> Iterator[Ask]:
    """`rotoscope serve` itself, a new process at each call."""
    command = [str(Path(sys.executable).parent / "rotoscope"), "serve"]
    # Each call is made once: one whose time is over before its media are checked would have no job yet.
    variables = (f"ROTOSCOPE_HOME={folder}/rotoscope", "ROTOSCOPE_SANDBOX=always", "ROTOSCOPE_INLINE_SECONDS=60")
    yield asking(folder, era, [*command, *(word for one in variables for word in ("-e", one))])


@contextmanager
def over_http(folder: Path, era: str) -> Iterator[Ask]:
    """The server of the conformance suite."""
    with serving(folder) as url:
        yield asking(folder, era, [url, "--transport", "http"])


def asking(folder: Path, era: str, target: list[str]) -> Ask:
    def ask(method: str, tool: str | None = None, **arguments: Any) -> dict[str, Any]:
        """What the Inspector prints: the result of one request."""
        command = [str(NODE / "node_modules" / ".bin" / "mcp-inspector"), "--cli", *target, "--protocol-era", era]
        command += ["--method", method, "--format", "json", "-q"]
        if tool is not None:
            command += ["--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS, cwd=folder,
            env={**environment(), "HOME": str(folder)},
        )  # fmt: skip
        printed = json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr.strip()[-500:]}
        return printed.get("result", printed)  # type: ignore[no-any-return]

    return ask


def check(ask: Ask, folder: Path, era: str) -> Iterator[str]:
    """List the tools and call each of them; what is wrong, in words."""
    listed = {tool["name"] for tool in ask("tools/list").get("tools", [])}
    if missing := set(TOOLS) - listed:
        yield f"not listed: {sorted(missing)}"
    clip, still = folder / "ball.mp4", folder / "still.png"
    draw_clip(clip)
    first_frame(clip).save(still)

    ball = ask("tools/call", "segment_image", image=str(still), box=BALL_BOX)
    job_id = ball.get("structuredContent", {}).get("job_id", "")
    edit = {"prompt": "an empty room", "video": str(clip), "mask": f"job://{job_id}"}
    answers = {
        "segment_image": ball,
        "describe_with_masks": ask("tools/call", "describe_with_masks", image=str(still)),
        "generate_video": ask("tools/call", "generate_video", **FILM),
        "edit_video_with_mask": ask("tools/call", "edit_video_with_mask", **edit),
        "get_job": ask("tools/call", "get_job", job_id=job_id),
        "cancel_job": ask("tools/call", "cancel_job", job_id=job_id),
    }
    view = ask("tools/call", "view_media", uri=f"job://{job_id}/overlay")
    if "image" not in {block.get("type") for block in view.get("content", [])}:
        yield f"view_media: {json.dumps(view)[:500]}"
    for tool, answer in answers.items():
        status = answer.get("structuredContent", {}).get("status")
        # Without tasks a film may outlast this client's patience: then its call gives the job.
        fine = {"succeeded"} if era == "modern" or "job" in tool else {"succeeded", "running", "queued"}
        if answer.get("isError") or status not in fine:
            yield f"{tool}: {json.dumps(answer)[:500]}"
    known = ask("tools/call", "list_jobs").get("structuredContent", {}).get("jobs", [])
    if job_id not in {job["job_id"] for job in known}:
        yield f"list_jobs: {known}"


if __name__ == "__main__":
    sys.exit(main())
