"""Calls that wait as tasks until somebody has agreed to their price: from the question to the job that a yes starts.

The question is in the ledger before its task is known to the client, and the answer before it is acknowledged. So any
process takes the answer, and one that dies between the two loses nothing: whoever asks for the task next has the job
started. The transaction that opens the job uses the yes up, so no answer is good for two runs.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
from mcp_types import CallToolResult, ElicitResult
from pydantic import ValidationError

from rotoscope.contracts.arguments import parse_arguments
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import OverBudget, RotoscopeError, StorageFailed
from rotoscope.protocol.tasks import Task, current_offer
from rotoscope.server.consent import Consent, ask_by_form, is_yes, refuse_unanswered, take_no
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.server.present.text import error_answer
from rotoscope.store.question_records import QUESTION_LIFE, AskedPrice, PriceQuestion
from rotoscope.store.records import error_record

if TYPE_CHECKING:
    from rotoscope.studio.studio import Studio

__all__ = ["TaskQuestions", "offer_question", "question_task"]

_log = logging.getLogger(__name__)
_POLL = 1000  # a person waits for the form, and then for what comes of the answer
_AGREED = "Agreed. The request is being prepared."
_CANCELLED = "Cancelled before anything was sent or spent."


def offer_question(studio: "Studio", question: PriceQuestion) -> CallToolResult:
    """Turn the call being served into the task of a question; what it is answered with where there is no such task."""
    offer = current_offer()
    assert offer is not None, "only calls of clients that take tasks are asked about in one"
    offer.task_id = question.id
    return error_answer(refuse_unanswered(studio, question))


class TaskQuestions:
    """Finds questions as tasks, takes their answers, and starts the jobs that were agreed to.

    Args:
        lazy_studio: the studio, and where work outlives its request.
        consent: says what needs consent now.
    """

    def __init__(self, lazy_studio: LazyStudio, consent: Consent) -> None:
        self._lazy_studio = lazy_studio
        self._consent = consent
        self._listeners: dict[object, Callable[[str], None]] = {}
        self._starting: set[str] = set()
        self._watched: set[str] = set()

    async def find(self, studio: "Studio", principal: str, task_id: str) -> PriceQuestion | None:
        """The question of that id, if this principal has it. One that was agreed to is taken up, if nobody does."""
        question = await studio.questions.find(task_id, principal)
        if question is None:
            return None
        if question.state == "agreed" and not question.is_expired(studio.questions.clock()):
            self._start(studio, question)
        elif question.state == "open" and question.id not in self._watched:
            self._watched.add(question.id)
            self._lazy_studio.start_soon(self._notify_of_end, studio, question)
        return question

    async def answer(self, studio: "Studio", question: PriceQuestion, responses: Mapping[str, Any]) -> None:
        """Take the answer to a question. What is no answer, or comes too late, changes nothing."""
        given = _read_answer(responses.get(_input_key(question)))
        if given is None:
            return
        if is_yes(given):
            is_taken = await studio.questions.answer(question, "agreed")
        else:
            why = error_record(await take_no(studio, question, given))
            is_taken = await studio.questions.answer(question, "declined", why)
        if is_taken:
            self._notify(question.id)
            await self.find(studio, question.principal, question.id)

    async def cancel(self, studio: "Studio", question: PriceQuestion) -> bool:
        """End a question that has started no job; whether it had not."""
        is_ended = await studio.questions.cancel(question)
        if is_ended:
            self._notify(question.id)
        return is_ended

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call a listener with the id of every question that changes here, until what is returned is called."""
        token = object()
        self._listeners[token] = listener

        def remove_listener() -> None:
            self._listeners.pop(token, None)

        return remove_listener

    def _notify(self, question_id: str) -> None:
        for listener in list(self._listeners.values()):
            listener(question_id)

    async def _notify_of_end(self, studio: "Studio", question: PriceQuestion) -> None:
        """Say when the time of a question is over: then it is another task, and nothing was written."""
        try:
            await anyio.sleep(max(question.expires_at - studio.questions.clock(), 0.0) + _POLL / 1000)
            self._notify(question.id)
        finally:
            self._watched.discard(question.id)

    def _start(self, studio: "Studio", question: PriceQuestion) -> None:
        if question.id not in self._starting:
            self._starting.add(question.id)
            self._lazy_studio.start_soon(self._start_job, studio, question)

    async def _start_job(self, studio: "Studio", question: PriceQuestion) -> None:
        """Start what was agreed to, ask about a price that has changed, or write why it cannot be started."""
        try:
            await self._start_or_ask(studio, question)
        except StorageFailed:
            _log.warning(
                "a job that was agreed to could not be started yet", exc_info=True
            )  # the next look tries again
        except RotoscopeError as error:
            await self._refuse(studio, question, error)
        except Exception as error:  # noqa: BLE001 - here it would end every job; the client is given its name
            _log.exception("a job that was agreed to could not be started")
            message = f"rotoscope failed: {type(error).__name__}."
            hint = "Nothing was sent. Call again; the log of the server says more."
            await self._refuse(studio, question, RotoscopeError(message, hint=hint, code="internal"))
        finally:
            self._starting.discard(question.id)
        self._notify(question.id)

    async def _start_or_ask(self, studio: "Studio", question: PriceQuestion) -> None:
        arguments = parse_arguments(TOOLS[question.tool].arguments, question.args)
        plan = await studio.plan(question.tool, arguments, question.principal)
        agreed = await self._consent.check_agreement(studio, plan, question)
        if isinstance(agreed, AskedPrice):
            await studio.questions.ask_again(question, agreed)
        else:
            await studio.start(plan, agreed.usd, question.id)

    async def _refuse(self, studio: "Studio", question: PriceQuestion, error: RotoscopeError) -> None:
        try:
            await studio.questions.refuse(question, error_record(error))
        except StorageFailed:
            _log.warning("a refusal could not be written", exc_info=True)


def question_task(studio: "Studio", question: PriceQuestion, now: float, retention_seconds: float | None) -> Task:
    """A question that has started no job, as a task. Pure.

    Args:
        studio: knows what the operator can set.
        question: the question.
        now: Unix seconds.
        retention_seconds: how long tasks stay readable; None: without limit.
    """
    life = QUESTION_LIFE if retention_seconds is None else min(QUESTION_LIFE, retention_seconds)
    task = Task(question.id, "working", _AGREED, question.created_at, question.updated_at, round(life * 1000), _POLL)
    error = _error_of(studio, question, now)
    if question.state == "declined" and error is not None:
        return replace(task, status="cancelled", message=f"{error.message} {error.hint}")
    if question.state == "cancelled":
        return replace(task, status="cancelled", message=_CANCELLED)
    if error is not None:
        return replace(task, status="completed", message=f"{error.code}: {error.message}", result=error_answer(error))
    if question.state == "open":
        inputs = {_input_key(question): ask_by_form(question.words)}
        return replace(task, status="input_required", message=question.words, inputs=inputs)
    return task


def _error_of(studio: "Studio", question: PriceQuestion, now: float) -> RotoscopeError | None:
    """Why a call will not be carried out; None while it may be."""
    if question.error is not None:
        return RotoscopeError(question.error.message, hint=question.error.hint, code=question.error.code)
    if not question.is_expired(now):
        return None
    if question.state == "open":
        return refuse_unanswered(studio, question)
    words = "What was agreed to was not begun in time; nothing was sent or spent."
    return OverBudget(words, hint="Call again: the price is asked about once more.", code="consent")


def _input_key(question: PriceQuestion) -> str:
    """The key of a question's round: none is used twice in a task."""
    return f"price-{question.round}"


def _read_answer(given: object) -> ElicitResult | None:
    try:
        return ElicitResult.model_validate(given, by_name=False)
    except ValidationError:
        return None
