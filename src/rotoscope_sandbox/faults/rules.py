"""Which fault meets which request: rules with a matcher and a count, given in code, in a file, or by a header.

A header on a paying POST makes rules of its own: what meets that request happens at once, what meets later requests
about the prediction is bound to its id.
"""

import itertools
import json
import logging
import threading
import tomllib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rotoscope_sandbox.faults.definitions import Fault, UnknownFault, parse_fault
from rotoscope_sandbox.faults.operations import Action, Operation

__all__ = ["Faults", "Rule", "read_rules"]

_REMEMBERED = 1000
_KEYS = {"fault", "on", "wire", "model", "prediction", "times"}
_numbers = itertools.count()
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault and the requests that it meets; what is empty matches everything.

    Attributes:
        fault: what happens, to which actions, how often at most.
        wire: `replicate` (gateways too), `gateway`, `fal` or `segmind`.
        model: the model's name on its wire.
        prediction: one prediction's id.
        number: distinguishes rules with the same text; negative for one that a header brought.
    """

    fault: Fault
    wire: str = ""
    model: str = ""
    prediction: str = ""
    number: int = -1

    def is_for(self, operation: Operation) -> bool:
        """Whether it meets an operation."""
        return (
            operation.action in self.fault.on
            and self.wire in ("", operation.wire, operation.family)
            and self.model in ("", operation.model)
            and self.prediction in ("", operation.prediction)
            # Only a submit that answers with the file itself has one to damage.
            and (self.fault.actor != "file" or operation.action is not Action.SUBMIT or operation.is_direct)
        )


class Faults:
    """The rules of one sandbox, and how often each has acted; safe to use from several threads.

    `acted` holds the names of the latest faults with the operations they met, in order.
    """

    def __init__(self, file: Path | None = None) -> None:
        """With a file, its rules come after those that were added; it is read again whenever it changes.

        Raises:
            UnknownFault: the file is not a list of rules, or it cannot be read.
        """
        self.acted: deque[tuple[str, Operation]] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()
        self._added: list[Rule] = []
        self._bound: dict[str, list[Rule]] = {}
        self._counts: dict[int, int] = {}
        self._marks: set[tuple[int, str]] = set()
        self._file = file
        self._version = _file_version(file)
        self._from_file = read_rules(file) if file is not None else ()

    def add(
        self,
        fault: str,
        *,
        on: str | None = None,
        wire: str = "",
        model: str = "",
        prediction: str = "",
        times: int | str | None = None,
    ) -> Rule:
        """Add a rule from a fault's text, such as `poll-error;status=502`, for every request that matches.

        Args:
            fault: name and parameters.
            on: an action, where the fault's own will not do.
            wire: as in `Rule`.
            model: as in `Rule`.
            prediction: as in `Rule`.
            times: how often it happens, or `forever`; as the fault says when left out.

        Raises:
            UnknownFault: the text names no fault.
        """
        more = {"on": on, "times": times}
        text = ";".join([fault, *(f"{name}={value}" for name, value in more.items() if value is not None)])
        return self.append(Rule(parse_fault(text), wire, model, prediction))

    def append(self, rule: Rule) -> Rule:
        """Put a rule behind the others, under a number of its own."""
        rule = replace(rule, number=next(_numbers))
        with self._lock:
            among = self._bound.setdefault(rule.prediction, []) if rule.prediction else self._added
            among.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule back."""
        with self._lock:
            for among in (self._added, self._bound.get(rule.prediction, [])):
                among[:] = [one for one in among if one != rule]

    def clear(self) -> None:
        """Take back every rule that was added; those of the file stay."""
        with self._lock:
            self._added.clear()
            self._bound.clear()

    def count(self, rule: Rule) -> int:
        """How often a rule has acted."""
        return self._counts.get(rule.number, 0)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule that is not about one prediction alone, in the order in which they are tried."""
        self._reread()
        with self._lock:
            return (*self._added, *self._from_file)

    def rules_about(self, operation: Operation) -> tuple[Rule, ...]:
        """Every rule that could meet an operation: those of its own prediction come first."""
        return (*self._bound.get(operation.prediction, ()), *self.rules)

    def spend(self, rule: Rule, operation: Operation) -> bool:
        """Take one from a rule's count; False when it has run out. A header's rule is new each time and not counted."""
        with self._lock:
            count = self._counts.get(rule.number, 0)
            if rule.number >= 0 and rule.fault.times is not None and count >= rule.fault.times:
                return False
            self._counts[rule.number] = count + 1
        self.acted.append((rule.fault.name, operation))
        return True

    def is_left(self, rule: Rule) -> bool:
        """Whether a rule's count has not run out."""
        return rule.number < 0 or rule.fault.times is None or self.count(rule) < rule.fault.times

    def mark(self, rule: Rule, prediction: str) -> None:
        """Remember that what a rule waits for has happened to a prediction."""
        self._marks.add((rule.number, prediction))

    def is_marked(self, rule: Rule, prediction: str) -> bool:
        """Whether `mark` was called for both."""
        return (rule.number, prediction) in self._marks

    def _reread(self) -> None:
        if self._file is None or (version := _file_version(self._file)) == self._version:
            return
        self._version = version
        try:
            self._from_file = read_rules(self._file) if version is not None else ()
        except UnknownFault as problem:
            # Half a file is what an editor leaves for a moment: the old rules hold until the new ones can be read.
            _log.warning("the faults in %s cannot be read again: %s", self._file, problem)


def _file_version(file: Path | None) -> tuple[int, int, int] | None:
    try:
        found = file.stat() if file is not None else None
    except FileNotFoundError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)


def read_rules(file: Path) -> tuple[Rule, ...]:
    """The rules of a scenario file: `[[rules]]` in TOML, `{"rules": [...]}` in a file whose name ends in `.json`.

    Raises:
        UnknownFault: it is not such a file, or it cannot be read; the message has the place.
    """
    try:
        text = file.read_text(encoding="utf-8")
        parsed: Any = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as problem:
        raise UnknownFault(f"{file.name} cannot be read: {problem}") from problem
    rows = parsed.get("rules") if isinstance(parsed, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UnknownFault(f"{file.name} holds no list of rules.")
    return tuple(map(_rule, rows))


def _rule(row: Mapping[str, object]) -> Rule:
    if unknown := set(row) - _KEYS:
        raise UnknownFault(f"A rule has no {', '.join(sorted(unknown))}: it takes {', '.join(sorted(_KEYS))}.")
    texts = {name: str(value) for name, value in row.items()}
    more = [f"{name}={texts[name]}" for name in ("on", "times") if name in texts]
    fault = parse_fault(";".join([texts.get("fault", ""), *more]))
    wire, model, prediction = (texts.get(name, "") for name in ("wire", "model", "prediction"))
    return Rule(fault, wire, model, prediction, next(_numbers))
