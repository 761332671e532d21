"""What a check finds, and how it is to be shown: the records that every module of the doctor shares."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["GROUPS", "Finding", "Group", "State", "ok", "problem", "warning", "worst_state"]

State = Literal["ok", "warning", "problem"]
Group = Literal["installation", "settings", "home", "ledger", "providers", "media", "clients"]

GROUPS: dict[Group, str] = {
    "installation": "Installation",
    "settings": "Settings",
    "home": "Home folder",
    "ledger": "Ledger",
    "providers": "Providers and network",
    "media": "Media",
    "clients": "Clients",
}
"""The groups in the order in which they are shown, with their titles."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        id: of the check; stable, for programs.
        group: where it is shown.
        state: how it is.
        summary: one sentence.
        advice: what to do, in one sentence; empty only where all is well.
    """

    id: str
    group: Group
    state: State
    summary: str
    advice: str = ""


def ok(group: Group, name: str, summary: str, advice: str = "") -> Finding:
    """A check that found nothing wrong; advice is what could be done besides."""
    return Finding(name, group, "ok", summary, advice)


def warning(group: Group, name: str, summary: str, advice: str) -> Finding:
    """Something that works, or will, and should be looked at."""
    return Finding(name, group, "warning", summary, advice)


def problem(group: Group, name: str, summary: str, advice: str) -> Finding:
    """Something that does not work."""
    return Finding(name, group, "problem", summary, advice)


def worst_state(findings: tuple[Finding, ...]) -> State:
    """The state of all together."""
    states = {finding.state for finding in findings}
    return "problem" if "problem" in states else "warning" if "warning" in states else "ok"
