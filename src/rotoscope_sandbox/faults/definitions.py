"""The faults by name, as data: where each acts, how often, and which parameters it takes; and how one is written. Pure.

A fault is written as its name and what deviates from its defaults: `odd-throttle;retry-after=86400`,
`server-error;status=503;accepted=no`. Every fault takes `times` (a number or `forever`) and `on` (one of
`operations.Action`), besides its own parameters. Its number (`F10`) is an alias of its name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rotoscope_sandbox.faults.operations import Action

__all__ = ["FAULT_TYPES", "Fault", "FaultType", "UnknownFault", "parse_fault", "parse_faults"]

_YES_NO = ("yes", "no")
_SUBMIT = (Action.SUBMIT,)
_ASKS = (Action.ASK, Action.RESULT)

Actor: TypeAlias = Literal["connection", "refusal", "rewrite", "outcome", "cancel", "file"]
"""What acts a fault out: the connection itself, an error in the provider's words, the true answer changed, what
becomes of the prediction, the answer to a cancel, or the bytes of an output."""


class UnknownFault(ValueError):
    """The text names no fault, or a parameter or value that the fault does not have; the message says what it has."""


@dataclass(frozen=True, slots=True)
class FaultType:
    """One fault that can be asked for.

    Attributes:
        number: its number in the alias `F<number>`.
        actor: what acts it out.
        on: the actions it meets when nothing else is written.
        times: how often it happens; None means for ever.
        defaults: its parameters with their defaults.
        choices: the only values of a parameter, where there are any.
    """

    number: int
    actor: Actor
    on: tuple[Action, ...]
    times: int | None = 1
    defaults: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _by_kind(
    number: int, actor: Actor, on: tuple[Action, ...], times: int | None, *kinds: str, **defaults: str
) -> FaultType:
    """A fault of several kinds, of which the first is the default."""
    return FaultType(number, actor, on, times, {"kind": kinds[0], **defaults}, {"kind": kinds})


_ACCEPTED = {"accepted": "yes"}
FAULT_TYPES: Mapping[str, FaultType] = {
    "reset": FaultType(2, "connection", _SUBMIT, 1, _ACCEPTED),
    "close": FaultType(3, "connection", _SUBMIT, 1, _ACCEPTED),
    "truncated-reply": FaultType(4, "connection", _SUBMIT, 1, _ACCEPTED),
    "hang": FaultType(5, "connection", _SUBMIT, 1, _ACCEPTED),
    "unreadable-reply": _by_kind(6, "rewrite", _SUBMIT, 1, "html", "json", "type"),
    "no-id": FaultType(7, "rewrite", _SUBMIT, 1, {"id": "missing", "urls": "no"},
                       {"id": ("missing", "null", "number", "list", "empty"), "urls": _YES_NO}),
    "throttled": FaultType(8, "refusal", _SUBMIT, 1, {"retry-after": "2"}),
    "odd-throttle": FaultType(9, "refusal", _SUBMIT, 1, {"retry-after": "none", "reset": "none", "seconds": "30"}),
    "server-error": FaultType(10, "refusal", _SUBMIT, 1, {"status": "500", "body": "auto", **_ACCEPTED},
                              {"body": ("auto", "json", "html")}),
    "poll-error": FaultType(11, "refusal", _ASKS, 3, {"status": "503", "body": "json"}, {"body": ("json", "html")}),
    "slow-reply": _by_kind(12, "connection", _ASKS, 1, "headers", "body", interval="1"),
    "key-refused": FaultType(13, "refusal", _SUBMIT, None, {"status": "401"}),
    "key-revoked": FaultType(14, "refusal", _ASKS, None, {"status": "401"}),
    "no-credit": FaultType(15, "refusal", _SUBMIT, None, {"status": "auto"}),
    "input-refused": _by_kind(16, "refusal", _SUBMIT, None, "input", "policy", later="no"),
    "status-unknown": FaultType(17, "rewrite", _ASKS, 3, {"word": "warming"}),
    "status-goes-back": FaultType(18, "rewrite", _ASKS, 1, {"after": "final"}, {"after": ("final", "running")}),
    "never-ends": FaultType(19, "outcome", _SUBMIT, None),
    "provider-cancels": _by_kind(20, "outcome", _SUBMIT, None, "cancel", "abort"),
    "odd-cancel": _by_kind(21, "cancel", (Action.CANCEL,), None, "race", "twice", "missing"),
    "bad-output": _by_kind(22, "rewrite", (*_ASKS, Action.SUBMIT), None, "null", "empty", "shape", "hollow", "host",
                           host="files.example.net"),
    "output-gone": FaultType(23, "refusal", (Action.OUTPUT, *_ASKS), None, {"status": "404", "fresh": "no"},
                             {"fresh": _YES_NO}),
    "truncated-output": _by_kind(24, "file", (Action.OUTPUT, Action.SUBMIT), 2, "short", "reset"),
    "damaged-output": _by_kind(25, "file", (Action.OUTPUT, Action.SUBMIT), None, "type", "broken", "declared",
                               "endless", bytes=str(600 * 1024 * 1024)),
    "odd-webhook": _by_kind(26, "outcome", _SUBMIT, None, "twice", "disorder", "early", "never", "forged", "old"),
    "slow-run": FaultType(33, "outcome", _SUBMIT, None, {"seconds": "60"}),
}  # fmt: skip
"""Every fault, in the order of its number."""

_NAMES = {f"f{kind.number}": name for name, kind in FAULT_TYPES.items()}
_UNREACHABLE = "F1 is no fault of the sandbox: a refused connection is a port on which nothing listens."
_NOT_OURS = "F27 to F32 are no faults of the sandbox: clocks, kills, disks, processes and clients are no provider's."
_NO_FAULTS = {"f1": _UNREACHABLE, **dict.fromkeys((f"f{number}" for number in range(27, 33)), _NOT_OURS)}
_BOUNDS = {"status": (400, 599), "seconds": (0, 10**9), "bytes": (1, 10**12)}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault as it was chosen: what it does, where, how often, and its parameters with defaults filled in."""

    name: str
    on: tuple[Action, ...]
    times: int | None
    parameters: Mapping[str, str]

    @property
    def actor(self) -> Actor:
        """What acts it out. A refusal that comes later is the outcome of the prediction."""
        return "outcome" if self.parameters.get("later") == "yes" else FAULT_TYPES[self.name].actor

    @property
    def is_accepted(self) -> bool:
        """Whether the app sees the request although its answer is lost."""
        return self.parameters.get("accepted", "yes") == "yes"

    def text(self, parameter: str) -> str:
        """The value of one of its parameters."""
        return self.parameters[parameter]

    def integer(self, parameter: str) -> int:
        """The value of a parameter that is a whole number."""
        return int(self.parameters[parameter])


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Read several faults, separated by commas.

    Raises:
        UnknownFault: one of them is none.
    """
    return tuple(parse_fault(one) for one in text.split(",") if one.strip())


def parse_fault(text: str) -> Fault:
    """Read one fault from its name or number and parameters, such as `server-error;status=503;accepted=no`.

    Raises:
        UnknownFault: there is no such fault, parameter or value.
    """
    head, *rest = (part.strip() for part in text.split(";"))
    name = _name(head)
    kind = FAULT_TYPES[name]
    given = dict(_pair(part) for part in rest if part)
    times, on = given.pop("times", None), given.pop("on", None)
    for parameter, value in given.items():
        _check(name, kind, parameter, value)
    return Fault(
        name,
        kind.on if on is None else (_action(on),),
        kind.times if times is None else _times(times),
        {**kind.defaults, **given},
    )


def _name(text: str) -> str:
    name = _NAMES.get(text.lower(), text.lower())
    if name in _NO_FAULTS:
        raise UnknownFault(_NO_FAULTS[name])
    if name not in FAULT_TYPES:
        raise UnknownFault(f"There is no fault {text!r}: the faults are {', '.join(FAULT_TYPES)}.")
    return name


def _pair(text: str) -> tuple[str, str]:
    parameter, equals, value = text.partition("=")
    if not equals:
        raise UnknownFault(f"{text!r} is not a parameter: write name=value.")
    return parameter.strip().lower(), value.strip()


def _check(name: str, kind: FaultType, parameter: str, value: str) -> None:
    if parameter not in kind.defaults:
        raise UnknownFault(f"{name} has no {parameter!r}: it takes {', '.join((*kind.defaults, 'on', 'times'))}.")
    choices = kind.choices.get(parameter, _YES_NO if parameter in ("accepted", "later") else ())
    if choices and value not in choices:
        raise UnknownFault(f"{parameter} of {name} is one of {', '.join(choices)}.")
    if parameter == "interval" and not _is_interval(value):
        raise UnknownFault("interval is a number of seconds from 0 to 3600.")
    if parameter not in _BOUNDS or value == kind.defaults[parameter]:
        return
    least, most = _BOUNDS[parameter]
    if not (value.isdecimal() and least <= int(value) <= most):
        raise UnknownFault(f"{parameter} of {name} is a whole number from {least} to {most}.")


def _is_interval(value: str) -> bool:
    # More than an hour between two bytes is not needed; texts such as nan are no numbers here.
    return re.fullmatch(r"(?=.)\d{0,4}(\.\d{1,9})?", value) is not None and float(value) <= 3600  # noqa: PLR2004 - seconds


def _action(text: str) -> Action:
    try:
        return Action(text)
    except ValueError as problem:
        raise UnknownFault(f"on is one of {', '.join(Action)}.") from problem


def _times(text: str) -> int | None:
    if text == "forever":
        return None
    if not text.isdecimal() or not int(text):
        raise UnknownFault("times is a whole number from 1, or forever.")
    return int(text)
