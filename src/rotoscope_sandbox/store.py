"""What the sandbox keeps: one folder, shared by every process that is given it.

    predictions/<id>/order.json      what was asked; written once
                     progress.json   the worker's start and logs; touched while it works: its pulse
                     outcome.json    how it ended; written once
                     canceled.json   when it was canceled; the first to write it wins
                     <name>          outputs
                     .work-*/        the worker's files while it works
    files/<id>, files/<id>.json      uploads, and their names, types and sizes
    files/<id>.parts/<number>        the parts of an upload until they are put together
    keys/<wire>                      what a wire signs its webhooks with

Each file has one writer and one meaning, so that no process ever has to read, change and write back what
another one writes too. Files appear whole: they are written beside their place and moved.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import string
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import BinaryIO, Self

from rotoscope_sandbox.predictions import AcceptedRequest, Failure, JsonObject, Outcome, Prediction

__all__ = ["KEEP_SECONDS", "PULSE_SECONDS", "Incoming", "ListEntry", "Store", "UploadedFile", "new_id"]

KEEP_SECONDS = 24 * 3600.0
"""What is older than this is cleared away when a sandbox starts."""

PULSE_SECONDS = 0.5
_PULSE_LOST_SECONDS = 3.0
_CHUNK = 1024 * 1024
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600

_ID = re.compile(r"[0-9a-z-]{20,40}")
_NAME = re.compile(r"[0-9a-z_-]{1,60}\.[a-z0-9]{1,5}")
_ALPHABET = string.ascii_lowercase + string.digits


def new_id() -> str:
    """26 random lower-case letters and digits: the form of Replicate's ids."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(26))


@dataclass(frozen=True, slots=True)
class ListEntry:
    """The facts of a prediction that never change and decide its place in a list."""

    id: str
    wire: str
    model: str
    created: float
    turn: int


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file that a client uploads: `size` is None until its bytes have arrived."""

    id: str
    name: str
    content_type: str
    created: float
    size: int | None = None
    sha256: str = ""
    md5: str = ""
    metadata: JsonObject | None = None


class Incoming:
    """Bytes on their way to a file: they appear there whole once `settle` is called; otherwise nothing stays.

    A context manager. `size`, `sha256` and `md5` are those of the bytes so far.
    """

    def __init__(self, place: Path) -> None:
        self.size = 0
        self._place = place
        self._beside = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        self._file = _private_file(self._beside)
        self._hashes = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._beside.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """Add a chunk."""
        self._file.write(chunk)
        self.size += len(chunk)
        for known in self._hashes:
            known.update(chunk)

    def settle(self) -> None:
        """Put the file in its place: every chunk has come."""
        self._file.close()
        self._beside.replace(self._place)

    @property
    def sha256(self) -> str:
        return self._hashes[0].hexdigest()

    @property
    def md5(self) -> str:
        return self._hashes[1].hexdigest()


class Store:
    """Predictions, their outputs and uploads under one folder."""

    def __init__(self, folder: Path) -> None:
        self._predictions = folder / "predictions"
        self._files = folder / "files"
        self._keys = folder / "keys"
        self._entries: dict[str, ListEntry] = {}
        for place in (self._predictions, self._files, self._keys):
            place.parent.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)
            place.mkdir(exist_ok=True, mode=_PRIVATE_FOLDER)
            with suppress(PermissionError):  # it was made with other rights, by an older version
                place.chmod(_PRIVATE_FOLDER)
        self._clear(time.time() - KEEP_SECONDS)

    def _clear(self, before: float) -> None:
        for place in (*self._predictions.iterdir(), *self._files.iterdir()):
            # Another process may be clearing the same folder.
            with suppress(OSError):
                if place.stat().st_mtime < before:
                    shutil.rmtree(place) if place.is_dir() else place.unlink()

    def add(self, request: AcceptedRequest) -> None:
        """Write what was asked."""
        (self._predictions / request.id).mkdir(mode=_PRIVATE_FOLDER)
        _write_json(self._predictions / request.id / "order.json", asdict(request))

    def get(self, id_: str) -> Prediction | None:
        """Everything known about a prediction; None when there is none of that id."""
        if not _ID.fullmatch(id_):
            return None
        place = self._predictions / id_
        request = _read_json(place / "order.json")
        if request is None:
            return None
        # The outcome is read first: a reader of one must also see the start, which is written before it.
        outcome = _outcome_of(_read_json(place / "outcome.json"))
        progress, canceled = _read_json(place / "progress.json") or {}, _read_json(place / "canceled.json") or {}
        return Prediction(
            AcceptedRequest(**request),
            progress.get("begun"),
            tuple(progress.get("logs", ())),
            outcome,
            canceled.get("at"),
        )

    def newest_first(self) -> Iterator[Prediction]:
        """Every prediction, the latest accepted one first; each is read when its turn comes."""
        for entry in self.entries():
            if (known := self.get(entry.id)) is not None:
                yield known

    def entries(self) -> list[ListEntry]:
        """All predictions as entries of a list, the latest accepted one first. Each file is read once only."""
        found = {place.name: self._entry(place.name) for place in self._predictions.iterdir()}
        self._entries = {name: entry for name, entry in found.items() if entry is not None}
        return sorted(self._entries.values(), key=lambda one: (one.created, one.turn), reverse=True)

    def _entry(self, name: str) -> ListEntry | None:
        if name in self._entries:
            return self._entries[name]
        known = self.get(name)
        if known is None:
            return None
        request = known.request
        return ListEntry(name, request.wire, request.model, request.created, request.turn)

    def progress(self, id_: str, begun: float | None, logs: list[str]) -> None:
        """Write how far the worker is; this is its pulse, too."""
        _write_json(self._predictions / id_ / "progress.json", {"begun": begun, "logs": logs})

    def pulse(self, id_: str) -> None:
        """Show that the worker is still alive."""
        with suppress(FileNotFoundError):
            os.utime(self._predictions / id_ / "progress.json")

    def is_attended(self, id_: str) -> bool:
        """Whether a living worker of any process has the prediction in hand."""
        try:
            touched = (self._predictions / id_ / "progress.json").stat().st_mtime
        except FileNotFoundError:
            return False
        return time.time() - touched < _PULSE_LOST_SECONDS

    def abandon(self, id_: str) -> None:
        """Give a prediction up without an outcome: the next request about it lets it be computed."""
        (self._predictions / id_ / "progress.json").unlink(missing_ok=True)

    def finish(self, id_: str, outcome: Outcome) -> None:
        """Write the outcome, unless there is one: what was final stays as it was."""
        place = self._predictions / id_ / "outcome.json"
        if not place.exists():
            _write_json(place, asdict(outcome))

    def cancel(self, id_: str, at: float) -> None:
        """Write when it was canceled; the first time counts."""
        place = self._predictions / id_ / "canceled.json"
        if not place.exists():
            _write_json(place, {"at": at})

    def is_canceled(self, id_: str) -> bool:
        """Whether somebody, in any process, canceled it."""
        return (self._predictions / id_ / "canceled.json").exists()

    def save_output(self, id_: str, name: str, content: bytes) -> None:
        """Write an output; the same prediction computed twice writes the same file twice."""
        _write(self._predictions / id_ / name, content)

    def keep_output(self, id_: str, name: str, made: Path) -> None:
        """Move a file from the scratch folder to the outputs."""
        made.chmod(_PRIVATE_FILE)
        made.replace(self._predictions / id_ / name)

    @contextmanager
    def scratch(self, id_: str) -> Iterator[Path]:
        """A folder for the worker's files: on the same disk as the outputs, so that keeping one is only a move."""
        # No TemporaryDirectory: at the end of the process it would vanish from under a worker that is still to stop.
        folder = Path(mkdtemp(prefix=".work-", dir=self._predictions / id_))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def output(self, id_: str, name: str) -> Path | None:
        """The file of an output, or None."""
        place = self._predictions / id_ / name
        known = _ID.fullmatch(id_) and _NAME.fullmatch(name) and place.suffix != ".json"
        return place if known and place.is_file() else None

    def announce_upload(self, upload: UploadedFile) -> UploadedFile:
        """Write what is known of an upload, before or after its bytes have come."""
        _write_json(self._files / f"{upload.id}.json", asdict(upload))
        return upload

    def receive(self, upload: UploadedFile) -> Incoming:
        """Where the bytes of an upload go, chunk by chunk."""
        return Incoming(self._files / upload.id)

    def settle_upload(self, upload: UploadedFile, incoming: Incoming) -> UploadedFile:
        """Put the bytes in their place and write their size and hashes."""
        incoming.settle()
        return self.announce_upload(replace(upload, size=incoming.size, sha256=incoming.sha256, md5=incoming.md5))

    def receive_part(self, upload: UploadedFile, number: int) -> Incoming:
        """Where the bytes of one part of an upload go."""
        folder = self._files / f"{upload.id}.parts"
        folder.mkdir(exist_ok=True, mode=_PRIVATE_FOLDER)
        return Incoming(folder / str(number))

    def join(self, upload: UploadedFile, numbers: Sequence[int]) -> UploadedFile | None:
        """Put parts together in the given order; None when one of them never came."""
        folder = self._files / f"{upload.id}.parts"
        places = [folder / str(number) for number in numbers]
        if not places or not all(place.is_file() for place in places):
            return None
        with self.receive(upload) as whole:
            for place in places:
                with place.open("rb") as part:
                    while chunk := part.read(_CHUNK):
                        whole.write(chunk)
            joined = self.settle_upload(upload, whole)
        shutil.rmtree(folder)
        return joined

    def key(self, wire: str) -> bytes:
        """The 32 random bytes that a wire signs with: the same for every process of the folder."""
        place = self._keys / wire
        if not place.exists():
            beside = self._keys / f".{wire}.{secrets.token_hex(4)}"
            with _private_file(beside) as file:
                file.write(secrets.token_bytes(32))
            # Unlike a rename, a link leaves alone what another process has put there meanwhile.
            with suppress(FileExistsError):
                place.hardlink_to(beside)
            beside.unlink()
        return place.read_bytes()

    def upload(self, id_: str) -> UploadedFile | None:
        """What is known of an upload, or None."""
        facts = _read_json(self._files / f"{id_}.json") if _ID.fullmatch(id_) else None
        return None if facts is None else UploadedFile(**facts)

    def uploads(self) -> list[UploadedFile]:
        """Every upload, the latest first."""
        found = [self.upload(place.stem) for place in self._files.glob("*.json")]
        return sorted((one for one in found if one is not None), key=lambda one: one.created, reverse=True)

    def upload_path(self, id_: str) -> Path | None:
        """The bytes of an upload, or None when they never arrived."""
        place = self._files / id_
        return place if _ID.fullmatch(id_) and place.is_file() else None

    def forget_upload(self, id_: str) -> None:
        """Remove an upload."""
        for name in (id_, f"{id_}.json"):
            (self._files / name).unlink(missing_ok=True)
        shutil.rmtree(self._files / f"{id_}.parts", ignore_errors=True)


def _outcome_of(facts: JsonObject | None) -> Outcome | None:
    if facts is None:
        return None
    failure = facts["failure"]
    metrics = facts.get("metrics", {})
    return Outcome(facts["ended"], facts["output"], Failure(**failure) if failure else None, metrics)


def _read_json(place: Path) -> JsonObject | None:
    try:
        facts: JsonObject = json.loads(place.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return facts


def _write_json(place: Path, facts: JsonObject) -> None:
    _write(place, json.dumps(facts, ensure_ascii=False).encode())


def _write(place: Path, content: bytes) -> None:
    beside = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    with _private_file(beside) as file:
        file.write(content)
    beside.replace(place)


def _private_file(place: Path) -> BinaryIO:
    """A new file to write to. Pictures and prompts are their owner's alone, whatever the umask says."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(place, flags, _PRIVATE_FILE), "wb")
