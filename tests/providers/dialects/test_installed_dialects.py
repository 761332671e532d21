"""Dialects of installed packages: found by name, checked, and never in the place of a shipped one."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint

import pytest

from rotoscope.errors import InvalidInput
from rotoscope.providers.dialects import DIALECTS, DialectBase, find_dialect, make_dialect
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.states import Call, Open, Prediction, Ticket, Waiting

GROUP = "rotoscope.dialects"


class Whole(DialectBase):
    """The least that a dialect must have."""

    def submit(self, call: Call) -> HttpCall:
        return HttpCall("POST", f"{self.bases['api']}/{call.endpoint}", json=dict(call.input))

    def ask(self, state: Open) -> HttpCall:
        return HttpCall("GET", f"{self.bases['api']}/{state.ticket.id}")

    def cancel(self, ticket: Ticket) -> HttpCall | None:
        return None

    def read(self, reply: Reply, about: Call | Open) -> Prediction:
        return Waiting(Ticket("p1", ""))


class Half(DialectBase):
    """Without a way to ask."""

    submit, cancel, read = Whole.submit, Whole.cancel, Whole.read


class Picky(Whole):
    """It needs a base URL that its provider does not have."""

    def __init__(self, bases: Mapping[str, str]) -> None:
        super().__init__({"api": bases["queue"]})


def offer(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{value}", GROUP)


def test_an_installed_dialect_is_found_by_its_name() -> None:
    found = find_dialect("mine", lambda: [offer("other", "Half"), offer("mine", "Whole")])
    assert found({"api": "https://x.example"}).submit(Call("mine", "m", {})).url == "https://x.example/m"


@pytest.mark.parametrize("name", DIALECTS)
def test_a_shipped_dialect_cannot_be_replaced_and_no_package_is_asked_for_it(name: str) -> None:
    assert find_dialect(name, lambda: pytest.fail("installed packages were read")) is DIALECTS[name]


def test_two_packages_with_one_name_are_refused_by_their_names() -> None:
    with pytest.raises(InvalidInput, match=r"Several packages .*Half.*Whole"):
        find_dialect("mine", lambda: [offer("mine", "Half"), offer("mine", "Whole")])


def test_a_package_that_is_on_the_path_twice_counts_once() -> None:
    assert find_dialect("mine", lambda: [offer("mine", "Whole"), offer("mine", "Whole")]) is Whole


def test_a_class_without_a_method_is_refused_by_the_name_of_the_method() -> None:
    with pytest.raises(InvalidInput, match="cannot be used: it has no ask"):
        find_dialect("mine", lambda: [offer("mine", "Half")])


def test_a_dialect_that_cannot_be_made_for_its_base_urls_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidInput, match=r"cannot be made for its base URLs: KeyError: 'queue'"):
        make_dialect("mine", {"api": "https://x.example"}, lambda: [offer("mine", "Picky")])


def test_an_unknown_name_is_refused_with_the_names_that_are_known() -> None:
    with pytest.raises(InvalidInput) as caught:
        find_dialect("telepathy", list)
    assert all(name in str(caught.value.hint) for name in DIALECTS)


def test_the_base_of_a_new_dialect_has_no_lists_streams_or_uploads() -> None:
    dialect = Whole({"api": "https://x.example"})
    call = Call("mine", "m", {})
    assert dialect.list_recent(call, 0.0) is None
    assert dialect.list_runs("m", 0.0) is None
    assert dialect.look_up(call, "p1") is None
    assert dialect.listen(Ticket("p1", "m")) is None
    assert not dialect.read_recent(Reply(200), call).is_complete
