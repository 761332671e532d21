"""The faults by name, as data: where each acts, how often, and which words may be said with it. Pure.

A fault is written as its name and what deviates from its defaults: `F9;retry-after=86400`,
`F10;status=503;accepted=no`. Every fault takes `times` (a number or `forever`) and `on` (one of the deeds of
`deeds.What`), besides its own parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rotoscope_sandbox.faults.deeds import What

__all__ = ["SCENARIOS", "Fault", "Scenario", "UnknownFault", "parse_fault", "parse_faults"]

_YES_NO = ("yes", "no")
_ASKS = (What.ASK, What.RESULT)


class UnknownFault(ValueError):
    """The text names no fault, or says something that the fault does not know; the message says what it knows."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One fault.

    Attributes:
        kind: who acts it out: `elsewhere` (not a provider's doing), `raw` (the connection itself), `refuse` (an
            answer in the provider's words), `reword` (the true answer, changed), `fate` (what becomes of the
            prediction), `cancel`, or `file` (how an output's bytes arrive).
        on: the deeds it concerns when nothing else is said.
        times: how often it happens; None means for ever.
        known: its parameters with their defaults.
        choices: the only values of a parameter, where there are any.
    """

    kind: str
    on: tuple[What, ...]
    times: int | None = 1
    known: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _choice(kind: str, on: tuple[What, ...], times: int | None, *kinds: str, **known: str) -> Scenario:
    return Scenario(kind, on, times, {"kind": kinds[0], **known}, {"kind": kinds})


_ACCEPTED = {"accepted": "yes"}
SCENARIOS: Mapping[str, Scenario] = {
    "F1": Scenario("elsewhere", (), None),
    "F2": Scenario("raw", (What.SUBMIT,), 1, _ACCEPTED),
    "F3": Scenario("raw", (What.SUBMIT,), 1, _ACCEPTED),
    "F4": Scenario("raw", (What.SUBMIT,), 1, _ACCEPTED),
    "F5": Scenario("raw", (What.SUBMIT,), 1, _ACCEPTED),
    "F6": _choice("reword", (What.SUBMIT,), 1, "html", "json", "type"),
    "F7": Scenario("reword", (What.SUBMIT,), 1, {"id": "missing", "urls": "no"},
                   {"id": ("missing", "null", "number", "list", "empty"), "urls": _YES_NO}),
    "F8": Scenario("refuse", (What.SUBMIT,), 1, {"retry-after": "2"}),
    "F9": Scenario("refuse", (What.SUBMIT,), 1, {"retry-after": "none", "reset": "none", "seconds": "30"}),
    "F10": Scenario("refuse", (What.SUBMIT,), 1, {"status": "500", "body": "auto", **_ACCEPTED},
                    {"body": ("auto", "json", "html")}),
    "F11": Scenario("refuse", _ASKS, 3, {"status": "503", "body": "json"}, {"body": ("json", "html")}),
    "F12": _choice("raw", _ASKS, 1, "headers", "body", interval="1"),
    "F13": Scenario("refuse", (What.SUBMIT,), None, {"status": "401"}),
    "F14": Scenario("refuse", _ASKS, None, {"status": "401"}),
    "F15": Scenario("refuse", (What.SUBMIT,), None, {"status": "auto"}),
    "F16": _choice("refuse", (What.SUBMIT,), None, "input", "policy", later="no"),
    "F17": Scenario("reword", _ASKS, 3, {"word": "warming"}),
    "F18": Scenario("reword", _ASKS, 1, {"after": "final"}, {"after": ("final", "running")}),
    "F19": Scenario("fate", (What.SUBMIT,), None),
    "F20": _choice("fate", (What.SUBMIT,), None, "cancel", "abort"),
    "F21": _choice("cancel", (What.CANCEL,), None, "race", "twice", "missing"),
    "F22": _choice("reword", (What.ASK, What.RESULT, What.SUBMIT), None, "null", "empty", "shape", "hollow", "host",
                   host="files.example.net"),
    "F23": Scenario("refuse", (What.OUTPUT, What.ASK, What.RESULT), None, {"status": "404", "fresh": "no"},
                    {"fresh": _YES_NO}),
    "F24": _choice("file", (What.OUTPUT, What.SUBMIT), 2, "short", "reset"),
    "F25": _choice("file", (What.OUTPUT, What.SUBMIT), None, "type", "broken", "declared", "endless",
                   bytes=str(600 * 1024 * 1024)),
    "F26": _choice("fate", (What.SUBMIT,), None, "twice", "disorder", "early", "never", "forged", "old"),
    "F27": Scenario("elsewhere", (), None),
    "F28": Scenario("elsewhere", (), None),
    "F29": Scenario("elsewhere", (), None),
    "F30": Scenario("elsewhere", (), None),
    "F31": Scenario("elsewhere", (), None),
    "F32": Scenario("elsewhere", (), None),
    "F33": Scenario("fate", (What.SUBMIT,), None, {"seconds": "60"}),
}  # fmt: skip
"""Every fault that has a name. Those of kind `elsewhere` are accepted and do nothing here."""

_NUMBERS = {"status": (400, 599), "seconds": (0, 10**9), "bytes": (1, 10**12)}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault as it was chosen: what it does, where, how often, and its parameters with defaults filled in."""

    name: str
    on: tuple[What, ...]
    times: int | None
    parameters: Mapping[str, str]

    @property
    def kind(self) -> str:
        """Who acts it out; see `Scenario`. A refusal that comes later is the fate of the prediction."""
        return "fate" if self.parameters.get("later") == "yes" else SCENARIOS[self.name].kind

    @property
    def accepted(self) -> bool:
        """Whether the app sees the request although its answer is lost."""
        return self.parameters.get("accepted", "yes") == "yes"

    def said(self, name: str) -> str:
        """The value of one of its parameters."""
        return self.parameters[name]

    def number(self, name: str) -> int:
        """The value of a parameter that is a number."""
        return int(self.parameters[name])


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Several faults, separated by commas.

    Raises:
        UnknownFault: one of them is none.
    """
    return tuple(parse_fault(one) for one in text.split(",") if one.strip())


def parse_fault(text: str) -> Fault:
    """One fault from its name and parameters, such as `F10;status=503;accepted=no`.

    Raises:
        UnknownFault: there is no such fault, parameter or value.
    """
    name, *words = (word.strip() for word in text.split(";"))
    scenario = SCENARIOS.get(name.upper())
    if scenario is None:
        raise UnknownFault(f"There is no fault {name!r}: the faults are F1 to F{len(SCENARIOS)}.")
    given = dict(_pair(word) for word in words if word)
    times, on = given.pop("times", None), given.pop("on", None)
    for key, value in given.items():
        _check(name.upper(), scenario, key, value)
    return Fault(
        name.upper(),
        scenario.on if on is None else (_what(on),),
        scenario.times if times is None else _times(times),
        {**scenario.known, **given},
    )


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise UnknownFault(f"{word!r} is not a parameter: write name=value.")
    return key.strip().lower(), value.strip()


def _check(name: str, scenario: Scenario, key: str, value: str) -> None:
    if key not in scenario.known:
        raise UnknownFault(f"{name} knows no {key!r}: it takes {', '.join((*scenario.known, 'on', 'times'))}.")
    choices = scenario.choices.get(key, _YES_NO if key in ("accepted", "later") else ())
    if choices and value not in choices:
        raise UnknownFault(f"{key} of {name} is one of {', '.join(choices)}.")
    if key == "interval":
        _interval(value)
    least, most = _NUMBERS.get(key, (None, None))
    plain = value == scenario.known[key]
    if least is not None and most is not None and not plain and not (value.isdecimal() and least <= int(value) <= most):
        raise UnknownFault(f"{key} of {name} is a whole number from {least} to {most}.")


def _interval(value: str) -> None:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:  # noqa: PLR2004 - an hour between two bytes is slow enough
        raise UnknownFault("interval is a number of seconds from 0 to 3600.")


def _what(text: str) -> What:
    try:
        return What(text)
    except ValueError as problem:
        raise UnknownFault(f"on is one of {', '.join(What)}.") from problem


def _times(text: str) -> int | None:
    if text == "forever":
        return None
    if not text.isdecimal() or not int(text):
        raise UnknownFault("times is a whole number from 1, or forever.")
    return int(text)
