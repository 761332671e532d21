"""The intake: from a path, URL, data URI or link that the user gave to checked media in the vault.

Nothing is fetched that the provider can read itself. A file that was prepared here before, however it comes back, is
used as it is: prepared again it would change (a JPEG loses a little each time), and one request with a path and the
same request with the `artifact://` link that was shown for it would look like two.
"""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from rotoscope.data_uris import read_data_uri
from rotoscope.errors import InvalidInput, TooLarge, UnsafeSource
from rotoscope.media.decoders import FILM, PICTURE, DecodeRunner
from rotoscope.media.image.masks import Selection
from rotoscope.media.job_files import OUTPUT_KINDS, JobFile
from rotoscope.media.paths import Roots, local_path, open_local_file
from rotoscope.media.preparing import MediaFacts, PreparedKind, measure_media, prepare_media
from rotoscope.media.sniff import HEAD_BYTES, check_head, content_type_of, file_content_type, is_image, is_video
from rotoscope.media.vault import StoredFile, Vault, artifact_hash, enter_in_thread, file_sha256, scratch_path
from rotoscope.models.catalog import UploadLimit
from rotoscope.models.manifest import MediaKind

__all__ = [
    "AdmittedMedia",
    "FetchFile",
    "FilePreparer",
    "Intake",
    "MediaKind",
]

MAX_PICTURE_BYTES = 200_000_000  # bytes of a picture file: its decoder is given the whole file in memory
MAX_FILE_BYTES = 512 * 1024 * 1024  # bytes of any file
_COPY_BYTES = 1024 * 1024  # bytes that are copied at once
_FILES_AT_ONCE = 8  # files that are copied or hashed at once

_PICTURE_KINDS: frozenset[PreparedKind] = frozenset({"image", "picture_mask"})
_VAULT_KINDS: Mapping[PreparedKind, str] = {
    "image": "image",
    "picture_mask": "picture_mask",
    "still": "image",
    "video": "video",
    "mask": "video",
    "audio": "audio",
}
_KINDS_BY_CONTENT: Mapping[str, MediaKind] = {"image": "image", "video": "video", "audio": "audio"}
FetchFile = Callable[[str, Path, int], Awaitable[object]]


FindJobFile = Callable[[str, str], Awaitable[JobFile]]
CanRead = Callable[[str, str], Awaitable[bool]]
Found = TypeVar("Found")
Given = TypeVarTuple("Given")


@dataclass(frozen=True, slots=True)
class AdmittedMedia:
    """A medium that may be used: an https URL passed on unread, or an `artifact://` link to a checked file.

    Each is None where the file was not read, or has no such property.

    Attributes:
        value: the URL or the link.
        content_type: of the file.
        size: in bytes.
        width: in pixels of the upright picture.
        height: in pixels of the upright picture.
        duration_seconds: of a video or a sound.
        frames: how many a video has.
        is_first_frame: whether it is the first frame of a video that the user gave.
        notes: what the user should know of how it was read.
        frame_rate: of a video, in frames a second.
        has_audio: whether a video has sound.
        stored: width and height of a video's upright frames as stored, where a player shows them in another shape.
        selects: of a mask, how much of the frame it selects.
        job_file: the output of a job as which the user has named it; it may not exist yet.
    """

    value: str
    content_type: str | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    frames: int | None = None
    is_first_frame: bool = False
    notes: tuple[str, ...] = ()
    frame_rate: float | None = None
    has_audio: bool | None = None
    stored: tuple[int, int] | None = None
    selects: Selection | None = None
    job_file: JobFile | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether a job that goes on is to give it."""
        return self.job_file is not None and self.job_file.uri is None


@dataclass(frozen=True, slots=True)
class FilePreparer:
    """Checks files and puts their cleaned copies into the vault. A worker decodes them, this process stores them.

    Attributes:
        vault: where checked files are kept.
        decoders: decodes files, out of this process.
        disk_slots: limits the threads that read and write whole files, which may be many and slow: other work needs
            threads, too.
    """

    vault: Vault
    decoders: DecodeRunner
    disk_slots: anyio.CapacityLimiter = field(default_factory=partial(anyio.CapacityLimiter, _FILES_AT_ONCE))

    async def prepare(self, kind: MediaKind, file: Path, carrier: UploadLimit | None = None) -> AdmittedMedia:
        """Check a file and store it, as it is or as its cleaned copy; one that was prepared before stays as it is.

        Args:
            kind: what it must be.
            file: a file of the vault, or a scratch file that nobody else writes.
            carrier: the provider that takes the largest videos and sounds; what is larger is refused.

        Raises:
            UserMistake: it is no usable medium of that kind.
            StorageFailed: it cannot be kept.
        """
        wanted, kept = await self.run_disk_work(self._classify_file, kind, file)
        limits = PICTURE if wanted in _PICTURE_KINDS else FILM
        if kept is not None:
            return _media_record(kept, wanted, await self.decoders.run(measure_media, wanted, file, limits=limits))
        async with enter_in_thread(scratch_path(self.vault)) as target:
            facts = await self.decoders.run(prepare_media, wanted, file, target, carrier, limits=limits)
            kept = await self.run_disk_work(self._store_prepared, wanted, target, facts)
        return _media_record(kept, wanted, facts)

    async def run_disk_work(self, work: Callable[[*Given], Found], *given: *Given) -> Found:
        """Run what reads or writes a whole file in a thread, when there is a place for it."""
        return await anyio.to_thread.run_sync(work, *given, limiter=self.disk_slots)

    def _classify_file(self, kind: MediaKind, file: Path) -> tuple[PreparedKind, StoredFile | None]:
        """How the file is to be prepared; and the stored file, if its content was prepared here before."""
        wanted = _preparation_kind(kind, file_content_type(file))
        if wanted in _PICTURE_KINDS:
            _check_picture_bytes(file.stat().st_size)
        return wanted, None if wanted == "still" else self._find_prepared(file, _VAULT_KINDS[wanted])

    def _store_prepared(self, kind: PreparedKind, target: Path, facts: MediaFacts) -> StoredFile:
        kept = self.vault.put(target, file_sha256(target), facts.content_type or "application/octet-stream")
        self.vault.mark_prepared(kept.sha256, _VAULT_KINDS[kind])
        return kept

    def _find_prepared(self, file: Path, kind: str) -> StoredFile | None:
        """The stored file, if the content was prepared here for media of this kind before; however it came."""
        sha256 = file_sha256(file)
        if not self.vault.is_prepared(sha256, kind):
            return None
        kept = self.vault.renew(sha256)
        if kept is not None:
            return kept
        with scratch_path(self.vault) as target:
            shutil.copyfile(file, target)
            return self.vault.put(target, sha256, file_content_type(file) or "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Intake:
    """Admits media.

    Attributes:
        preparer: checks files and keeps them.
        roots: where local files may be read.
        fetch: reads an https URL into a file, if the egress rules allow its address.
        check_url: checks an https URL without connecting, and returns it normalized, without a fragment.
        find_job_file: finds what a `job://` link names, for a principal.
        can_read: whether a principal may read a stored file, by its hash.
    """

    preparer: FilePreparer
    roots: Roots
    fetch: FetchFile
    check_url: Callable[[str], str]
    find_job_file: FindJobFile
    can_read: CanRead

    @property
    def vault(self) -> Vault:
        """Where checked files are kept."""
        return self.preparer.vault

    @property
    def decoders(self) -> DecodeRunner:
        """Decodes files, out of this process."""
        return self.preparer.decoders

    async def admit(
        self,
        kind: MediaKind,
        text: str,
        argument: str,
        principal: str,
        *,
        pass_urls: bool,
        carrier: UploadLimit | None = None,
    ) -> AdmittedMedia:
        """Admit a path, an https URL, a data URI, or an `artifact://` or `job://` link.

        Args:
            kind: what it must be; `visual` is a picture or a video, `mask` a mask picture or a mask video, `still` a
                picture or a video's first frame.
            text: the user's value.
            argument: the name of the tool's argument, for the error.
            principal: on whose behalf; what belongs to another is answered like what does not exist.
            pass_urls: whether the provider reads public URLs itself; then they are not fetched.
            carrier: the provider that takes the largest videos and sounds; what is larger is refused.

        Raises:
            UserMistake: it may not be read, or is no usable medium of that kind.
            StorageFailed: it cannot be kept.
        """
        self.decoders.warm()  # a worker starts while the file is still being copied
        text = text.strip()
        if not text:
            raise InvalidInput(f"{argument!r} is empty.", hint="Give a path, an https URL or an artifact:// link.")
        scheme = text.partition(":")[0].lower() if "://" in text[:20] or text[:5].lower() == "data:" else ""
        if scheme in ("http", "https"):
            own = await self._own_file(text, principal)
            if own is None:
                address = self.check_url(text)
                if pass_urls:
                    return AdmittedMedia(address)
            else:
                text, scheme = own, "artifact"
        if scheme == "job":
            return await self._admit_job_file(kind, await self.find_job_file(text, principal), argument, carrier)
        async with self._local_file(kind, text, scheme, principal) as file:
            return await self.preparer.prepare(kind, file, carrier)

    async def _admit_job_file(
        self, kind: MediaKind, found: JobFile, argument: str, carrier: UploadLimit | None
    ) -> AdmittedMedia:
        """What another job has made; or will make, which is then checked when it is there."""
        if found.uri is None:
            if found.kind not in OUTPUT_KINDS[kind]:
                raise InvalidInput(
                    f"{argument!r} takes no {found.kind}.", hint="Name another output.", code="not_media"
                )
            return AdmittedMedia(found.link, job_file=found)
        async with enter_in_thread(self.vault.open(artifact_hash(found.uri))) as path:
            file = await anyio.to_thread.run_sync(_check_artifact, kind, path)
            return replace(await self.preparer.prepare(kind, file, carrier), job_file=found)

    async def admit_upload(self, kind: MediaKind | None, file: Path) -> AdmittedMedia:
        """Admit a file that was sent to us, exactly like a local file.

        Args:
            kind: what it must be; None: the picture, film or sound that its first bytes say it is.
            file: a scratch file of the vault, with the whole content.

        Raises:
            UserMistake: it is no usable medium of that kind.
            StorageFailed: it cannot be kept.
        """
        self.decoders.warm()
        wanted = await self.preparer.run_disk_work(_kind_of_upload, kind, file)
        return await self.preparer.prepare(wanted, file)

    @asynccontextmanager
    async def _local_file(self, kind: MediaKind, text: str, scheme: str, principal: str) -> AsyncIterator[Path]:
        """The file for the time of the check: one in the vault, or a private copy."""
        uri = await self._artifact_link(text, scheme, principal)
        if uri is not None:
            async with enter_in_thread(self.vault.open(artifact_hash(uri))) as path:
                yield await anyio.to_thread.run_sync(_check_artifact, kind, path)
            return
        async with enter_in_thread(scratch_path(self.vault)) as scratch:
            await self._copy_to_scratch(kind, text, scheme, scratch)
            yield scratch

    async def _artifact_link(self, text: str, scheme: str, principal: str) -> str | None:
        """The `artifact://` link of a file that is in the vault, however it is named; None for anything else."""
        if scheme == "artifact":
            if not await self.can_read(artifact_hash(text), principal):
                raise _unknown_artifact()
            return text
        if scheme not in ("", "file"):
            return None
        own = await anyio.to_thread.run_sync(self.vault.hash_of, self.roots.start / local_path(text))
        if own is None or not await self.can_read(own, principal):
            return None  # a path like any other: the roots decide whether it is read
        return f"artifact://{own}"

    async def _own_file(self, url: str, principal: str) -> str | None:
        """The `artifact://` link of a file that is named by the address in a result; None for any other address."""
        own = self.vault.hash_of_address(url)
        if own is None or not await self.can_read(own, principal):
            return None
        # A file that is not there is no answer of its own: that would show which files of others there are.
        return f"artifact://{own}" if await anyio.to_thread.run_sync(self.vault.address, own) is not None else None

    async def _copy_to_scratch(self, kind: MediaKind, text: str, scheme: str, scratch: Path) -> None:
        match scheme:
            case "https":
                await self.fetch(text, scratch, MAX_FILE_BYTES)
                await self.preparer.run_disk_work(_check_file_head, kind, scratch)
            case "data":
                await self.preparer.run_disk_work(_write_data_uri, kind, text, scratch)
            case "" | "file":
                await self.preparer.run_disk_work(self._copy_local_file, kind, text, scratch)
            case _:
                raise UnsafeSource(
                    f"Addresses of the kind {scheme[:20]!r} are not read.",
                    hint="Give a local path, an https URL, a data URI, or an artifact:// or job:// link.",
                    code="url_scheme",
                )

    def _copy_local_file(self, kind: MediaKind, text: str, scratch: Path) -> None:
        """Copy the file, so that what is checked is what is used, whatever happens to the original meanwhile.

        Its first bytes and its size are checked before, so that nothing large is copied only to be refused.
        """
        with open_local_file(text, self.roots, MAX_FILE_BYTES) as source:
            head = source.read(HEAD_BYTES)
            check_head(head, kind)
            if is_image(content_type_of(head)):
                _check_picture_bytes(os.fstat(source.fileno()).st_size)
            source.seek(0)
            with scratch.open("wb") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)


def _unknown_artifact() -> InvalidInput:
    return InvalidInput("There is no such artifact.", hint="Use the uri of an earlier result.", code="unknown_resource")


def _media_record(kept: StoredFile, kind: PreparedKind, facts: MediaFacts) -> AdmittedMedia:
    return AdmittedMedia(
        kept.uri,
        kept.content_type,
        kept.size,
        facts.width,
        facts.height,
        facts.duration_seconds,
        facts.frames,
        is_first_frame=kind == "still",
        notes=facts.notes,
        frame_rate=facts.frame_rate,
        has_audio=facts.has_audio,
        stored=facts.stored,
    )


def _preparation_kind(kind: MediaKind, content_type: str | None) -> PreparedKind:
    if is_image(content_type) and kind in ("visual", "mask"):
        return "picture_mask" if kind == "mask" else "image"
    if kind == "visual":
        return "video"
    return "image" if kind == "still" and not is_video(content_type) else kind


def _check_artifact(kind: MediaKind, path: Path | None) -> Path:
    if path is None:
        raise _unknown_artifact()
    _check_file_head(kind, path)
    return path


def _check_file_head(kind: MediaKind, file: Path) -> None:
    with file.open("rb") as opened:
        check_head(opened.read(HEAD_BYTES), kind)


def _kind_of_upload(kind: MediaKind | None, file: Path) -> MediaKind:
    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    wanted = kind or _KINDS_BY_CONTENT.get((content_type_of(head) or "").partition("/")[0], "visual")
    check_head(head, wanted)
    return wanted


def _check_picture_bytes(size: int) -> None:
    if size > MAX_PICTURE_BYTES:
        raise TooLarge(f"The picture has more than {MAX_PICTURE_BYTES // 1_000_000} MB.", hint="Use a smaller one.")


def _write_data_uri(kind: MediaKind, text: str, scratch: Path) -> None:
    content = read_data_uri(text)
    check_head(content[:HEAD_BYTES], kind)
    scratch.write_bytes(content)
