"""Which fault meets which request: rules with a matcher and a count, given in code, in a file, or by a header.

A header on a paying POST makes rules of its own: what concerns that request happens at once, what concerns the
later life of the prediction sticks to its id.
"""

import itertools
import json
import logging
import threading
import tomllib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rotoscope_sandbox.faults.deeds import Deed, What
from rotoscope_sandbox.faults.scenarios import Fault, UnknownFault, parse_fault

__all__ = ["Faults", "Rule", "read_rules"]

_REMEMBERED = 1000
_KEYS = {"fault", "on", "wire", "model", "prediction", "times"}
_numbers = itertools.count()
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault and whom it meets; what is empty matches everything.

    Attributes:
        fault: what happens, on which deeds, how often at most.
        wire: `replicate` (gateways too), `gateway`, `fal` or `segmind`.
        model: the model's name on its wire.
        prediction: one prediction's id.
        number: tells rules with the same words apart.
    """

    fault: Fault
    wire: str = ""
    model: str = ""
    prediction: str = ""
    number: int = -1

    def meets(self, deed: Deed) -> bool:
        """Whether it concerns a deed."""
        return (
            deed.what in self.fault.on
            and self.wire in ("", deed.wire, deed.family)
            and self.model in ("", deed.model)
            and self.prediction in ("", deed.prediction)
            # Only a submit that answers with the file itself has one to spoil.
            and (self.fault.kind != "file" or deed.what is not What.SUBMIT or deed.direct)
        )


class Faults:
    """The rules of one sandbox, and how often each has acted; safe to use from several threads.

    `acted` holds the names of the latest faults with the deeds they met, in order.
    """

    def __init__(self, file: Path | None = None) -> None:
        """With a file, its rules come after those that were added; it is read again whenever it changes.

        Raises:
            UnknownFault: the file is not a list of rules, or it cannot be read.
        """
        self.acted: deque[tuple[str, Deed]] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()
        self._added: list[Rule] = []
        self._stuck: dict[str, list[Rule]] = {}
        self._used: dict[int, int] = {}
        self._marks: set[tuple[int, str]] = set()
        self._file = file
        self._stamp = _stamp(file)
        self._filed = read_rules(file) if file is not None else ()

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
        """A rule from a fault's text, such as `F11;status=502`, for everybody who matches.

        Args:
            fault: name and parameters.
            on: a deed, where the fault's own will not do.
            wire: as in `Rule`.
            model: as in `Rule`.
            prediction: as in `Rule`.
            times: how often it happens, or `forever`; as the fault says when left out.

        Raises:
            UnknownFault: the text names no fault.
        """
        words = {"on": on, "times": times}
        text = ";".join([fault, *(f"{name}={value}" for name, value in words.items() if value is not None)])
        return self.stick(Rule(parse_fault(text), wire, model, prediction))

    def stick(self, rule: Rule) -> Rule:
        """Puts a rule behind the others, under a number of its own."""
        rule = replace(rule, number=next(_numbers))
        with self._lock:
            among = self._stuck.setdefault(rule.prediction, []) if rule.prediction else self._added
            among.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Takes a rule back."""
        with self._lock:
            for among in (self._added, self._stuck.get(rule.prediction, [])):
                among[:] = [one for one in among if one != rule]

    def clear(self) -> None:
        """Takes back every rule that was added; those of the file stay."""
        with self._lock:
            self._added.clear()
            self._stuck.clear()

    def used(self, rule: Rule) -> int:
        """How often a rule has acted."""
        return self._used.get(rule.number, 0)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule that is not about one prediction alone, in the order in which they are tried."""
        self._read_again()
        with self._lock:
            return (*self._added, *self._filed)

    def about(self, deed: Deed) -> tuple[Rule, ...]:
        """Every rule that could meet a deed: those of its own prediction come first."""
        return (*self._stuck.get(deed.prediction, ()), *self.rules)

    def spend(self, rule: Rule, deed: Deed) -> bool:
        """Takes one from a rule's count; False when it has run out."""
        with self._lock:
            used = self._used.get(rule.number, 0)
            if rule.fault.times is not None and used >= rule.fault.times:
                return False
            self._used[rule.number] = used + 1
        self.acted.append((rule.fault.name, deed))
        return True

    def left(self, rule: Rule) -> bool:
        """Whether a rule's count has not run out."""
        return rule.fault.times is None or self.used(rule) < rule.fault.times

    def mark(self, rule: Rule, prediction: str) -> None:
        """Remembers that what a rule waits for has happened to a prediction."""
        self._marks.add((rule.number, prediction))

    def marked(self, rule: Rule, prediction: str) -> bool:
        """Whether `mark` was called for both."""
        return (rule.number, prediction) in self._marks

    def _read_again(self) -> None:
        if self._file is None or (stamp := _stamp(self._file)) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._filed = read_rules(self._file) if stamp is not None else ()
        except UnknownFault as problem:
            # Half a file is what an editor leaves for a moment: the old rules hold until the new ones can be read.
            _log.warning("the faults in %s are not read anew: %s", self._file, problem)


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    try:
        found = file.stat() if file is not None else None
    except FileNotFoundError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)


def read_rules(file: Path) -> tuple[Rule, ...]:
    """The rules of a scenario file: `[[rules]]` in TOML, `{"rules": [...]}` in a file whose name ends in `.json`.

    Raises:
        UnknownFault: it is not such a file, or it cannot be read; the message says where.
    """
    try:
        text = file.read_text(encoding="utf-8")
        parsed: Any = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as problem:
        raise UnknownFault(f"{file.name} cannot be read: {problem}") from problem
    rows = parsed.get("rules") if isinstance(parsed, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UnknownFault(f"{file.name} holds no list of rules.")
    return tuple(_numbered(rows))


def _numbered(rows: Iterable[Mapping[str, object]]) -> Iterable[Rule]:
    for row in rows:
        if unknown := set(row) - _KEYS:
            raise UnknownFault(f"A rule knows no {', '.join(sorted(unknown))}: it takes {', '.join(sorted(_KEYS))}.")
        told = {name: str(value) for name, value in row.items()}
        words = [f"{name}={told[name]}" for name in ("on", "times") if name in told]
        fault = parse_fault(";".join([told.get("fault", ""), *words]))
        wire, model, prediction = (told.get(name, "") for name in ("wire", "model", "prediction"))
        yield Rule(fault, wire, model, prediction, next(_numbers))
