"""The stage that copies a result into the vault before its provider removes it.

The run is paid for, so a fault of the network or the disk is no reason to give up: the stage tries until the provider
has certainly removed the result, and meanwhile the user reads where it is and until when.

An object store may be away for longer than that. So a file for it is first held on this machine, and the ledger knows
by which hash, before the store is asked: from then on nothing is fetched again, whichever process goes on, and the
stage waits until the store has it.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import anyio.to_thread

from rotoscope.contracts.times import timestamp
from rotoscope.data_uris import read_data_uri
from rotoscope.errors import (
    InvalidInput,
    OutputLost,
    PredictionFailed,
    ProviderError,
    RotoscopeError,
    SlowHost,
    StorageFailed,
    TooLarge,
    UserMistake,
)
from rotoscope.jobs.context import JobContext, LeaseGuard, runner_without_recorder
from rotoscope.jobs.outputs import MAX_OUTPUT_BYTES, output_expiry, raw_output, read_job_output, retention_seconds
from rotoscope.media.sniff import HEAD_BYTES, content_type_of, file_content_type, is_image, is_video
from rotoscope.media.vault import StoredFile, artifact_hash, enter_in_thread, scratch_path
from rotoscope.models.outputs import MAX_URL_LENGTH, OutputFile
from rotoscope.models.run_documents import move_runs_to_file
from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Blob, Ready, Succeeded, Waiting
from rotoscope.store.job_data import ErrorRecord, FetchEffort, HeldFile, ProviderOutput
from rotoscope.store.records import Artifact, Job, Output, Patch

__all__ = ["fetch", "fetch_again"]

_MAX_RESULT_BYTES = 2 * MAX_OUTPUT_BYTES  # of all files of one result together
_MAX_REFUSALS = 3  # for an answer that will hardly change
_REFUSAL_CODES = frozenset({"output_blocked", "not_media", "too_large", "url_malformed", "url_scheme", "url_blocked"})
_FIRST_REFRESH, _REFRESH_EVERY = 2, 4  # tries after which the provider is asked for new addresses
_MAX_ADDRESSES_SHOWN = 5  # addresses in one warning
_MAX_ADDRESS_SHOWN = 500  # characters of an address in a message; longer ones are in the hint alone
_PAID_HINT = "The run was probably charged; look for its result at the provider."
_RETRYABLE_ERRORS = (OutputLost, ProviderError, UserMistake, StorageFailed)


async def fetch(context: JobContext, job: Job, _: LeaseGuard) -> Patch:
    """Copy every file of the output into the vault.

    An address that does not answer, a file that is cut short and a full disk may all be over at the next try, so it is
    tried again, with growing pauses. Files that are too many together are left where they are, with a warning.

    Raises:
        OutputLost: it cannot be fetched, or could not be for as long as the provider keeps it; says where it is.
        PredictionFailed: there is no result in the output.
    """
    effort = job.fetch_effort
    known = {one.url: one for one in effort.held}
    fetching = _ResultFetcher(context, job, raw_output(job), effort.seconds, held=known)
    while True:
        try:
            return await fetching.fetch_all()
        except _RETRYABLE_ERRORS as error:
            await fetching.wait_for_retry(error)


async def fetch_again(context: JobContext, job: Job) -> Sequence[Output]:
    """Fetch the files of an output once more, without a retry; where an address is gone, new ones are asked for.

    Raises:
        RotoscopeError: it does not succeed now.
    """
    fetching = _ResultFetcher(context, job, raw_output(job))
    try:
        return (await fetching.fetch_all()).outputs
    except OutputLost:
        if not await fetching.refresh_output():
            raise
    return (await fetching.fetch_all()).outputs


@dataclass(slots=True)
class _ResultFetcher:
    """Fetches the files of one job's result.

    Attributes:
        output: the output as the provider words it, with the addresses that are tried.
        elapsed_seconds: the seconds since the first try, by the monotonic clock, of all processes together.
        files: what is in the vault already, by its address.
        held: what is held on some host until the vault takes it, by its address.
        noted: those of them that the ledger knows.
        skipped: what is not fetched, because all files together would be too large.
        source: what was tried last.
        fetch_seconds: the seconds that all tries together have taken.
    """

    context: JobContext
    job: Job
    output: Json
    elapsed_seconds: float = 0.0
    files: dict[str, StoredFile] = field(default_factory=dict)
    held: dict[str, HeldFile] = field(default_factory=dict)
    noted: dict[str, HeldFile] = field(default_factory=dict)
    skipped: list[OutputFile] = field(default_factory=list)
    fetch_seconds: float = 0.0
    source: OutputFile = field(default_factory=lambda: OutputFile(""))
    pause: float = 1.0
    tries: int = 0
    refusals: int = 0
    counted_at: float = field(default_factory=anyio.current_time)

    async def fetch_all(self) -> Patch:
        """Fetch what is not in the vault yet; the patch that ends the stage."""
        found = read_job_output(self.context, self.job, self.output)
        sources = found.files
        begun, self.skipped = anyio.current_time(), []
        # All files are held before the vault is asked to take the first: it may be away until their addresses are gone.
        steps = (self._keep,) if self.context.vault.is_local else (self._hold, self._keep)
        try:
            for step in steps:
                for self.source in sources:
                    if self.source.url not in self.files and self.source not in self.skipped:
                        await self._fetch_next(step)
                await self._note_held()
        finally:
            self.fetch_seconds += anyio.current_time() - begun
        here = [source for source in sources if source.url in self.files]
        outputs = tuple(_raw_output(self.context, self.job, n, self.files[s.url], s) for n, s in enumerate(here))
        output = self.output
        if found.track is not None and found.track.url.startswith("data:") and found.track.url in self.files:
            # Run lengths of a clip may have megabytes, which the ledger would read with every look at the job.
            path = self.context.manifest(self.job).outputs.rle or "$"
            output = move_runs_to_file(output, path, self.files[found.track.url].uri)
        return Patch(
            stage="finish",
            provider_output=replace(self.job.provider_output or ProviderOutput(), output=output),
            fetch_effort=replace(self.job.fetch_effort, seconds=0.0, held=()),
            warnings=self._skip_warnings(),
            outputs=outputs,
            message="Measuring the result.",
            progress=0.97,
        )

    async def _fetch_next(self, step: Callable[[int], Awaitable[None]]) -> None:
        """Fetch the file `source`, unless all files together would be too large: then it is left where it is."""
        sizes = {url: one.size for url, one in self.held.items()} | {url: one.size for url, one in self.files.items()}
        bytes_left = _MAX_RESULT_BYTES - sum(sizes.values())
        is_counted = self.source.url in sizes
        try:
            if bytes_left > 0 or is_counted:
                await step(MAX_OUTPUT_BYTES if is_counted else min(bytes_left, MAX_OUTPUT_BYTES))
        except TooLarge:
            if not sizes or bytes_left >= MAX_OUTPUT_BYTES:
                raise
            bytes_left = 0
        if bytes_left <= 0 and not is_counted:
            self.skipped.append(self.source)

    async def _hold(self, limit: int) -> None:
        """Fetch the file `source` to this machine's disk, unless some host holds it already."""
        if self.source.url.startswith("http") and self.source.url not in self.held:
            await self._download_and_hold(limit)

    async def _keep(self, limit: int) -> None:
        """Bring the file `source` into the vault."""
        url, vault = self.source.url, self.context.vault
        if url.startswith("data:"):
            kept: StoredFile | None = await anyio.to_thread.run_sync(_store_data_uri, self.context, self.source)
        elif url.startswith("artifact://"):
            kept = await anyio.to_thread.run_sync(vault.put_held, artifact_hash(url))
        elif vault.is_local:
            kept = await self._download_to(vault.put, limit)
        else:
            kept = await anyio.to_thread.run_sync(vault.put_held, self.held[url].sha256)
            if kept is None:  # another host held it, or somebody has emptied this host's disk
                await self._download_and_hold(limit)
                await self._note_held()
                kept = await anyio.to_thread.run_sync(vault.put_held, self.held[url].sha256)
        if kept is None:
            raise OutputLost("The result is no longer in the results folder.", hint=_PAID_HINT)
        self.files[url] = kept

    async def _download_and_hold(self, limit: int) -> None:
        """Fetch the file `source` to this machine's disk."""
        url = self.source.url
        held = await self._download_to(self.context.vault.hold, limit)
        self.held[url] = HeldFile(url, held.sha256, held.size)

    async def _note_held(self) -> None:
        """Write into the ledger which files are held, so that whichever process goes on knows them."""
        if self.held != self.noted:
            await self.context.advance(self.job, Patch(fetch_effort=self._effort()))
            self.noted = dict(self.held)

    async def _download_to(self, keep: Callable[[Path, str, str], StoredFile], limit: int) -> StoredFile:
        async with enter_in_thread(scratch_path(self.context.vault)) as scratch:
            got = await self.context.wire.download(self.job.provider, self.source.url, scratch, limit)
            return await anyio.to_thread.run_sync(_keep_scratch, keep, scratch, got.sha256, self.source)

    def _effort(self) -> FetchEffort:
        """What was done so far, as the ledger keeps it."""
        return replace(self.job.fetch_effort, seconds=self.elapsed_seconds, held=tuple(self.held.values()))

    def _skip_warnings(self) -> tuple[str, ...]:
        if not self.skipped:
            return self.job.warnings
        at = " ".join(one.url for one in self.skipped[:_MAX_ADDRESSES_SHOWN] if len(one.url) <= _MAX_ADDRESS_SHOWN)
        warning = (
            f"{len(self.skipped)} of {len(self.skipped) + len(self.files)} files of the result were not "
            f"fetched, because "
            f"together they have more than {_MAX_RESULT_BYTES // 1024**2} MB. {self._location_of_skipped(at)}"
        )
        return (*(one for one in self.job.warnings if one != warning), warning)

    def _location_of_skipped(self, at: str) -> str:
        title, until = self.context.provider(self.job).title, output_expiry(self.context, self.job)
        kept = f" until {timestamp(until)}" if until is not None else ""
        return f"They are at {title}{kept}{': ' if at else '.'}{at}"

    async def wait_for_retry(self, error: RotoscopeError) -> None:
        """Wait until the next try, and ask for new addresses now and then.

        Raises:
            OutputLost: there is none; says where the result is and until when.
        """
        self._add_elapsed(0.0)
        self.tries += 1
        self.refusals += error.code in _REFUSAL_CODES or isinstance(error, SlowHost)
        if not self._can_retry(error):
            raise self._output_lost_error(error) from error
        await self._report_delay(error)
        await self.context.sleep(self.pause)
        self._add_elapsed(self.pause)
        spans = self.context.intervals
        most = spans.longest_storage_pause if self._is_held else spans.longest_fetch_pause
        self.pause = min(2 * self.pause, most)
        if not isinstance(error, StorageFailed) and self.tries % _REFRESH_EVERY in (_FIRST_REFRESH, 0):
            await self.refresh_output()

    async def refresh_output(self) -> bool:
        """Ask the provider for its output once more; whether it differs and holds a result."""
        fresh = await _ask_for_output(self.context, self.job)
        if fresh is None or fresh == self.output:
            return False
        with contextlib.suppress(PredictionFailed):
            read_job_output(self.context, self.job, fresh)
            self.output = fresh
        return self.output == fresh

    def _add_elapsed(self, at_least: float) -> None:
        now = anyio.current_time()
        self.elapsed_seconds, self.counted_at = self.elapsed_seconds + max(at_least, now - self.counted_at), now

    @property
    def _is_held(self) -> bool:
        """Whether the file `source` is on some host's disk, and only the vault is waited for."""
        is_ours = self.source.url.startswith("artifact://") and not self.context.vault.is_local
        return is_ours or self.source.url in self.held

    def _can_retry(self, error: RotoscopeError) -> bool:
        """Whether the next try may succeed: a refusal hardly changes, and what came in the reply comes only once.

        What this host holds is waited for as long as it takes, like a ledger that takes nothing; what another host
        holds, for as long as that host may need to come back.
        """
        if self._is_held:
            return isinstance(error, StorageFailed) or self.elapsed_seconds < self.context.intervals.held_wait
        if not self.source.url.startswith("http"):
            return isinstance(error, StorageFailed)
        goes_on = self.refusals < _MAX_REFUSALS and self.fetch_seconds < self.context.intervals.max_fetch
        return goes_on and self.elapsed_seconds < retention_seconds(self.context, self.job)

    async def _report_delay(self, error: RotoscopeError) -> None:
        """Write into the job what is waited for, and where the result is meanwhile."""
        title = self.context.provider(self.job).title
        if self._is_held:
            why, hint = _describe_held(error), error.hint
        elif isinstance(error, StorageFailed):
            why = f"its result cannot be kept here: {error.message} It is fetched as soon as there is room."
            hint = f"Make room in {self.context.vault.location}. {self._location_hint}"
        else:
            why, hint = (
                f"its result cannot be fetched just now: {error.message} It is tried again.",
                self._location_hint,
            )
        message = f"{title} has finished, but {why}"
        if len(self.source.url) <= _MAX_ADDRESS_SHOWN and not self._is_held:
            message = f"{message} {self._location_hint}"
        delay = ErrorRecord(_error_code(error), message, hint)
        patch = Patch(fetch_effort=self._effort(), error=delay, message=message, event="progress")
        with contextlib.suppress(StorageFailed):
            await self.context.advance(self.job, patch)

    @property
    def _location_hint(self) -> str:
        """Where a person finds the result, and until when."""
        title, until = self.context.provider(self.job).title, output_expiry(self.context, self.job)
        if not self.source.url.startswith("http"):
            return "It came in the reply, and is kept in the ledger."
        kept = f"which {title} keeps until {timestamp(until)}" if until is not None else f"as long as {title} keeps it"
        if len(self.source.url) > MAX_URL_LENGTH:
            return f"Its address is too long to be told: look at {title}, {kept}."
        return f"Save it yourself from {self.source.url}, {kept}."

    def _output_lost_error(self, error: RotoscopeError) -> OutputLost:
        """The error of a result that could not be fetched: it was paid for, so it says where the result is."""
        if isinstance(error, OutputLost) and not self.source.url.startswith("http"):
            return error
        title = self.context.provider(self.job).title
        taking_up = f"rotoscope jobs resume {self.job.id} takes it up."
        return OutputLost(
            f"The run at {title} has finished, but its result could not be fetched: {error.message}",
            hint=f"It was probably charged. {self._location_hint} {taking_up}",
            code=_error_code(error),
        )


def _describe_held(error: RotoscopeError) -> str:
    """Why a result that was fetched is not there yet, after "... has finished, but"."""
    if isinstance(error, StorageFailed):
        return f"its result is kept on a host of rotoscope until it can be stored: {error.message} Nothing is lost."
    return "its result is on the disk of another host of rotoscope, which has not stored it yet. It is waited for."


def _error_code(error: RotoscopeError) -> str:
    return error.code if isinstance(error, OutputLost | TooLarge | StorageFailed) else "download_failed"


async def _ask_for_output(context: JobContext, job: Job) -> Json:
    """The output as the provider words it now; None when it gives none."""
    if job.accepted is None:
        return None
    runner = runner_without_recorder(context, job)
    try:
        seen = await runner.ask_once(Waiting(job.accepted.ticket))
        seen = await runner.ask_once(seen) if isinstance(seen, Ready) else seen
    except ProviderError:
        return None
    return seen.output if isinstance(seen, Succeeded) and not isinstance(seen.output, Blob) else None


def _raw_output(context: JobContext, job: Job, n: int, kept: StoredFile, source: OutputFile) -> Output:
    artifact = Artifact(kept.sha256, kept.content_type, kept.size)
    if not source.url.startswith("http") or len(source.url) > MAX_URL_LENGTH:
        return Output("raw", n, artifact)
    return Output("raw", n, artifact, source.url, output_expiry(context, job))


def _keep_scratch(
    keep: Callable[[Path, str, str], StoredFile], scratch: Path, sha256: str, source: OutputFile
) -> StoredFile:
    """The file's own bytes say what it is; what the server called it does not count.

    A document of run lengths has no bytes of its own that tell it: it is read, or refused, when the job is finished.
    """
    content_type = file_content_type(scratch)
    if source.is_document and content_type is None:
        return keep(scratch, sha256, "application/json")
    if content_type is None or not (is_image(content_type) or is_video(content_type)):
        raise OutputLost("The provider's result is no picture and no video.", code="not_media")
    return keep(scratch, sha256, content_type)


def _store_data_uri(context: JobContext, source: OutputFile) -> StoredFile:
    try:
        content = read_data_uri(source.url, MAX_OUTPUT_BYTES)
    except InvalidInput as error:
        raise OutputLost("The provider's result cannot be decoded.", hint=_PAID_HINT, code="corrupt") from error
    content_type = content_type_of(content[:HEAD_BYTES]) or ("application/json" if source.is_document else None)
    if content_type is None:
        raise OutputLost("The provider's result is no picture and no video.", hint=_PAID_HINT, code="not_media")
    return context.vault.put_bytes(content, content_type)
