"""The stage that brings a result home, before its provider removes it; again and again, as long as it may be there."""

import base64
import binascii
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from rotoscope.contracts.times import timestamp
from rotoscope.errors import (
    OutputLost,
    PredictionFailed,
    ProviderError,
    RotoscopeError,
    SlowHost,
    StorageFailed,
    TooLarge,
    UserMistake,
)
from rotoscope.jobs.context import Rooms
from rotoscope.jobs.dispatcher import Grip
from rotoscope.jobs.run_times import expiry, life, number
from rotoscope.jobs.stages.reconcile import quiet_runner
from rotoscope.media.sniff import content_type_of, is_image, is_video
from rotoscope.media.vault import Kept
from rotoscope.models.outputs import LONGEST_ADDRESS, Harvest, Source, harvest
from rotoscope.providers.http.egress import host_allowed
from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Blob, Ready, Succeeded, Waiting, ticket_from_json
from rotoscope.store.records import Artifact, Job, Output, Patch

__all__ = ["OUTPUT_BYTES", "bring_back", "fetch", "harvested"]

OUTPUT_BYTES = 512 * 1024 * 1024
_ALL_BYTES = 2 * OUTPUT_BYTES  # of all files of one result together
_LONGEST_FETCHING = 3600.0  # seconds of fetching over all tries, the pauses between them not counted in
_TRIES = 3  # for an answer that will hardly change
_SAYS_NO = frozenset({"output_blocked", "not_media", "too_large", "url_malformed", "url_scheme", "url_blocked"})
_LONGEST_PAUSE = 300.0  # seconds
_FIRST_RENEWAL, _RENEWAL_EVERY = 2, 4  # tries: addresses are asked for anew after so many
_TOLD = 5  # addresses in one warning
_SHOWN_ADDRESS = 500  # characters of an address in a message; longer ones are in the hint alone
_SNIFFED_BYTES = 64
_PAID = "The run was probably charged; look for its result at the provider."
_PASSING = (OutputLost, ProviderError, UserMistake, StorageFailed)


async def fetch(rooms: Rooms, job: Job, _: Grip) -> Patch:
    """Copy every file of the output into the vault.

    An address that does not answer, a file that comes short and a disk that is full may all be over the next time, and
    what was paid for is there as long as the provider keeps it. So it is tried again, with growing pauses, and anybody
    who looks at the job reads where the result is and until when.

    Raises:
        OutputLost: it cannot be fetched, or could not be as long as the provider keeps it.
        PredictionFailed: there is no result in the output.
    """
    fetching = _Fetching(rooms, job, job.data.get("output"), number(job.data.get("unfetched")) or 0.0)
    while True:
        try:
            return await fetching.try_all()
        except _PASSING as error:
            await fetching.wait(error)


async def bring_back(rooms: Rooms, job: Job) -> Sequence[Output]:
    """Fetch the files of an output once more, now or not at all; new addresses are asked for where the old are over.

    Raises:
        RotoscopeError: it does not succeed now.
    """
    fetching = _Fetching(rooms, job, job.data.get("output"))
    try:
        return (await fetching.try_all()).outputs
    except OutputLost:
        if not await fetching.renew():
            raise
    return (await fetching.try_all()).outputs


def harvested(rooms: Rooms, job: Job, output: Json = None) -> Harvest:
    """What the output of a job holds; as the job has it, or as it was told anew.

    Raises:
        PredictionFailed: there is no result in it.
    """
    metrics = job.data.get("metrics")
    known = job.data.get("output") if output is None else output
    told = metrics if isinstance(metrics, dict) else {}
    found = harvest(rooms.manifest(job), known, told, partial(_serves, rooms, job))
    # Only the sandbox speaks for itself in our voice; the same field of anybody else's is just one of many.
    return found if job.sandbox else replace(found, notice=None)


def _serves(rooms: Rooms, job: Job, url: str) -> bool:
    """Whether an address is the provider's own: on a host for its outputs, or where the operator says that it is."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    provider = rooms.provider(job)
    usual = {urlsplit(base).netloc.lower() for base in provider.bases.values()}
    named = {urlsplit(base).netloc.lower() for base in rooms.dialects[job.provider].bases.values()} - usual
    return host_allowed(host, provider.output_hosts) or parts.netloc.lower() in named


@dataclass(slots=True)
class _Fetching:
    """One job's result on its way home.

    Attributes:
        output: what the provider has said, with the addresses that are tried.
        waited: the seconds that were seen to pass since the first try.
        kept: what is here already, by its address.
        left: what is not fetched, because all together it would be too large.
        source: what was tried last.
        fetching: the seconds that all tries together have taken.
    """

    rooms: Rooms
    job: Job
    output: Json
    waited: float = 0.0
    kept: dict[str, Kept] = field(default_factory=dict)
    left: list[Source] = field(default_factory=list)
    fetching: float = 0.0
    source: Source = field(default_factory=lambda: Source(""))
    pause: float = 1.0
    tries: int = 0
    refusals: int = 0
    counted_at: float = field(default_factory=anyio.current_time)

    async def try_all(self) -> Patch:
        """Fetch what is not here yet."""
        found = harvested(self.rooms, self.job, self.output)
        sources = [*found.masks, *([found.video] if found.video else [])]
        begun, self.left = anyio.current_time(), []
        try:
            for self.source in sources:
                if self.source.url not in self.kept:
                    await self._bring()
        finally:
            self.fetching += anyio.current_time() - begun
        here = [source for source in sources if source.url in self.kept]
        outputs = tuple(_raw_output(self.rooms, self.job, n, self.kept[s.url], s) for n, s in enumerate(here))
        known: dict[str, Json] = {"output": self.output, "unfetched": 0.0, "warnings": self._warnings()}
        return Patch(stage="finish", data=known, outputs=outputs, message="Measuring the result.", progress=0.97)

    async def _bring(self) -> None:
        """Fetch one file, unless all files together would be too large: then it is left where it is, and told."""
        room = _ALL_BYTES - sum(kept.size for kept in self.kept.values())
        try:
            if room > 0:
                self.kept[self.source.url] = await _fetched(self.rooms, self.job, self.source, min(room, OUTPUT_BYTES))
        except TooLarge:
            if not self.kept or room >= OUTPUT_BYTES:
                raise
            room = 0
        if room <= 0:
            self.left.append(self.source)

    def _warnings(self) -> list[Json]:
        known = self.job.data.get("warnings")
        earlier = list(known) if isinstance(known, list) else []
        if not self.left:
            return earlier
        at = " ".join(one.url for one in self.left[:_TOLD] if len(one.url) <= _SHOWN_ADDRESS)
        words = (
            f"{len(self.left)} of {len(self.left) + len(self.kept)} files of the result were not fetched, because "
            f"together they have more than {_ALL_BYTES // 1024**2} MB. {self._where_left(at)}"
        )
        return [*(one for one in earlier if one != words), words]

    def _where_left(self, at: str) -> str:
        title, until = self.rooms.provider(self.job).title, expiry(self.rooms, self.job)
        kept = f" until {timestamp(until)}" if until is not None else ""
        return f"They are at {title}{kept}{': ' if at else '.'}{at}"

    async def wait(self, error: RotoscopeError) -> None:
        """Wait until the next try, and ask for new addresses now and then.

        Raises:
            OutputLost: there is none; says where the result is and until when.
        """
        self._count(0.0)
        self.tries += 1
        self.refusals += error.code in _SAYS_NO or isinstance(error, SlowHost)
        if not self._may_pass(error):
            raise self._lost(error) from error
        await self._tell(error)
        await self.rooms.sleep(self.pause)
        self._count(self.pause)
        self.pause = min(2 * self.pause, _LONGEST_PAUSE)
        if not isinstance(error, StorageFailed) and self.tries % _RENEWAL_EVERY in (_FIRST_RENEWAL, 0):
            await self.renew()

    async def renew(self) -> bool:
        """Ask the provider for its output once more; whether it says anything new."""
        fresh = await _asked_anew(self.rooms, self.job)
        if fresh is None or fresh == self.output:
            return False
        with contextlib.suppress(PredictionFailed):
            harvested(self.rooms, self.job, fresh)
            self.output = fresh
        return self.output == fresh

    def _count(self, at_least: float) -> None:
        now = anyio.current_time()
        self.waited, self.counted_at = self.waited + max(at_least, now - self.counted_at), now

    def _may_pass(self, error: RotoscopeError) -> bool:
        """Whether the next try may succeed: what was refused hardly changes, and what lay in the reply is gone."""
        if not self.source.url.startswith("http"):
            return isinstance(error, StorageFailed)
        goes_on = self.refusals < _TRIES and self.fetching < _LONGEST_FETCHING
        return goes_on and self.waited < life(self.rooms, self.job)

    async def _tell(self, error: RotoscopeError) -> None:
        """Who looks at the job learns what is waited for, and where the result is meanwhile."""
        title = self.rooms.provider(self.job).title
        if isinstance(error, StorageFailed):
            why = f"its result cannot be kept here: {error.message} It is fetched as soon as there is room."
            hint = f"Make room in {self.rooms.vault.folder}. {self._where}"
        else:
            why, hint = f"its result cannot be fetched just now: {error.message} It is tried again.", self._where
        message = f"{title} has finished, but {why}"
        if len(self.source.url) <= _SHOWN_ADDRESS:
            message = f"{message} {self._where}"
        problem = {"code": _code(error), "message": message, "hint": hint}
        patch = Patch(data={"unfetched": self.waited}, error=problem, message=message, event="progress")
        with contextlib.suppress(StorageFailed):
            await self.rooms.advance(self.job, patch)

    @property
    def _where(self) -> str:
        """Where a person finds the result, and until when."""
        title, until = self.rooms.provider(self.job).title, expiry(self.rooms, self.job)
        if not self.source.url.startswith("http"):
            return "It came in the reply, and is kept in the ledger."
        kept = f"which {title} keeps until {timestamp(until)}" if until is not None else f"as long as {title} keeps it"
        if len(self.source.url) > LONGEST_ADDRESS:
            return f"Its address is too long to be told: look at {title}, {kept}."
        return f"Save it yourself from {self.source.url}, {kept}."

    def _lost(self, error: RotoscopeError) -> OutputLost:
        """The last word on a result that could not be brought home: it was paid for, so the user learns where it is."""
        if isinstance(error, OutputLost) and not self.source.url.startswith("http"):
            return error
        title = self.rooms.provider(self.job).title
        taking_up = f"rotoscope jobs resume {self.job.id} takes it up."
        return OutputLost(
            f"The run at {title} has finished, but its result could not be fetched: {error.message}",
            hint=f"It was probably charged. {self._where} {taking_up}",
            code=_code(error),
        )


def _code(error: RotoscopeError) -> str:
    return error.code if isinstance(error, OutputLost | TooLarge | StorageFailed) else "download_failed"


async def _asked_anew(rooms: Rooms, job: Job) -> Json:
    """The output as the provider words it now; None when it does not."""
    known = job.data.get("ticket")
    if not isinstance(known, dict):
        return None
    runner = quiet_runner(rooms, job)
    try:
        seen = await runner.look(Waiting(ticket_from_json(known)))
        seen = await runner.look(seen) if isinstance(seen, Ready) else seen
    except ProviderError:
        return None
    return seen.output if isinstance(seen, Succeeded) and not isinstance(seen.output, Blob) else None


def _raw_output(rooms: Rooms, job: Job, n: int, kept: Kept, source: Source) -> Output:
    artifact = Artifact(kept.sha256, kept.content_type, kept.size)
    if not source.url.startswith("http") or len(source.url) > LONGEST_ADDRESS:
        return Output("raw", n, artifact)
    return Output("raw", n, artifact, source.url, expiry(rooms, job))


async def _fetched(rooms: Rooms, job: Job, source: Source, limit: int) -> Kept:
    if source.url.startswith("artifact://"):
        return await anyio.to_thread.run_sync(_already_kept, rooms, source.url)
    if source.url.startswith("data:"):
        return await anyio.to_thread.run_sync(_inline, rooms, source.url)
    return await _downloaded(rooms, job, source, limit)


async def _downloaded(rooms: Rooms, job: Job, source: Source, limit: int) -> Kept:
    scratch = await anyio.to_thread.run_sync(rooms.vault.scratch)
    try:
        got = await rooms.wire.download(job.provider, source.url, scratch, limit)
        return await anyio.to_thread.run_sync(_adopted, rooms, scratch, got.sha256)
    finally:
        scratch.unlink(missing_ok=True)


def _adopted(rooms: Rooms, scratch: Path, sha256: str) -> Kept:
    """The file's own bytes say what it is; what the server called it does not count."""
    with scratch.open("rb") as file:
        content_type = content_type_of(file.read(_SNIFFED_BYTES))
    if content_type is None or not (is_image(content_type) or is_video(content_type)):
        raise OutputLost("The provider's result is no picture and no video.", code="not_media")
    return rooms.vault.adopt(scratch, sha256, content_type)


def _already_kept(rooms: Rooms, uri: str) -> Kept:
    path = rooms.vault.find(uri.removeprefix("artifact://"))
    if path is None:
        raise OutputLost("The result is no longer in the results folder.", hint=_PAID)
    content = path.read_bytes()
    content_type = content_type_of(content[:_SNIFFED_BYTES]) or "application/octet-stream"
    return Kept(hashlib.sha256(content).hexdigest(), len(content), content_type, path)


def _inline(rooms: Rooms, uri: str) -> Kept:
    try:
        content = base64.b64decode(uri.partition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise OutputLost("The provider's result cannot be decoded.", hint=_PAID, code="corrupt") from error
    content_type = content_type_of(content[:_SNIFFED_BYTES])
    if content_type is None:
        raise OutputLost("The provider's result is no picture and no video.", hint=_PAID, code="not_media")
    return rooms.vault.keep(content, content_type)
