"""How a fault is written, and how its text is read."""

import pytest

from rotoscope_sandbox.faults.deeds import What
from rotoscope_sandbox.faults.scenarios import SCENARIOS, UnknownFault, parse_fault, parse_faults


def test_every_scenario_from_1_to_33_has_a_name_and_reads_with_its_defaults() -> None:
    assert list(SCENARIOS) == [f"F{number}" for number in range(1, 34)]
    for name, scenario in SCENARIOS.items():
        fault = parse_fault(name)
        assert (fault.on, fault.times, fault.parameters) == (scenario.on, scenario.times, scenario.known)


def test_parameters_deeds_and_counts_are_read() -> None:
    fault = parse_fault(" f10 ; status=503; accepted=no ;on=cancel; times=forever")
    assert (fault.name, fault.number("status"), fault.accepted) == ("F10", 503, False)
    assert (fault.on, fault.times) == ((What.CANCEL,), None)


def test_several_faults_are_separated_by_commas() -> None:
    faults = parse_faults("F11;times=2, F9;retry-after=86400,")
    assert [(fault.name, fault.times) for fault in faults] == [("F11", 2), ("F9", 1)]
    assert faults[1].said("retry-after") == "86400"


def test_what_is_no_providers_doing_has_a_name_and_no_deed() -> None:
    assert all(parse_fault(name).on == () for name in ("F1", "F27", "F28", "F29", "F30", "F31", "F32"))


@pytest.mark.parametrize(
    "text",
    ["", "F34", "F2;why", "F2;status=500", "F10;status=200", "F10;status=x", "F10;accepted=maybe", "F2;times=0",
     "F2;times=-1", "F2;on=lunch", "F22;kind=odd", "F12;interval=fast", "F12;interval=-1", "F16;later=perhaps",
     "F25;bytes=0", "F12;interval=nan"],
)  # fmt: skip
def test_a_text_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(UnknownFault):
        parse_fault(text)
