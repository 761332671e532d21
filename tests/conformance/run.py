"""Runs the official conformance suite against our server: both sets of requirements, and everything there is.

    python tests/conformance/run.py [--out DIR]

Exit code 0: no check failed. 1: some did. 3: the suite cannot be run here, and the last line on stderr says why.
Scenarios of extensions are not scored by the suite's own exit code, so every `checks.json` is read.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parents[1]
NODE = TOP / ".node"
SUITE, SUITE_VERSION = "@modelcontextprotocol/conformance", "0.2.0-alpha.12"
NODE_MAJOR = "24"  # the suite needs Node 22 or later; the package `node` brings one
RUNS = {
    "2026-07-28": ("--requirements", "2026-07-28"),
    "2025-11-25": ("--requirements", "2025-11-25"),
    "all": ("--suite", "all"),
}
LEAST_CHECKS = {"2026-07-28": 150, "2025-11-25": 60, "all": 250}
MAY_SKIP = "tasks-status-notifications"  # the suite always skips it
SECONDS = 300
OK, FAILED, CANNOT = 0, 1, 3


class CannotRunError(Exception):
    """Something that is needed is not on this machine."""


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--out", type=Path, help="where to keep what the suite wrote")
    out = asked.parse_args().out
    try:
        install({SUITE: SUITE_VERSION, "node": NODE_MAJOR})
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return CANNOT
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "home") as url:
        kept = (out or Path(folder) / "out").absolute()
        failures = [failure for name in RUNS for failure in run(name, url, kept / name)]
    print("\n".join(failures) or "No check failed.")
    return FAILED if failures else OK


def install(packages: dict[str, str]) -> None:
    """Have npm packages of these versions in `.node`, which git ignores.

    Raises:
        CannotRunError: there is no npm, or it cannot install them.
    """
    wanted = [f"{name}@{version}" for name, version in packages.items() if not installed(name).startswith(version)]
    if wanted:
        fetch(wanted)
    node = shutil.which("node", path=environment()["PATH"])
    version = subprocess.run([node or "node", "--version"], check=False, capture_output=True, text=True).stdout.strip()
    if not version.startswith(f"v{NODE_MAJOR}."):
        raise CannotRunError(f"Node {NODE_MAJOR} is needed, and npm brought {version or 'none'}.")


def fetch(wanted: list[str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise CannotRunError("npm is not installed.")
    NODE.mkdir(exist_ok=True)
    (NODE / "package.json").touch()
    if not (NODE / "package.json").read_text(encoding="utf-8"):
        (NODE / "package.json").write_text("{}\n", encoding="utf-8")
    quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--save-exact", "--loglevel=error", "--fetch-retries=1")
    done = subprocess.run(
        [npm, "install", *quiet, "--prefix", str(NODE), *wanted],
        check=False, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise CannotRunError(f"npm cannot install {' '.join(wanted)}: {done.stderr.strip()[-300:]!r}")


def installed(package: str) -> str:
    """The version of an installed package, or nothing."""
    file = NODE / "node_modules" / package / "package.json"
    return str(json.loads(file.read_text(encoding="utf-8"))["version"]) if file.is_file() else ""


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{NODE / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"}


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """Our server in a process of its own; its URL."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "ignore", str(HERE / "server.py"), str(home)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as server:  # type: ignore[call-overload]
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()
            server.wait(timeout=60)


def run(name: str, url: str, out: Path) -> list[str]:
    """Run one set of scenarios; what failed, one line each."""
    command = [str(NODE / "node_modules" / ".bin" / "conformance"), "server", "--url", url, *RUNS[name], "-o", str(out)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=SECONDS, env=environment()
    )  # fmt: skip
    checks = [
        (file.parent.name, check)
        for file in sorted(out.rglob("checks.json"))
        for check in json.loads(file.read_text(encoding="utf-8"))
    ]
    counted = Counter(check["status"] for _, check in checks)
    print(f"{name}: {', '.join(f'{number} {status}' for status, number in sorted(counted.items()))}", flush=True)
    failures = [
        f"{name} {scenario} {check['id']}: {check.get('errorMessage') or check.get('description')}"
        for scenario, check in checks
        if check["status"] in ("FAILURE", "WARNING") or (check["status"] == "SKIPPED" and scenario.find(MAY_SKIP) < 0)
    ]
    if counted["SUCCESS"] < LEAST_CHECKS[name]:
        failures.append(f"{name}: the suite ended early, with code {done.returncode}: {done.stderr.strip()[-500:]}")
    return failures


if __name__ == "__main__":
    sys.exit(main())
