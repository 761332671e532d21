"""Questions about a price, for which a call waits as a task: any process takes the answer, also after a crash.

    open -> agreed -> started       a yes, then the transaction that opens or joins the job (`take_agreement`)
    open -> declined                a no
    agreed -> open                  the price had changed: it is asked about once more
    agreed -> refused               the request cannot be carried out any more
    open, agreed -> cancelled       the client has cancelled the task

An open question whose time is over is answered by nobody, and an agreement whose time is over starts nothing; neither
needs a write for that. Every change names the state that it leaves, so of two that come at once one changes nothing.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, func, insert, select, update

from rotoscope.errors import OverBudget
from rotoscope.providers.http.messages import Json
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.job_data import ErrorRecord
from rotoscope.store.money import usd_to_millionths
from rotoscope.store.question_records import QUESTION_LIFE, AskedPrice, PriceQuestion
from rotoscope.store.schema import price_questions
from rotoscope.store.write_locks import WriteLock

__all__ = ["Questions", "name_questions", "remove_old_questions", "take_agreement"]

_MAX_OPEN = 100  # of one principal
_TABLE = price_questions.c


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions of a ledger.

    Attributes:
        database: where they are kept.
        clock: the time in Unix seconds.
        seconds: how long an answer is waited for.
    """

    database: Database
    clock: Callable[[], float]
    seconds: float

    async def ask(self, principal: str, tool: str, args: Mapping[str, Json], asked: AskedPrice) -> PriceQuestion | None:
        """Write a question; an equal call whose question is open joins that one.

        Returns:
            The question; None where so many of this principal are open that no more are kept.

        Raises:
            StorageFailed: it cannot be kept.
        """
        now = self.clock()

        def write(connection: Connection) -> PriceQuestion | None:
            connection.execute(delete(price_questions).where(_TABLE.principal == principal, *_old(now)))
            for question in _read_all(connection, *_of_request(principal, asked.key), *_answerable(now)):
                if question.tool == tool and question.args == args and question.millionths == price:
                    return question
            open_ones = select(func.count()).where(_TABLE.principal == principal, *_answerable(now))
            if connection.execute(open_ones).scalar_one() >= _MAX_OPEN:
                return None
            row = {
                "id": secrets.token_hex(16), "principal": principal, "tool": tool, "args": args, "round": 1,
                "created_at": now, **self._asked_columns(asked, now),
            }  # fmt: skip
            return _question(
                connection.execute(insert(price_questions).returning(price_questions), row).mappings().one()
            )

        price = usd_to_millionths(asked.usd)
        lock = WriteLock(names=name_questions(principal))
        return await self.database.transact(write, max_wait_seconds=QUICK_SECONDS, lock=lock)

    async def find(self, question_id: str, principal: str) -> PriceQuestion | None:
        """A question by its id; None where this principal has none."""
        terms = (_TABLE.id == question_id, _TABLE.principal == principal)
        found = await self.database.transact(lambda c: _read_all(c, *terms), writes=False, is_one_look=True)
        return found[0] if found else None

    async def has_unanswered(self, principal: str, key: str) -> bool:
        """Whether such a question ran out lately: who asks nobody is asked otherwise."""
        now = self.clock()
        terms = (*_of_request(principal, key), _TABLE.state == "open")
        lately = (_TABLE.expires_at < now, _TABLE.expires_at >= now - self.seconds)
        return bool(await self.database.transact(lambda c: _read_all(c, *terms, *lately), writes=False))

    async def answer(
        self, question: PriceQuestion, state: Literal["agreed", "declined"], error: ErrorRecord | None = None
    ) -> bool:
        """Take an answer to the very round that is open, a no with what it means; whether it came in time."""
        now = self.clock()
        terms = (_TABLE.round == question.round, *_answerable(now))
        columns: dict[str, object] = {"state": state, "updated_at": now, "expires_at": now + self.seconds}
        if error is not None:
            columns["error"] = asdict(error)
        return await self._change(question, terms, columns)

    async def ask_again(self, question: PriceQuestion, asked: AskedPrice) -> bool:
        """Ask about another price than the one that was agreed to."""
        columns = {"round": question.round + 1, **self._asked_columns(asked, self.clock())}
        return await self._change(question, (_TABLE.state == "agreed",), columns)

    async def refuse(self, question: PriceQuestion, error: ErrorRecord) -> bool:
        """Write why what was agreed to cannot be carried out."""
        columns = {"state": "refused", "error": asdict(error), "updated_at": self.clock()}
        return await self._change(question, (_TABLE.state == "agreed",), columns)

    async def cancel(self, question: PriceQuestion) -> bool:
        """End a question that has started no job; whether it had not."""
        columns = {"state": "cancelled", "updated_at": self.clock()}
        return await self._change(question, (_TABLE.state.in_(("open", "agreed")),), columns)

    async def _change(
        self, question: PriceQuestion, terms: tuple[ColumnElement[bool], ...], columns: Mapping[str, object]
    ) -> bool:
        whose = (_TABLE.id == question.id, _TABLE.principal == question.principal)
        changing = update(price_questions).where(*whose, *terms).values(**columns)
        lock = WriteLock(names=name_questions(question.principal))
        return await self.database.transact(
            lambda c: c.execute(changing).rowcount > 0, max_wait_seconds=QUICK_SECONDS, lock=lock
        )

    def _asked_columns(self, asked: AskedPrice, now: float) -> dict[str, object]:
        return {
            "quote_key": asked.key,
            "price": usd_to_millionths(asked.usd),
            "words": asked.words,
            "state": "open",
            "updated_at": now,
            "expires_at": now + self.seconds,
        }


def take_agreement(connection: Connection, question_id: str, principal: str, job_id: str, now: float) -> None:
    """Use an agreement up, in the transaction that opens or joins its job: it is good for one.

    Raises:
        OverBudget: it was withdrawn, used or is too old; nothing was begun.
    """
    whose = (_TABLE.id == question_id, _TABLE.principal == principal)
    holds = (_TABLE.state == "agreed", _TABLE.expires_at >= now)
    using = update(price_questions).where(*whose, *holds).values(state="started", job_id=job_id, updated_at=now)
    if connection.execute(using).rowcount == 0:
        raise OverBudget(
            "What was agreed to was withdrawn, or is too old; nothing was spent.", hint="Call again.", code="consent"
        )


def remove_old_questions(connection: Connection, now: float) -> None:
    """Remove the questions of all principals that need not be readable any more, in the caller's transaction."""
    connection.execute(delete(price_questions).where(*_old(now)))


def name_questions(principal: str) -> frozenset[str]:
    """What stands for which questions a principal has, among the names that a transaction locks."""
    return frozenset({f"questions {principal}"})


def _old(now: float) -> tuple[ColumnElement[bool], ...]:
    return (_TABLE.updated_at < now - QUESTION_LIFE,)


def _answerable(now: float) -> tuple[ColumnElement[bool], ...]:
    return (_TABLE.state == "open", _TABLE.expires_at >= now)


def _of_request(principal: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return (_TABLE.principal == principal, _TABLE.quote_key == key)


def _read_all(connection: Connection, *terms: ColumnElement[bool]) -> list[PriceQuestion]:
    return [_question(row) for row in connection.execute(select(price_questions).where(*terms)).mappings()]


def _question(row: RowMapping) -> PriceQuestion:
    columns: dict[str, Any] = dict(row)
    error = columns.pop("error")
    key, millionths = columns.pop("quote_key"), columns.pop("price")
    return PriceQuestion(
        **columns, key=key, millionths=millionths, error=ErrorRecord(**error) if error is not None else None
    )
