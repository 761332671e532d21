"""Which fault meets which request: in code, in files, and how often."""

import json
from pathlib import Path

import pytest

from rotoscope_sandbox.faults.definitions import UnknownFault
from rotoscope_sandbox.faults.operations import Action, Operation
from rotoscope_sandbox.faults.rules import Faults, read_rules

POST = Operation(Action.SUBMIT, "gateway", model="prunaai/vace-14b")


@pytest.mark.parametrize(
    ("match", "meets"),
    [
        ({}, True),
        ({"wire": "gateway"}, True),
        ({"wire": "replicate"}, True),
        ({"wire": "fal"}, False),
        ({"model": "prunaai/vace-14b"}, True),
        ({"model": "fal-ai/sam2/image"}, False),
        ({"prediction": "abc"}, False),
        ({"on": "ask"}, False),
    ],
)
def test_a_rule_meets_what_it_names(match: dict[str, str], meets: bool) -> None:
    assert Faults().add("reset", **match).is_for(POST) is meets


def test_a_count_runs_out_and_what_acted_is_remembered() -> None:
    faults = Faults()
    rule = faults.add("poll-error", times=2)
    assert [faults.spend(rule, POST) for _ in range(3)] == [True, True, False]
    assert (faults.count(rule), faults.is_left(rule)) == (2, False)
    assert list(faults.acted) == [("poll-error", POST), ("poll-error", POST)]


def test_a_count_can_be_for_ever() -> None:
    faults = Faults()
    rule = faults.add("reset", times="forever")
    assert all(faults.spend(rule, POST) for _ in range(100))


def test_rules_with_the_same_text_count_apart() -> None:
    faults = Faults()
    first, second = faults.add("reset"), faults.add("reset")
    assert faults.spend(first, POST)
    assert faults.is_left(second)
    faults.remove(first)
    assert faults.rules == (second,)
    faults.clear()
    assert not faults.rules


def test_a_file_of_rules_is_toml_or_json(tmp_path: Path) -> None:
    row = {"fault": "odd-throttle;retry-after=86400", "on": "submit", "wire": "fal", "model": "a/b", "times": 2}
    in_json, in_toml = tmp_path / "faults.json", tmp_path / "faults.toml"
    in_json.write_text(json.dumps({"rules": [row]}))
    in_toml.write_text("[[rules]]\n" + "\n".join(f"{name} = {json.dumps(value)}" for name, value in row.items()))
    for place in (in_json, in_toml):
        (rule,) = read_rules(place)
        assert (rule.fault.name, rule.fault.text("retry-after"), rule.fault.times) == ("odd-throttle", "86400", 2)
        assert (rule.fault.on, rule.wire, rule.model) == ((Action.SUBMIT,), "fal", "a/b")


@pytest.mark.parametrize(
    "text", ["rules = 7", "[[rules]]\nfault = 'F99'", "[[rules]]\nfault = 'reset'\nwho = 'me'", "[[rules]]", "= ="]
)
def test_a_file_that_means_nothing_is_refused(tmp_path: Path, text: str) -> None:
    place = tmp_path / "faults.toml"
    place.write_text(text)
    with pytest.raises(UnknownFault):
        Faults(place)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownFault, match=r"faults\.toml"):
        Faults(tmp_path / "faults.toml")


def test_a_file_is_read_again_when_it_changes_and_half_a_file_changes_nothing(tmp_path: Path) -> None:
    place = tmp_path / "faults.toml"
    place.write_text("[[rules]]\nfault = 'reset'\n")
    faults = Faults(place)
    (first,) = faults.rules
    assert faults.spend(first, POST)
    place.write_text("[[rules]]\nfault = 'F")
    assert faults.rules == (first,)
    place.write_text("[[rules]]\nfault = 'close'\n[[rules]]\nfault = 'truncated-reply'\n")
    assert [rule.fault.name for rule in faults.rules] == ["close", "truncated-reply"]
    place.unlink()
    assert not faults.rules


def test_rules_that_were_added_come_before_those_of_the_file(tmp_path: Path) -> None:
    place = tmp_path / "faults.toml"
    place.write_text("[[rules]]\nfault = 'reset'\n")
    faults = Faults(place)
    faults.add("close")
    assert [rule.fault.name for rule in faults.rules] == ["close", "reset"]
