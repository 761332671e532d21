"""Runs the snippets of the providers' documents, with the official clients, against `rotoscope sandbox`.

    python tests/conformance/snippets.py

The clients for JavaScript come through npm. The sandbox is the command itself, over TLS, in a process of its own. What
a snippet is to find is asserted in it; what it names on the network, the sandbox replaces. Exit codes as in `run.py`.
"""

import base64
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw
from run import CANNOT, FAILED, HERE, NODE, OK, CannotRunError, environment, install

CLIENTS = {"replicate": "1.4.0", "@fal-ai/client": "1.10.1", "axios": "1.12.2", "node": "24"}
KEYS = {"REPLICATE_API_TOKEN": "r8_snippet", "FAL_KEY": "snippet:key", "SEGMIND_API_KEY": "SG_snippet"}
SECONDS = 120


def main() -> int:
    try:
        install(CLIENTS)
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return CANNOT
    failures = []
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder)) as known:
        (Path(folder) / "node_modules").symlink_to(NODE / "node_modules")
        for snippet in sorted((HERE / "snippets").iterdir()):
            # Beside its packages: Node looks for them from the file's own folder upward.
            copy = Path(folder) / snippet.name
            copy.write_bytes(snippet.read_bytes())
            failures += run(copy, known)
    print("\n".join(failures) or "Every snippet ran.")
    return FAILED if failures else OK


@contextmanager
def sandbox(folder: Path) -> Iterator[dict[str, str]]:
    """The running sandbox; what a client's environment must hold to find and trust it."""
    command = [sys.executable, "-m", "rotoscope", "sandbox", "--port", "0", "--tls", "--pace", "0"]
    home = {**os.environ, "ROTOSCOPE_HOME": str(folder / "rotoscope"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=home, text=True, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            url = re.search(r"https://[\d.:]+", process.stderr.readline())
            trust = dict(re.findall(r"(\w+)=(\S+)", process.stderr.readline()))
            yield {**trust, **KEYS, "SANDBOX": url[0] if url else "", "PICTURE": picture()}
        finally:
            process.terminate()


def picture() -> str:
    """A boy, as far as the sandbox can tell."""
    drawn = Image.new("RGB", (320, 240), (60, 110, 70))
    ImageDraw.Draw(drawn).ellipse((120, 60, 220, 200), fill=(200, 120, 90))
    target = io.BytesIO()
    drawn.save(target, "PNG")
    return base64.b64encode(target.getvalue()).decode()


def run(snippet: Path, known: dict[str, str]) -> list[str]:
    """Run one; what failed, in words."""
    done = subprocess.run(
        [sys.executable if snippet.suffix == ".py" else "node", snippet.name],
        check=False, capture_output=True, text=True, timeout=SECONDS, cwd=snippet.parent,
        env={**environment(), **known},
    )  # fmt: skip
    print(f"{snippet.name}: {'failed' if done.returncode else 'ran'}", flush=True)
    return [f"{snippet.name}: {done.stderr.strip()[-1500:]}"] if done.returncode else []


if __name__ == "__main__":
    sys.exit(main())
