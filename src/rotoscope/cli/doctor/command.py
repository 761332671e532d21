"""The command `rotoscope doctor`, and how its findings are printed: a line each for a person, or one JSON document."""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rotoscope import __version__
from rotoscope.cli.doctor.records import GROUPS, Finding, worst_state
from rotoscope.contracts.characters import escape_invisible, visible_text
from rotoscope.settings import user_home, working_folder

__all__ = ["add_parser"]

_DOCUMENT_VERSION = 1
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    doctor = commands.add_parser("doctor", help="check this installation, and say what to do about what is wrong")
    doctor.add_argument("--json", action="store_true", help="print JSON instead of lines")
    doctor.add_argument("--offline", action="store_true", help="ask nobody: no provider, no object store")
    # It reads the environment itself: settings that cannot be used are among what it reports.
    doctor.set_defaults(run_without_settings=_run_doctor)


def _run_doctor(asked: argparse.Namespace) -> int:
    from rotoscope.cli.doctor.gathering import Examination, examine

    findings = examine(Examination(os.environ, working_folder(), user_home(), offline=asked.offline))
    if asked.json:
        print(escape_invisible(json.dumps(_make_document(findings), ensure_ascii=False, indent=2)))
    else:
        _print_findings(findings)
    return 1 if worst_state(findings) == "problem" else 0


def _make_document(findings: tuple[Finding, ...]) -> dict[str, object]:
    return {
        "version": _DOCUMENT_VERSION,
        "rotoscope": __version__,
        "state": worst_state(findings),
        "checks": [asdict(finding) for finding in findings],
    }


def _print_findings(findings: tuple[Finding, ...]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    for group, title in GROUPS.items():
        found = [one for one in findings if one.group == group]
        if found:
            console.print(Text(title, style="bold"))
        for one in found:
            console.print(Text.assemble("  ", (f"{one.state:<9}", _STYLES[one.state]), visible_text(one.summary)))
            if one.advice:
                console.print(Text(f"{'':11}{visible_text(one.advice)}", style="bold"))
    console.print(Text("\n" + " ".join(_sum_up(findings))))


def _sum_up(findings: Sequence[Finding]) -> Iterator[str]:
    counts = {state: sum(one.state == state for one in findings) for state in _STYLES}
    parts = [
        f"{number} {what}{'' if number == 1 else 's'}" for what, number in counts.items() if number and what != "ok"
    ]
    if not parts:
        yield f"All {len(findings)} checks are ok."
        return
    yield f"{len(findings)} checks: {' and '.join(reversed(parts))}."
    if counts["problem"]:
        yield "Begin with the problems: below each stands what to do."
