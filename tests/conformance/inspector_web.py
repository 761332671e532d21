"""Opens the viewer in the official MCP Inspector's web host, over stdio, in a headless browser.

    python tests/conformance/inspector_web.py [--out DIR]

The Inspector connects to `rotoscope serve`, calls `segment_image` and shows the page of the result in its own frames,
under its own policy: the mask must lie on the picture's pixels, and the policy must have refused nothing. Exit codes
as in `run.py`. With --out a screenshot is kept there.
"""

import argparse
import asyncio
import base64
import io
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from inspector import INSPECTOR, INSPECTOR_VERSION, NODE_MAJOR
from PIL import Image
from playwright.async_api import Error, Frame, Page, async_playwright
from run import CANNOT, FAILED, HERE, NODE, OK, CannotRunError, environment, install

from rotoscope.cli.demo_clip import BALL_BOX, draw_clip
from rotoscope.media.video.videos import first_frame

sys.path.insert(0, str(HERE.parent / "support"))

from ports import find_free_ports

SECONDS = 180
PAUSE_SECONDS = 0.1
BLUE = np.array([86, 180, 233])  # the first mask's colour
READ_CANVAS = "document.querySelector('[data-ready] canvas')?.toDataURL('image/png') ?? ''"
LISTEN = """
    window.refused = [];
    addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
        refused.push(`${violatedDirective} ${blockedURI}`);
    });
"""
"""Runs in every frame before its own scripts."""


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--out", type=Path, help="where to keep the screenshot")
    out = asked.parse_args().out
    try:
        install({INSPECTOR: INSPECTOR_VERSION, "node": NODE_MAJOR})
        browser = find_browser()
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return CANNOT
    with tempfile.TemporaryDirectory() as folder:
        still = Path(folder) / "still.png"
        draw_clip(Path(folder) / "ball.mp4")
        first_frame(Path(folder) / "ball.mp4").save(still)
        with inspecting(Path(folder)) as (address, token):
            failures = asyncio.run(look(browser, f"{address}/?MCP_INSPECTOR_API_TOKEN={token}", still, out))
    print("\n".join(failures) or "The Inspector's web host shows the viewer.")
    return FAILED if failures else OK


def find_browser() -> str:
    """The browser of this machine.

    Raises:
        CannotRunError: there is none.
    """
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        raise CannotRunError("No chromium is installed.")
    return found


@contextmanager
def inspecting(folder: Path) -> Iterator[tuple[str, str]]:
    """The Inspector's web host with `rotoscope serve` as its server; its address, and the token that opens it."""
    ports, token = find_free_ports(2), secrets.token_hex(24)
    variables = {
        **environment(), "HOME": str(folder), "HOST": "127.0.0.1", "CLIENT_PORT": str(ports[0]),
        "MCP_SANDBOX_PORT": str(ports[1]), "MCP_AUTO_OPEN_ENABLED": "false", "MCP_INSPECTOR_API_TOKEN": token,
        "MCP_INSPECTOR_SECRET_STORE": "memory",
    }  # fmt: skip
    server = [str(Path(sys.executable).parent / "rotoscope"), "serve"]
    command = [str(NODE / "node_modules" / ".bin" / "mcp-inspector"), "--web", *server]
    command += ["-e", f"ROTOSCOPE_HOME={folder}/rotoscope", "-e", "ROTOSCOPE_SANDBOX=always"]
    # The Inspector makes a call once: one whose time is over before its picture is checked would have no job to show.
    command += ["-e", f"ROTOSCOPE_INLINE_SECONDS={SECONDS}"]
    log = folder / "inspector.log"
    with log.open("w") as written, subprocess.Popen(command, stdout=written, stderr=written, env=variables) as process:
        try:
            yield f"http://127.0.0.1:{ports[0]}", token
        finally:
            process.terminate()
            process.wait(SECONDS)


async def look(browser: str, address: str, still: Path, out: Path | None) -> list[str]:
    """Segment a picture in the Inspector and look at the page of the result; what is wrong, in words."""
    async with async_playwright() as driver:
        opened = await driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = await opened.new_page(viewport={"width": 1600, "height": 1400})
        page.set_default_timeout(SECONDS * 1000)
        await page.add_init_script(LISTEN)
        try:
            await open_when_up(page, address)
            viewer, drawn = await open_viewer(page, {"image": str(still), "box": BALL_BOX})
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                await page.screenshot(path=out / "inspector.png")
            refused = [str(one) for one in await viewer.evaluate("refused")]
            return [*(f"refused by the policy: {one}" for one in refused), *check_mask(drawn, still)]
        finally:
            await opened.close()


async def open_viewer(page: Page, arguments: dict[str, Any]) -> tuple[Frame, np.ndarray]:
    """Connect, call the tool by the Inspector's form, and wait for the page of its result; its frame and picture."""
    await page.get_by_role("switch").first.click(force=True)
    await page.wait_for_selector('[data-testid="connection-status"][data-status="connected"]')
    await page.get_by_text("Apps", exact=True).first.click()
    await page.get_by_text("Segment image", exact=True).first.click()
    form = page.get_by_test_id("apps-form")
    await form.get_by_role("switch").first.click(force=True)
    await form.locator("textarea").first.focus()
    await page.keyboard.press("Control+a")
    await page.keyboard.insert_text(json.dumps(arguments))
    await page.get_by_test_id("open-app").click()
    for _ in range(int(SECONDS / PAUSE_SECONDS)):
        for frame in page.frames[1:]:
            with suppress(Error):  # a frame that is being replaced
                if drawn := str(await frame.evaluate(READ_CANVAS)):
                    with Image.open(io.BytesIO(base64.b64decode(drawn.partition(",")[2]))) as picture:
                        return frame, np.asarray(picture.convert("RGB")).astype(float)
        await asyncio.sleep(PAUSE_SECONDS)
    raise TimeoutError(f"no viewer came: {(await page.inner_text('body'))[-600:]}")


def check_mask(drawn: np.ndarray, still: Path) -> Iterator[str]:
    """Whether the ball's middle is painted in the mask's colour, and a corner far from it is bare."""
    with Image.open(still) as picture:
        given = np.asarray(picture.convert("RGB")).astype(float)
    if drawn.shape != given.shape:
        yield f"the canvas has {drawn.shape}, the picture {given.shape}"
        return
    middle = ((BALL_BOX["top"] + BALL_BOX["bottom"]) // 2, (BALL_BOX["left"] + BALL_BOX["right"]) // 2)
    if np.abs(drawn[middle] - (given[middle] * 0.55 + BLUE * 0.45)).max() > 6:
        yield f"the mask is not on the ball: {drawn[middle]} over {given[middle]}"
    if np.abs(drawn[2, 2] - given[2, 2]).max() > 3:
        yield f"a corner is painted: {drawn[2, 2]} over {given[2, 2]}"


async def open_when_up(page: Page, address: str) -> None:
    """Open a page of a server that is still starting."""
    for _ in range(int(SECONDS / PAUSE_SECONDS)):
        try:
            await page.goto(address)
        except Error:
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
    raise TimeoutError("the Inspector does not answer")


if __name__ == "__main__":
    sys.exit(main())
