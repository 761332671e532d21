"""Uploads: from a ticket to an artifact, whichever replicas the pieces come to.

Where the parts of a large file lie until it is whole: in the vault, each as a file of its own, because that is the one
place for files which all replicas share, whether it is a folder or an object store. The ledger has their order. A part
ends with random bytes, so that its hash is no other file's, and nobody can name it.

A file that comes in one request is checked from this machine's disk, and never lies in the vault as it came.
"""

import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread

from rotoscope.contracts.characters import one_line
from rotoscope.errors import InvalidInput, StorageFailed, UserMistake
from rotoscope.jobs.concurrency import run_with_background
from rotoscope.media.vault import Vault, artifact_hash, enter_in_thread, file_sha256, scratch_path
from rotoscope.providers.http.messages import Json
from rotoscope.store.uploads import Upload, UploadPart, UploadProblem, UploadTickets, upload_hash

if TYPE_CHECKING:
    from rotoscope.media.intake import AdmittedMedia, Intake
    from rotoscope.models.manifest import MediaKind

__all__ = ["OpenFile", "Uploads", "is_ticket", "require_unused", "unknown_upload_error"]

_TICKET_BYTES = 32
_TICKET_LENGTH = 43  # characters of so many bytes in base64
_TICKET_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_SEAL_BYTES = 32  # random, after the bytes of a part
_CHECK_SECONDS, _RENEWAL_SECONDS = 60.0, 15.0  # how long a check may stand without a sign of life, and its signs
_LOOK_SECONDS = 1.0  # between two looks for a file that is waited for
_COPY_BYTES = 1024 * 1024  # that are copied at once
_NAME_LENGTH = 100
_DAY = 86_400.0

OpenFile = Callable[[], AbstractAsyncContextManager[Path]]
"""Gives the whole file, for the time of a block."""


def is_ticket(text: str) -> bool:
    """Whether a text has the form of a ticket."""
    return len(text) == _TICKET_LENGTH and _TICKET_CHARACTERS.issuperset(text)


def unknown_upload_error() -> InvalidInput:
    """The answer to a ticket that does not exist, or belongs to another."""
    return InvalidInput(
        "There is no such upload.", hint="Call upload_media without a ticket for a new one.", code="unknown_upload"
    )


def require_unused(upload: Upload) -> None:
    """Refuse a file for a ticket that has taken one.

    Raises:
        InvalidInput: `upload_used`.
    """
    if upload.sha256 is not None:
        raise InvalidInput(
            "This upload has taken its file; each takes one.",
            hint="Ask the assistant for a new upload.",
            code="upload_used",
        )


@dataclass(frozen=True, slots=True)
class Uploads:
    """Gives tickets, takes files, and answers what has become of them.

    Attributes:
        tickets: the tickets in the ledger.
        vault: where parts and artifacts are kept.
        open_intake: gives the intake, which is slow to load.
        clock: the time in Unix seconds.
        sleep: waits some seconds.
    """

    tickets: UploadTickets
    vault: Vault
    open_intake: "Callable[[], Intake]"
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = field(default=anyio.sleep)

    # For the principal.

    async def open(self, principal: str, name: str | None, kind: str | None) -> tuple[str, Upload]:
        """A new ticket, and its upload.

        Raises:
            UserMistake: the principal has too many, or has uploaded too much today.
            StorageFailed: it cannot be remembered.
        """
        ticket = secrets.token_urlsafe(_TICKET_BYTES)
        return ticket, await self.tickets.add(ticket, principal, one_line(name or "", _NAME_LENGTH), kind)

    async def find_own(self, ticket: str, principal: str) -> Upload:
        """The upload of a principal's ticket.

        Raises:
            InvalidInput: the principal has no such ticket.
        """
        found = await self.tickets.find(upload_hash(ticket), principal) if is_ticket(ticket) else None
        if found is None:
            raise unknown_upload_error()
        return found

    async def wait(self, ticket: str, principal: str, seconds: float) -> Upload:
        """The same, once its file has come or was refused, or the time is up.

        Raises:
            InvalidInput: the principal has no such ticket.
        """
        deadline = anyio.current_time() + seconds
        upload = first = await self.find_own(ticket, principal)
        while upload.sha256 is None and upload.refusals == first.refusals and not upload.is_expired(self.clock()):
            left = deadline - anyio.current_time()
            if left <= 0:
                break
            await self.sleep(min(left, _LOOK_SECONDS))
            upload = await self.find_own(ticket, principal)
        return upload

    # For whoever has the ticket.

    async def find(self, ticket: str) -> Upload:
        """The upload of a ticket.

        Raises:
            InvalidInput: there is none.
        """
        found = await self.tickets.find(upload_hash(ticket)) if is_ticket(ticket) else None
        if found is None:
            raise unknown_upload_error()
        return found

    async def find_open(self, ticket: str) -> Upload:
        """The upload of a ticket that may still take its file, or has taken it.

        Raises:
            InvalidInput: there is none (`unknown_upload`), or it has expired (`upload_expired`).
        """
        upload = await self.find(ticket)
        if upload.is_expired(self.clock()):
            raise InvalidInput(
                "This upload has expired.", hint="Ask the assistant for a new one.", code="upload_expired"
            )
        return upload

    async def reload(self, upload: Upload) -> Upload:
        """The upload as it stands now.

        Raises:
            InvalidInput: it is gone.
        """
        found = await self.tickets.find(upload.hash)
        if found is None:
            raise unknown_upload_error()
        return found

    @asynccontextmanager
    async def scratch(self) -> AsyncIterator[Path]:
        """A path for what is coming in, removed at the end of the block."""
        async with enter_in_thread(scratch_path(self.vault)) as path:
            yield path

    async def take_file(self, upload: Upload, file: Path) -> Upload:
        """Take a whole file, in place of parts that came before.

        Raises:
            UserMistake: it is refused; the ticket may be used again. Or the ticket is used up or in use.
            StorageFailed: it cannot be kept.
        """
        require_unused(upload)
        return await self._check(upload, lambda: _as_it_is(file))

    async def take_part(self, upload: Upload, file: Path, start: int, total: int | None) -> Upload:
        """Keep a part; where the file is whole with it, take the file.

        Args:
            upload: as it stood when the part began to come.
            file: the part's bytes; the file is used up.
            start: where they begin in the whole file.
            total: bytes of the whole file, where that is known.

        Returns:
            How it stands then: where another part came first, without this one.

        Raises:
            UserMistake, StorageFailed: as for `take_file`.
        """
        part = await anyio.to_thread.run_sync(self._keep_part, file, start)
        appended = False
        try:
            appended = await self.tickets.append(upload, part, total)
        finally:
            if not appended:
                with anyio.CancelScope(shield=True):
                    await self._drop_parts([part])
        return await self.take_whole(await self.reload(upload))

    async def take_whole(self, upload: Upload) -> Upload:
        """Take the file if all its parts are here, and nobody does: also what a process has left when it ended.

        Raises:
            UserMistake, StorageFailed: as for `take_file`.
        """
        if not upload.is_whole or upload.sha256 is not None or upload.is_being_checked(self.clock()):
            return upload
        return await self._check(upload, partial(self._join_parts, upload))

    async def clear(self, upload: Upload) -> Upload:
        """Forget the parts that have come, to begin with another file.

        Raises:
            StorageFailed: the ledger cannot be written.
        """
        await self._drop_parts(await self.tickets.clear(upload))
        return await self.reload(upload)

    async def _check(self, upload: Upload, open_file: OpenFile) -> Upload:
        """Check the file, as nobody else does at the same time, and write what came of it."""
        holder = secrets.token_hex(16)
        if not await self.tickets.claim_check(upload, holder, _CHECK_SECONDS):
            require_unused(await self.reload(upload))
            raise InvalidInput(
                "Another file of this upload is being checked.", hint="Ask again in a moment.", code="upload_busy"
            )
        spare: Sequence[UploadPart] | None = ()
        try:
            admit = partial(self._admit, upload, open_file)
            size, media = await run_with_background(admit, partial(self._renew_check, upload, holder))
            spare = await self.tickets.finish(upload, holder, artifact_hash(media.value), size, _facts_of(media))
        except UserMistake as error:
            spare = await self.tickets.refuse(upload, holder, UploadProblem.of_error(error))
            raise
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.tickets.release_check(upload, holder)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._drop_parts(spare or ())
        return await self.reload(upload)

    async def _admit(self, upload: Upload, open_file: OpenFile) -> "tuple[int, AdmittedMedia]":
        """How many bytes the file has, and the artifact that it became."""
        intake = await anyio.to_thread.run_sync(self.open_intake)
        async with open_file() as file:
            size = (await anyio.Path(file).stat()).st_size
            return size, await intake.admit_upload(cast("MediaKind | None", upload.kind), file)

    async def _renew_check(self, upload: Upload, holder: str) -> None:
        while True:
            await anyio.sleep(_RENEWAL_SECONDS)
            await self.tickets.renew_check(upload, holder, _CHECK_SECONDS)

    def _keep_part(self, file: Path, start: int) -> UploadPart:
        """Bring a part into the vault."""
        try:
            size = file.stat().st_size
            with file.open("ab") as opened:
                opened.write(secrets.token_bytes(_SEAL_BYTES))
            sha256 = file_sha256(file)
        except OSError as error:
            raise _scratch_error(self.vault) from error
        self.vault.put(file, sha256, "application/octet-stream")
        return UploadPart(start, size, sha256)

    @asynccontextmanager
    async def _join_parts(self, upload: Upload) -> AsyncIterator[Path]:
        """The whole file, made of its parts."""
        parts = await self.tickets.parts(upload)
        async with self.scratch() as target:
            is_whole = await anyio.to_thread.run_sync(self._copy_parts, parts, target)
            if not is_whole:
                raise InvalidInput(
                    "A part of the file was lost.", hint="Send the file again from its start.", code="upload_lost"
                )
            yield target

    def _copy_parts(self, parts: Sequence[UploadPart], target: Path) -> bool:
        """Write parts one after the other; whether each was there."""
        try:
            with target.open("wb") as whole:
                for part in parts:
                    with self.vault.open(part.sha256) as path:
                        if path is None:
                            return False
                        with path.open("rb") as kept:
                            shutil.copyfileobj(kept, whole, _COPY_BYTES)
                    whole.seek(part.start + part.size)
                    whole.truncate()  # without the random bytes at its end
        except OSError as error:
            raise _scratch_error(self.vault) from error
        return True

    async def _drop_parts(self, parts: Sequence[UploadPart]) -> None:
        """Remove parts from the vault; one that cannot be removed now goes as a file that nobody has."""
        for part in parts:
            await anyio.to_thread.run_sync(self.vault.delete, part.sha256, self.clock() + _DAY)


@asynccontextmanager
async def _as_it_is(file: Path) -> AsyncIterator[Path]:
    yield file


def _facts_of(media: "AdmittedMedia") -> Mapping[str, Json]:
    """What is known of the artifact, for those who ask about the upload."""
    return {
        "content_type": media.content_type,
        "width": media.width,
        "height": media.height,
        "duration_seconds": media.duration_seconds,
        "notes": list(media.notes),
    }


def _scratch_error(vault: Vault) -> StorageFailed:
    return StorageFailed(
        f"A scratch file of {vault.location} cannot be written or read.", hint="Free some space, then try again."
    )
