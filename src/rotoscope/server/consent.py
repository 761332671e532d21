"""Consent: above a price that the operator sets, and where no price is known, the user agrees before money is spent.

A client that can ask its user is asked: on 2026-07-28 by a task that wants input where it takes tasks, else by a result
that wants input, before that by a request to it. Any other client agrees by its arguments: `dry_run` shows the price,
then the same request passes, once, within some minutes. No answer in time means no spending, and one yes is good for
one run.
"""

import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import anyio
from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from rotoscope.contracts.arguments import Arguments
from rotoscope.contracts.money import count_equal_words, format_price, format_usd
from rotoscope.contracts.results import JobResult
from rotoscope.errors import OverBudget
from rotoscope.protocol.tasks import current_offer
from rotoscope.store.money import ANY_PRICE, millionths_to_usd
from rotoscope.store.question_records import AskedPrice, PriceQuestion

if TYPE_CHECKING:
    from rotoscope.store.records import NewJob
    from rotoscope.studio.planning import RequestPlan
    from rotoscope.studio.studio import Studio

__all__ = ["Consent", "SpendingLimit", "ask_by_form", "is_yes", "refuse_unanswered", "take_no"]

_QUESTION_KEY = "price"  # the key of our one question
_UNPRICED = "unpriced "
_MAX_ARGUMENT_CHARS = 262_144  # of a request that is kept until its price is agreed to
_FORM: dict[str, Any] = {"type": "object", "properties": {}}
"""No field: to accept is the yes. A field, also one that is true beforehand, takes a key more at a terminal."""
_DRY_RUN_HINT = "call with dry_run: true, then the same again without it"
_OPERATOR_HINT = "The operator sets with ROTOSCOPE_ASK_ABOVE_USD what is asked about."
_OPERATOR_HINT_UNPRICED = (
    "The operator sets with ROTOSCOPE_UNPRICED=run that runs of unknown price are not asked about."
)


@dataclass(frozen=True, slots=True)
class SpendingLimit:
    """What a call may spend on a new run: up to `usd` US dollars, or `ANY_PRICE`; None: nobody need agree.

    Time passes between the question and the start of the run: the ledger compares the two prices.
    """

    usd: float | None


@dataclass(frozen=True, slots=True)
class _PriceQuestion:
    """One request at one price (`ANY_PRICE` where it is not known), and the question to the user.

    Attributes:
        studio: remembers which prices were shown and how they were answered.
        principal: on whose behalf the request is made.
        key: equal for requests that this price is for.
    """

    studio: "Studio"
    principal: str
    key: str
    usd: float
    question: str

    @property
    def asked(self) -> AskedPrice:
        """What is asked, without those who ask."""
        return AskedPrice(self.key, self.usd, self.question)

    @property
    def price_text(self) -> str:
        """The price as text."""
        return "an unknown price" if self.usd == ANY_PRICE else f"about {format_usd(self.usd)}"

    @property
    def operator_hint(self) -> str:
        """The setting that decides whether this is asked about."""
        return _OPERATOR_HINT_UNPRICED if self.usd == ANY_PRICE else _OPERATOR_HINT

    @property
    def dismissal_key(self) -> str:
        """Under which it is remembered, for some minutes, that the question was dismissed unanswered."""
        return f"dismissed {self.key}"

    @property
    def decline_key(self) -> str:
        """Under which it is remembered, for some minutes, that the answer was no."""
        return f"declined {self.key}"

    async def record_quote(self, key: str) -> None:
        """Remember something at this price."""
        await self.studio.record_quote(self.principal, key, self.usd)

    async def has_quote(self, key: str) -> bool:
        """Whether that was remembered at no lower price; it stays."""
        return await self.studio.has_valid_quote(self.principal, key, self.usd)

    async def consume_quote(self, key: str) -> bool:
        """Whether that was remembered at no lower price; it is used up."""
        return await self.studio.consume_quote(self.principal, key, self.usd)


@dataclass(frozen=True, slots=True)
class _PendingQuestion:
    """A question that was sent: the client returns it with its answer. Its number is good for one run."""

    key: str
    usd: float
    number: str

    def is_valid_for(self, now: _PriceQuestion) -> bool:
        """Whether it was asked for the same request, at no lower price than now."""
        return self.key == now.key and now.usd <= self.usd


@dataclass(frozen=True, slots=True)
class Consent:
    """Asks before spending.

    Attributes:
        above_usd: the price of a call, in US dollars, above which is asked; None asks never.
    """

    above_usd: float | None

    async def remember_dry_run(self, studio: "Studio", principal: str, shown: JobResult) -> None:
        """A dry run has shown its price: if that needs consent, the same request may be made for some minutes.

        Raises:
            StorageFailed: it cannot be remembered.
        """
        usd = shown.cost.estimate_usd
        if not shown.dry_run:
            return
        if usd is None and studio.asks_about_unknown_price:
            await studio.record_quote(principal, _key_without_price(shown.quote_key), ANY_PRICE)
        elif usd is not None and self.above_usd is not None and usd > self.above_usd:
            await studio.record_quote(principal, shown.quote_key, usd)

    async def ask(
        self, studio: "Studio", plan: "RequestPlan", arguments: Arguments, context: Context[Any, Any], seconds: float
    ) -> InputRequiredResult | PriceQuestion | SpendingLimit:
        """Ask whether a planned call may spend its price, if that needs consent.

        Args:
            studio: remembers which prices were shown.
            plan: the call, its price and its principal.
            arguments: what the plan was made from.
            context: the client, which may be able to ask its user.
            seconds: how long an answer is waited for. One that comes later is no answer.

        Returns:
            What the client must answer before the call is made again; a question with which the call goes on as a
            task; or what this call may spend.

        Raises:
            OverBudget: nobody agreed, or a cap forbids it; nothing was sent and no job was opened.
        """
        offer = await self._price_question(studio, plan)
        if offer is None:
            return SpendingLimit(self.above_usd)
        if not _can_ask_user(context) or await _was_dismissed(offer):
            await _require_dry_run(offer)
        elif await _accept_dry_run(offer):
            pass
        elif context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            await _require_yes(offer, await _ask_by_request(offer, context, seconds))
        elif not await _accept_client_answer(offer, context):
            return await _ask_by_task(offer, plan.new_job.tool, arguments) or await _ask_by_result(offer)
        return SpendingLimit(offer.usd)

    async def check_agreement(
        self, studio: "Studio", plan: "RequestPlan", question: PriceQuestion
    ) -> SpendingLimit | AskedPrice:
        """What a call may spend whose question was answered with yes; or what is to be asked, as its price has changed.

        Raises:
            OverBudget: a cap forbids it now.
        """
        offer = await self._price_question(studio, plan)
        if offer is None:
            return SpendingLimit(self.above_usd)
        return SpendingLimit(offer.usd) if question.covers(offer.asked) else offer.asked

    async def _price_question(self, studio: "Studio", plan: "RequestPlan") -> "_PriceQuestion | None":
        """The price of a planned call, if it must be asked about."""
        if plan.is_dry_run or not self._needs_consent(studio, plan.new_job):
            return None
        if await studio.find_open_job(plan) is not None:
            return None
        from rotoscope.studio.paid_part import find_paid_part

        job = await find_paid_part(studio, plan)
        usd = job.total_estimate_usd
        if not self._needs_consent(studio, job):
            return None
        paid = job.steps if job.plan.parts else (*job.steps, job)
        where = ", then ".join(count_equal_words([f"{one.tool} with {one.model} at {one.provider}" for one in paid]))
        if usd is None:
            key, question = _key_without_price(job.quote_key), f"{where} has no known price. Run it?"
            return _PriceQuestion(studio, job.principal, key, ANY_PRICE, question)
        note = " The sandbox stands in for it and charges nothing." if job.sandbox else ""
        question = f"{where} costs {_price_words(job)}.{note} Run it?"
        return _PriceQuestion(studio, job.principal, job.quote_key, usd, question)

    def _needs_consent(self, studio: "Studio", job: "NewJob") -> bool:
        usd = job.total_estimate_usd
        if usd is None:
            return studio.asks_about_unknown_price
        return self.above_usd is not None and usd > self.above_usd


def _price_words(job: "NewJob") -> str:
    """The price as the user should know it: what it will typically cost, what at most, and how that was computed."""
    assert job.total_estimate_usd is not None
    words = f"about {format_price(job.total_estimate_usd, job.total_at_most_usd)}"
    bases = [one.plan.price_basis for one in (*job.steps, job) if one.plan.price_basis]
    return f"{words} ({'; '.join(count_equal_words(bases))})" if bases else words


def _key_without_price(key: str) -> str:
    """A key of its own: a yes to an unknown price is not a yes to one that became known."""
    return f"{_UNPRICED}{key}"


async def _was_dismissed(offer: _PriceQuestion) -> bool:
    """Whether the question was dismissed lately, or ran out unanswered."""
    if await offer.has_quote(offer.dismissal_key):
        return True
    return current_offer() is not None and await offer.studio.questions.has_unanswered(offer.principal, offer.key)


async def _accept_client_answer(offer: _PriceQuestion, context: Context[Any, Any]) -> bool:
    """Whether the client brings a yes to this request that was not used yet."""
    asked = _read_pending_question(context.request_state)
    answer = (context.input_responses or {}).get(_QUESTION_KEY)
    if asked is None or not asked.is_valid_for(offer) or not isinstance(answer, ElicitResult):
        return False
    await _require_yes(offer, answer)
    return await offer.consume_quote(asked.number)


async def _require_yes(offer: _PriceQuestion, answer: ElicitResult | None) -> None:
    """Refuse the call unless the answer accepts.

    Some clients have no user to ask, and dismiss, decline or ignore every question: the way that works for all is by
    the arguments, and starts again from here. A question without an answer is not repeated for a while; after a no it
    is asked again.
    """
    if answer is not None and is_yes(answer):
        return
    is_dismissed = answer is None or answer.action == "cancel"
    await offer.consume_quote(offer.key)
    await offer.record_quote(offer.dismissal_key if is_dismissed else offer.decline_key)
    raise _refusal(offer, is_dismissed=is_dismissed)


def is_yes(answer: ElicitResult) -> bool:
    """Whether an answer accepts; one that accepts with `spend: false` is a no."""
    spend = (answer.content or {}).get("spend")
    return answer.action == "accept" and (spend is None or spend is True)


def _refusal(offer: _PriceQuestion, *, is_dismissed: bool) -> OverBudget:
    hint = f"If the user agrees to the price: {_DRY_RUN_HINT}. {offer.operator_hint}"
    if not is_dismissed:
        hint = (
            "Ask the user what to change: a shorter, smaller or other run may cost less. Only if the user agrees to "
            f"this price after all: {_DRY_RUN_HINT}. {offer.operator_hint}"
        )
    words = f"Nobody agreed to spend {offer.price_text}: nothing was sent or spent."
    return OverBudget(words, hint=hint, code="consent")


async def take_no(studio: "Studio", question: PriceQuestion, answer: ElicitResult) -> OverBudget:
    """Remember an answer that is no yes, as for any question; why the call is refused."""
    try:
        await _require_yes(_offer_of(studio, question), answer)
    except OverBudget as error:
        return error
    raise AssertionError("only what is no yes comes here")


def refuse_unanswered(studio: "Studio", question: PriceQuestion) -> OverBudget:
    """Why a call is refused whose question nobody has answered in time."""
    return _refusal(_offer_of(studio, question), is_dismissed=True)


def _offer_of(studio: "Studio", question: PriceQuestion) -> _PriceQuestion:
    usd = ANY_PRICE if question.key.startswith(_UNPRICED) else millionths_to_usd(question.millionths)
    return _PriceQuestion(studio, question.principal, question.key, usd, question.words)


async def _accept_dry_run(offer: _PriceQuestion) -> bool:
    """Whether a dry run followed a no. A user who means the no makes none; a client that declines by itself has no
    other way to agree.
    """
    if await offer.has_quote(offer.decline_key) and await offer.consume_quote(offer.key):
        await offer.consume_quote(offer.decline_key)
        return True
    return False


async def _require_dry_run(offer: _PriceQuestion) -> None:
    if not await offer.consume_quote(offer.key):
        raise OverBudget(
            f"This call costs {offer.price_text}, and nobody has agreed to that; nothing was spent.",
            hint=f"Tell the user the price. If the user agrees: {_DRY_RUN_HINT} within "
            f"{offer.studio.quote_seconds / 60:.0f} minutes. {offer.operator_hint}",
            code="consent",
        )
    await offer.consume_quote(offer.dismissal_key)


def _can_ask_user(context: Context[Any, Any]) -> bool:
    """Whether the client shows forms. One that names no mode means forms."""
    declared = context.client_capabilities.elicitation if context.client_capabilities else None
    return declared is not None and (declared.form is not None or declared.url is None)


def _read_pending_question(state: str | None) -> _PendingQuestion | None:
    """The question of the round before. The SDK seals the state, so a client cannot make one up."""
    try:
        return _PendingQuestion(**json.loads(state)) if state else None
    except (ValueError, TypeError):
        return None


async def _ask_by_task(offer: _PriceQuestion, tool: str, arguments: Arguments) -> PriceQuestion | None:
    """The question, kept for the task that the call becomes; None where that cannot be, and it is asked otherwise."""
    if current_offer() is None:
        return None
    args = arguments.model_dump(mode="json", exclude_unset=True)
    if len(json.dumps(args)) > _MAX_ARGUMENT_CHARS:
        return None
    return await offer.studio.questions.ask(offer.principal, tool, args, offer.asked)


async def _ask_by_result(offer: _PriceQuestion) -> InputRequiredResult:
    """The question as a result. Its number waits beside the shown prices until it is used, or too old."""
    asked = _PendingQuestion(offer.key, offer.usd, secrets.token_hex(16))
    await offer.record_quote(asked.number)
    state = json.dumps(asdict(asked))
    return InputRequiredResult(input_requests={_QUESTION_KEY: ask_by_form(offer.question)}, request_state=state)


def ask_by_form(question: str) -> ElicitRequest:
    """A question about a price as the client is sent it."""
    return ElicitRequest(params=ElicitRequestFormParams(message=question, requested_schema=_FORM))


async def _ask_by_request(offer: _PriceQuestion, context: Context[Any, Any], seconds: float) -> ElicitResult | None:
    """The user's answer; None when the client could not ask after all, or nobody answered in time."""
    session = context.request_context.session
    with anyio.move_on_after(seconds), suppress(MCPError):
        return await session.elicit_form(offer.question, _FORM, related_request_id=context.request_id)
    return None
