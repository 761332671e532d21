"""A headless browser, driven through its debugging pipe: no package and no port is needed for it."""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

__all__ = ["BROWSER", "Page", "open_page"]

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
_SECONDS = 90
_PAUSE_SECONDS = 0.05


@dataclass
class Page:
    """One page of the browser."""

    reading: int
    writing: int
    session: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0
    _buffer: bytes = b""

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its answer; events that come before it are kept in `log`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while (answer := await self._read()).get("id") != self._number:
            self.log.append(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    async def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            with anyio.fail_after(_SECONDS):
                piece = await anyio.to_thread.run_sync(os.read, self.reading, 65_536, abandon_on_cancel=True)
            assert piece, "the browser has ended"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(line))

    async def run(self, script: str) -> Any:
        """What a script of the page gives."""
        answer = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until a condition of the page holds."""
        with anyio.fail_after(_SECONDS):
            while not await self.run(condition):  # noqa: ASYNC110 - the page has no event for it
                await anyio.sleep(_PAUSE_SECONDS)

    async def open(self, address: str) -> None:
        await self.send("Page.navigate", url=address)
        await self.until("document.readyState === 'complete'")

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **named, **({"text": text} if text else {}))
        await self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    async def choose_file(self, selector: str, file: Path) -> None:
        """Choose a file in a chooser, as a person would."""
        root = (await self.send("DOM.getDocument"))["root"]["nodeId"]
        node = (await self.send("DOM.querySelector", nodeId=root, selector=selector))["nodeId"]
        await self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    async def size(self, width: int, height: int, scheme: str = "light") -> None:
        """The window, and whether the person prefers light or dark."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        await self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def screenshot(self, file: Path) -> None:
        import base64

        shot = await self.send("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def open_page(folder: Path) -> AsyncIterator[Page]:
    """A browser with an empty page, for the time of a block; its profile is in the folder."""
    assert BROWSER is not None
    to_browser, writing = os.pipe()
    reading, from_browser = os.pipe()
    command = [BROWSER, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-dev-shm-usage", "--disable-background-networking", f"--user-data-dir={folder}"]
    shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'  # where it finds its pipe
    process = subprocess.Popen(
        ["/bin/bash", "-c", shell, "browser", *command],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        page = Page(reading, writing)
        target = (await page.send("Target.createTarget", url="about:blank"))["targetId"]
        attached = await page.send("Target.attachToTarget", targetId=target, flatten=True)
        page.session = attached["sessionId"]
        for domain in ("Page", "DOM", "Runtime", "Network", "Log"):
            await page.send(f"{domain}.enable")
        yield page
    finally:
        process.terminate()
        process.wait(_SECONDS)
        os.close(writing)
        os.close(reading)
