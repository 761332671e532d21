"""A client that nobody knows is learned: it makes few calls if it is patient, and few of its calls are lost if not."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from rotoscope.server.clients.learning import WaitLearner
from rotoscope.server.clients.profiles import ClientCall, ClientProfile

FIRST, FIRST_ASKING = 3.5, 4.0
ON_ITS_WAY = 0.05  # seconds


@dataclass
class Assistant:
    """A client over a clock of its own: it calls a tool that pays, then asks for its job until that has ended.

    Attributes:
        run: how long the run takes, in seconds.
        limit: after how many seconds it gives a call up; infinite: never.
        says_so: whether it cancels what it gives up.
        thinks: how long its model takes between two calls.
        asks: how many seconds it asks to wait, given what it was delivered.
    """

    run: float
    limit: float = float("inf")
    says_so: bool = True
    thinks: float = 2.0
    asks: Callable[[float], float] = lambda reported: reported
    patience: WaitLearner = field(default_factory=lambda: WaitLearner(FIRST, FIRST_ASKING))
    now: float = 0.0
    calls: int = 0
    lost: int = 0
    answered_late: list[Callable[[], None]] = field(default_factory=list)

    def work(self) -> "Assistant":
        """Call until the run's end is received."""
        ends = self.now + self.run
        reported = self._call("generate_video x", self.patience.paying_seconds, None, ends)
        while reported is None:
            reported = self._call("generate_video x", self.patience.paying_seconds, None, ends)
        while reported:
            wanted = self.asks(reported)
            reported = self._call("j1", self.patience.polling_seconds, wanted, ends) or (
                reported if self.got_nothing else 0.0
            )
        return self

    def _call(self, about: str, _: float, wanted: float | None, ends: float) -> float | None:
        """One call: what it was delivered to ask for, 0 at the end; None where it received nothing."""
        self.calls += 1
        begun, patience = self.now, self.patience
        for late in [one for one in self.answered_late if self.due[id(one)] <= begun]:
            late()
            self.answered_late.remove(late)
        patience.observe_request(about, begun, wanted)
        budget = patience.paying_seconds if wanted is None else patience.polling_seconds
        held = min(budget if wanted is None else min(budget, wanted), max(ends - begun, 0.0)) + ON_ITS_WAY
        hold = patience.begin(about, begun, budget, wanted)
        self.got_nothing = held > self.limit

        def answer() -> float:
            at = begun + held
            reported = float(round(patience.polling_seconds_after(hold, at))) if at < ends else None
            patience.record_answer(hold, at, reported, "j1")
            return reported or 0.0

        if not self.got_nothing:
            self.now = begun + held + self.thinks
            return answer()
        self.lost += 1
        self.now = begun + self.limit + self.thinks
        if self.says_so:
            patience.record_cancel(hold, begun + self.limit)
        elif self.now >= begun + held:
            answer()
        else:
            self.answered_late.append(answer)  # type: ignore[arg-type]
            self.due[id(answer)] = begun + held
        return None

    due: dict[int, float] = field(default_factory=dict)
    got_nothing: bool = False


@pytest.mark.parametrize(("run", "most"), [(177.0, 12), (30.0, 4), (600.0, 20), (2.0, 1)])
@pytest.mark.parametrize(
    "asks", [lambda reported: reported, lambda _: 45.0], ids=["what it is told", "as long as can be"]
)
def test_a_patient_client_makes_few_calls(run: float, most: int, asks: Callable[[float], float]) -> None:
    assert Assistant(run, asks=asks).work().calls <= most


@pytest.mark.parametrize("limit", [5.0, 10.0, 30.0])
@pytest.mark.parametrize("says_so", [True, False])
@pytest.mark.parametrize("thinks", [0.5, 8.0])
@pytest.mark.parametrize(
    "asks", [lambda reported: reported, lambda _: 45.0], ids=["what it is told", "as long as can be"]
)
def test_a_client_with_a_limit_loses_few_answers(
    limit: float, says_so: bool, thinks: float, asks: Callable[[float], float]
) -> None:
    """What it loses is a question, which costs nothing: the call that pays is answered within what was carried."""
    client = Assistant(177.0, limit, says_so, thinks, asks).work()
    assert client.lost <= 6
    assert client.lost < client.calls / 2


def test_a_paying_call_stays_open_no_longer_than_what_was_accepted() -> None:
    client = Assistant(177.0).work()
    assert client.patience.paying_seconds == 45.0
    impatient = Assistant(177.0, 10.0).work()
    assert impatient.patience.paying_seconds == 8.0


def test_a_wait_that_was_accepted_lets_the_next_be_longer_and_a_cancel_takes_it_back() -> None:
    patience, now, waits = WaitLearner(FIRST, FIRST_ASKING), 0.0, []
    hold = patience.begin("a", now, patience.paying_seconds)
    patience.record_answer(hold, 3.5, 8.0, "j1")
    now = 5.0
    for _ in range(4):
        patience.observe_request("j1", now, 45.0)
        waits.append(patience.polling_seconds)
        hold = patience.begin("j1", now, patience.polling_seconds, 45.0)
        now += patience.polling_seconds
        patience.record_answer(hold, now, 45.0, "j1")
    assert waits == [8.0, 20.0, 45.0, 45.0]
    patience.observe_request("j1", now, 45.0)
    patience.record_cancel(patience.begin("j1", now, patience.polling_seconds, 45.0), now + 25)
    assert patience.polling_seconds == 20.0
    assert patience.paying_seconds == 20.0


def test_a_cut_is_forgotten_after_some_waits_that_were_accepted() -> None:
    """A user who stops one answer has not said that all are too long."""
    client = Assistant(177.0).work()
    hold = client.patience.begin("j2", client.now, client.patience.polling_seconds, 45.0)
    client.patience.record_cancel(hold, client.now + 1)
    assert client.patience.polling_seconds == 20.0
    again = Assistant(400.0, patience=client.patience, now=client.now + 10).work()
    assert again.patience.polling_seconds == 45.0


@pytest.mark.parametrize(
    ("learned", "seconds", "after", "late"),
    [(True, 3.5, 1.9, False), (True, 3.5, 2.1, True), (False, 3.5, 4.4, False), (False, 3.5, 4.6, True),
     (False, 45.0, 44.0, False), (False, 45.0, 46.5, True)],
)  # fmt: skip
def test_an_answer_is_late_when_its_client_may_have_given_up(
    learned: bool, seconds: float, after: float, late: bool
) -> None:
    patience = WaitLearner(FIRST, FIRST_ASKING) if learned else None
    call = ClientCall(ClientProfile(inline_seconds=seconds), patience, 100.0, lambda: 100.0 + after)
    assert call.is_late(seconds) is late
