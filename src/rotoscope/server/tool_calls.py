"""The way of one tool call: from its arguments to its answer, as long as its client waits, with progress.

A call that pays is planned, asked about if its price needs consent, and carried out; all others go to the studio as
they are. When the client's time is up, a job that still runs is answered by its handle, and goes on. A client that goes
away only stops waiting: its job goes on, and so does the check of its media.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, InputRequiredResult

from rotoscope.contracts.arguments import Arguments, GetJob, UploadMedia, ViewMedia, parse_arguments
from rotoscope.contracts.results import Cost, JobList, JobResult
from rotoscope.contracts.tools import TOOLS, ToolContract
from rotoscope.errors import InvalidInput, MissingKey, RotoscopeError, StillChecking, StorageFailed
from rotoscope.jobs.concurrency import run_with_background
from rotoscope.protocol.requests import arrival_time
from rotoscope.protocol.tasks import PrincipalOf, has_tasks_extension
from rotoscope.server.clients.profiles import CallTracker, ClientCall, inline_budget, poll_budget
from rotoscope.server.consent import Consent, SpendingLimit
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.server.present.content import content_blocks, view_media
from rotoscope.server.present.text import error_answer, list_answer, result_answer, with_poll_hint
from rotoscope.server.task_questions import offer_question
from rotoscope.server.tasks import offer_task
from rotoscope.server.upload_calls import answer_upload
from rotoscope.store.records import Job

if TYPE_CHECKING:
    from rotoscope.server.key_entry import KeyEntry
    from rotoscope.studio.planning import RequestPlan
    from rotoscope.studio.studio import Studio

__all__ = ["ProgressReporter", "ToolCalls"]

_log = logging.getLogger(__name__)
_MAX_ECHO_CHARS = 200  # characters of an argument that are repeated
_REPORT_SECONDS = 0.95  # changes are looked for once a second: one that comes a little early is not put off
_FIRST_REPORT_SECONDS = 0.8  # after the request came in: it is on its way for some of the first second
_STARTING = "rotoscope is starting."
_MIN_INCREMENT, _MAX_IDLE_PROGRESS = 0.00005, 0.99


@dataclass(frozen=True, slots=True)
class _OpenCall:
    """One call that waits for its answer.

    Attributes:
        principal: on whose behalf it is made.
        client: which client makes it, and what is learned from it.
        started_at: when its request came in, in seconds of `time.monotonic`: opening the studio and asking the user
            take of the client's time too.
        inline_seconds: how long any call of this client may stay open.
        poll_seconds: how long its `get_job` may.
    """

    tool: str
    arguments: Arguments
    context: Context[LazyStudio, Any]
    principal: str
    client: ClientCall
    reporter: "ProgressReporter"
    started_at: float
    inline_seconds: float
    poll_seconds: float

    @property
    def longest_seconds(self) -> float:
        """How long this very call may stay open, whether or not it becomes a task before."""
        return self.poll_seconds if isinstance(self.arguments, GetJob | UploadMedia) else self.inline_seconds

    @property
    def wants_progress(self) -> bool:
        """Whether progress could reach the client: over HTTP only by the token that it has sent."""
        request = self.context.request_context
        return request.request is None or (request.meta or {}).get("progress_token") is not None

    def remaining(self, seconds: float) -> float:
        """What is left of so many seconds since the request came in."""
        return _remaining_seconds(self.started_at, seconds)


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Answers tool calls from the studio.

    Attributes:
        clients: tells the clients apart.
        inline_seconds: how long a call stays open, where the operator has decided it for all clients.
        principal_of: on whose behalf a request comes.
        tools: those that there are.
        public_url: where files are uploaded to, if they are.
        key_entry: asks principals for keys of their own; None: there is no page for that.
    """

    lazy_studio: LazyStudio
    clients: CallTracker
    inline_seconds: float | None
    consent: Consent
    principal_of: PrincipalOf
    tools: Mapping[str, ToolContract] = field(default_factory=lambda: TOOLS)
    public_url: str = ""
    key_entry: "KeyEntry | None" = None

    async def answer(
        self, name: str, arguments: Mapping[str, object], context: Context[LazyStudio, Any]
    ) -> CallToolResult | InputRequiredResult:
        """The answer to a call. Every refusal and every failure is an answer too, with a code and a next step.

        Raises:
            MCPError: the request breaks the protocol.
        """
        try:
            return await self._answer_in_time(self._open_call(name, _parse_call(self.tools, name, arguments), context))
        except MCPError:
            raise
        except StorageFailed as error:
            return error_answer(self._without_places(error))
        except RotoscopeError as error:
            return error_answer(error)
        except Exception as error:  # noqa: BLE001 - the outermost edge: no traceback may reach a client
            _log.exception("%s failed", name)
            message = f"rotoscope failed: {type(error).__name__}."
            return error_answer(RotoscopeError(message, hint="Its log says more.", code="internal"))

    def _without_places(self, error: StorageFailed) -> StorageFailed:
        """What is wrong with the server's storage; where clients are elsewhere, its paths go to the log alone."""
        if not self.public_url:
            return error
        _log.warning("%s %s", error.message, error.hint)
        message = "The server's storage cannot be used now, so nothing was begun; a run that is paid for is not lost."
        return StorageFailed(message, hint="Try again in a minute. The server's log says more.")

    def _open_call(self, name: str, arguments: Arguments, context: Context[LazyStudio, Any]) -> _OpenCall:
        started_at = arrival_time()
        client = self.clients.begin_call(name, arguments, context, started_at)
        return _OpenCall(
            name,
            arguments,
            context,
            self.principal_of(context.request_context),
            client,
            ProgressReporter(context.report_progress),
            started_at,
            # A setting of 0 answers with a handle at once; planning still gets the time that the client has.
            inline_seconds=self.inline_seconds or client.profile.inline_seconds,
            poll_seconds=poll_budget(client.profile, self.inline_seconds),
        )

    async def _answer_in_time(self, call: _OpenCall) -> CallToolResult | InputRequiredResult:
        """The answer, with progress until there is a job; where planning takes too long, a request to call again."""
        try:
            if not call.wants_progress:
                return await self._answer(call)
            report = partial(call.reporter.report_until_job, call.started_at)
            return await run_with_background(partial(self._answer, call), report)
        except StillChecking as error:
            call.client.mark_dismissed()
            if not self.tools[call.tool].can_cost_money:
                raise
            seconds = time.monotonic() - call.started_at
            return result_answer(_checking_result(call.tool, call.arguments, error, seconds))
        except RotoscopeError:
            call.client.mark_dismissed()
            raise
        finally:
            call.client.mark_ended()

    async def _answer(self, call: _OpenCall) -> CallToolResult | InputRequiredResult:
        studio = await self._wait_for_studio(call)
        await studio.note_job_use(call.arguments, call.principal)
        report = call.reporter.report_job
        if isinstance(call.arguments, ViewMedia):
            return await view_media(studio, call.arguments.uri, call.principal, call.client.profile.view_bytes)
        if isinstance(call.arguments, UploadMedia):
            left = call.remaining(call.poll_seconds)
            return await answer_upload(studio, call.arguments, call.principal, self.public_url, left)
        if self.tools[call.tool].can_cost_money:
            paid = await self._carry_out(studio, call)
            return await self._deliver(studio, call, paid) if isinstance(paid, JobResult) else paid
        left = call.remaining(call.poll_seconds if isinstance(call.arguments, GetJob) else self._budget(call))
        result = await studio.perform(call.tool, call.arguments, call.principal, left, report)
        return list_answer(result) if isinstance(result, JobList) else await self._deliver(studio, call, result)

    async def _wait_for_studio(self, call: _OpenCall) -> "Studio":
        """The studio, if it is open before the client must be answered."""
        with anyio.move_on_after(call.remaining(call.inline_seconds)):
            return await self.lazy_studio.studio()
        raise StillChecking(
            "rotoscope is still starting; nothing was sent or spent yet.",
            hint="Call again with the very same arguments.",
        )

    async def _carry_out(self, studio: "Studio", call: _OpenCall) -> JobResult | InputRequiredResult | CallToolResult:
        """Plan a paying call, have its price agreed to if that is needed, and start its job."""
        call.reporter.activity = "Preparing the request and its media."
        plan = await self._plan(studio, call)
        if isinstance(plan, InputRequiredResult):
            call.client.mark_dismissed()
            return plan
        left = call.remaining(call.inline_seconds)
        agreed = await self.consent.ask(studio, plan, call.arguments, call.context, left)
        if not isinstance(agreed, SpendingLimit):
            call.client.mark_dismissed()
            return agreed if isinstance(agreed, InputRequiredResult) else offer_question(studio, agreed)
        left = call.remaining(self._budget(call))
        result = await studio.carry_out(plan, left, call.reporter.report_job, agreed.usd)
        offer_task(call.tool, result)
        await self.consent.remember_dry_run(studio, call.principal, result)
        return result

    async def _plan(self, studio: "Studio", call: _OpenCall) -> "RequestPlan | InputRequiredResult":
        """The plan of a call; where its principal has given no key that it needs, it is asked to enter one."""
        try:
            return await studio.plan(call.tool, call.arguments, call.principal, call.remaining(call.inline_seconds))
        except MissingKey as error:
            if self.key_entry is None or not error.providers:
                raise
            left = call.remaining(call.inline_seconds)
            asked = await self.key_entry.ask(error, call.context, call.principal, left)
        if asked is not None:
            return asked
        return await studio.plan(call.tool, call.arguments, call.principal, call.remaining(call.inline_seconds))

    async def _deliver(self, studio: "Studio", call: _OpenCall, result: JobResult) -> CallToolResult:
        """The answer that holds a job. From here on it counts as delivered, unless it comes too late to arrive."""
        blocks = await content_blocks(call.client.profile, studio, result, call.principal)
        wanted = call.arguments.wait_seconds if isinstance(call.arguments, GetJob) else 0.0
        longest = call.client.mark_answered(result) if self.inline_seconds is None else call.poll_seconds
        answer = result_answer(with_poll_hint(result, longest, wanted), *blocks)
        # Last: a call that is cut off before this has received nothing.
        await studio.mark_delivered(result, call.principal, late=call.client.is_late(call.longest_seconds))
        return answer

    def _budget(self, call: _OpenCall) -> float:
        """How long this call may stay open. Only what pays becomes a task: the others promise a job as it is."""
        contract = self.tools[call.tool]
        tasks = contract.can_cost_money and has_tasks_extension(call.context.request_context)
        return inline_budget(call.client.profile, contract.usual_seconds, self.inline_seconds, tasks=tasks)


def _remaining_seconds(started_at: float, seconds: float) -> float:
    """What is left of so many seconds that began at a moment."""
    return max(0.0, started_at + seconds - time.monotonic())


def _parse_call(tools: Mapping[str, ToolContract], name: str, arguments: Mapping[str, object]) -> Arguments:
    contract = tools.get(name)
    if contract is None:
        raise InvalidInput(f"There is no tool {name[:80]!r}.", hint=f"Tools: {', '.join(tools)}.", code="unknown_tool")
    return parse_arguments(contract.arguments, arguments)


@dataclass(slots=True)
class ProgressReporter:
    """Reports progress of one call to its client: strictly more each time, about once a second, the job's id first.

    Attributes:
        activity: what goes on before there is a job, as a sentence; it may change.
    """

    send: Callable[[float, float | None, str | None], Awaitable[None]]
    clock: Callable[[], float] = time.monotonic
    activity: str = _STARTING
    _last_progress: float = field(default=-1.0, init=False)
    _last_report_at: float = field(default=float("-inf"), init=False)
    _has_job: bool = field(default=False, init=False)

    async def report_job(self, job: Job) -> None:
        """Report a change of the job, unless the last report is less than a second old."""
        first, self._has_job = not self._has_job, True
        message = f"job {job.id}: {job.message or job.state}" if first else job.message
        await self._send_progress(job.progress, message, at_once=first)

    async def report_until_job(
        self, started_at: float, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    ) -> None:
        """Report once a second that the call is alive, from within its first second on, until there is a job to report.

        Args:
            started_at: when it came, in seconds of the clock.
            sleep: waits some seconds.
        """
        while not self._has_job:
            due = max(started_at + _FIRST_REPORT_SECONDS, self._last_report_at + _REPORT_SECONDS)
            await sleep(max(due - self.clock(), 0.0))
            if not self._has_job:
                await self._send_progress(0.0, f"{self.activity} {self.clock() - started_at:.0f} s so far.")

    async def _send_progress(self, share: float, message: str | None, *, at_once: bool = False) -> None:
        now = self.clock()
        if now - self._last_report_at < _REPORT_SECONDS and not at_once:
            return
        # Also where nothing moves: clients give up on silence, and the protocol wants a larger value each time.
        progress = max(share, min(self._last_progress + _MIN_INCREMENT, _MAX_IDLE_PROGRESS))
        if progress <= self._last_progress:
            return
        self._last_progress, self._last_report_at = progress, now
        await self.send(progress, 1.0, message)


def _checking_result(tool: str, arguments: Arguments, why: StillChecking, seconds: float) -> JobResult:
    """The answer to a call whose client cannot wait until its request is checked.

    There is no job yet, so there is no id to ask for; the same call made again takes up the check or its outcome.

    Args:
        tool: the tool.
        arguments: what it was asked.
        why: what takes so long.
        seconds: how long the call was open.
    """
    given = arguments.model_dump(mode="json", exclude_none=True, exclude={"dry_run"})
    return TOOLS[tool].job_record(
        job_id="",
        status="queued",
        tool=tool,
        model=str(given.get("model") or ""),
        provider="",
        sandbox=False,
        progress=0.0,
        message=why.message,
        elapsed_seconds=round(seconds, 3),
        cost=Cost(charged_usd=0.0),
        request={name: _shorten_argument(value) for name, value in given.items()},
        next_step=f"Call {tool} again with the very same arguments: it goes on from there, and pays once.",
        dry_run=bool(getattr(arguments, "dry_run", False)),
    )


def _shorten_argument(value: object) -> object:
    if isinstance(value, list):
        return [_shorten_argument(one) for one in value]
    if isinstance(value, dict):
        return {name: _shorten_argument(one) for name, one in value.items()}
    return f"{value[:_MAX_ECHO_CHARS]}…" if isinstance(value, str) and len(value) > _MAX_ECHO_CHARS else value
