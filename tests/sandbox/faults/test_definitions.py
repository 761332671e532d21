"""How a fault is written, and how its text is read."""

import pytest

from rotoscope_sandbox.faults.definitions import FAULT_TYPES, UnknownFault, parse_fault, parse_faults
from rotoscope_sandbox.faults.operations import Action


@pytest.mark.parametrize("name", FAULT_TYPES)
def test_a_fault_is_the_same_by_its_name_and_by_its_number_in_any_case(name: str) -> None:
    kind = FAULT_TYPES[name]
    fault = parse_fault(name)
    assert (fault.name, fault.on, fault.times, fault.parameters) == (name, kind.on, kind.times, kind.defaults)
    assert parse_fault(f"F{kind.number}") == parse_fault(f"f{kind.number}") == parse_fault(name.upper()) == fault


def test_no_two_faults_have_the_same_number() -> None:
    assert len({kind.number for kind in FAULT_TYPES.values()}) == len(FAULT_TYPES)


def test_parameters_actions_and_counts_are_read() -> None:
    fault = parse_fault(" server-Error ; status=503; accepted=no ;on=cancel; times=forever")
    assert (fault.name, fault.integer("status"), fault.is_accepted) == ("server-error", 503, False)
    assert (fault.on, fault.times) == ((Action.CANCEL,), None)


def test_several_faults_are_separated_by_commas() -> None:
    faults = parse_faults("poll-error;times=2, F9;retry-after=86400,")
    assert [(fault.name, fault.times) for fault in faults] == [("poll-error", 2), ("odd-throttle", 1)]
    assert faults[1].text("retry-after") == "86400"


@pytest.mark.parametrize("number", [1, *range(27, 33)])
def test_a_number_that_the_sandbox_cannot_act_out_is_refused_with_the_reason(number: int) -> None:
    with pytest.raises(UnknownFault, match=r"^F.* no faults? of the sandbox: .*(port|provider)"):
        parse_fault(f"F{number}")


def test_an_unknown_name_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(UnknownFault, match="'resets': the faults are reset, close, truncated-reply"):
        parse_fault("resets")


@pytest.mark.parametrize(
    "text",
    ["", "F34", "reset;why", "reset;status=500", "server-error;status=200", "server-error;status=x",
     "server-error;accepted=maybe", "reset;times=0", "reset;times=-1", "reset;on=lunch", "bad-output;kind=odd",
     "slow-reply;interval=fast", "slow-reply;interval=-1", "slow-reply;interval=nan", "slow-reply;interval=3601",
     "slow-reply;interval=.", "input-refused;later=perhaps", "damaged-output;bytes=0"],
)  # fmt: skip
def test_a_text_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(UnknownFault):
        parse_fault(text)
