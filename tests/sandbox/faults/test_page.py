"""The page of the sandbox has every fault, with its number and its parameters."""

import re
from pathlib import Path

import pytest

from rotoscope_sandbox.faults.definitions import FAULT_TYPES, parse_fault

PAGE = Path(__file__).parents[3] / "docs" / "sandbox.md"


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """The cells of each fault's row by its name."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"`[a-z-]+`( \*)?", cells[0]) and len(cells) == 6:
            found[cells[0].split("`")[1]] = cells
    return found


def test_it_has_every_fault_in_the_order_of_its_number(rows: dict[str, list[str]]) -> None:
    assert list(rows) == list(FAULT_TYPES)


@pytest.mark.parametrize("name", FAULT_TYPES)
def test_its_row_is_what_the_fault_does(rows: dict[str, list[str]], name: str) -> None:
    kind = FAULT_TYPES[name]
    _, number, _, actions, times, parameters = rows[name]
    assert number == f"F{kind.number}"
    assert set(actions.split(", ")) <= set(kind.on)
    assert times == ("for ever" if kind.times is None else str(kind.times))
    assert set(re.findall(r"`([a-z-]+)(?:=|`)", parameters)) >= set(kind.defaults)


def test_the_faults_of_its_examples_can_be_read() -> None:
    text = PAGE.read_text(encoding="utf-8")
    examples = [*re.findall(r'fault"?\s*[=:]\s*"([^"]+)"', text), *re.findall(r'faults\.add\("([^"]+)"', text)]
    assert len(examples) >= 3
    for example in examples:
        parse_fault(example)
