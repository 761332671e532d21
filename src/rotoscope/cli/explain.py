"""`rotoscope explain CODE`: what an error means, what it has cost and what to do."""

import argparse
import difflib
import sys
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from rotoscope.errors import InvalidInput
from rotoscope.settings import Settings

__all__ = ["add_parser", "errors_page", "read_explanations"]

_PAGE = "errors.md"
_SECTION = "## "


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    explain = commands.add_parser("explain", help="say what an error code means and what to do")
    explain.add_argument("code", metavar="CODE", nargs="?", help="such as budget; without it, all codes are listed")
    explain.set_defaults(run=_explain)


def errors_page() -> str:
    """The page about all errors, in Markdown; each code is a heading of the second level."""
    return (files("rotoscope") / "assets" / _PAGE).read_text(encoding="utf-8")


def read_explanations(page: str) -> Mapping[str, str]:
    """The sections of such a page, by code."""
    sections: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in page.splitlines():
        if line.startswith(_SECTION):
            lines = sections.setdefault(line.removeprefix(_SECTION).strip(), [])
        elif line.startswith("# "):
            lines = None
        elif lines is not None:
            lines.append(line)
    return MappingProxyType({code: "\n".join(lines).strip() for code, lines in sections.items()})


def _explain(asked: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 - every command takes the settings
    explanations = read_explanations(errors_page())
    if asked.code is None:
        print("\n".join(explanations))
        return 0
    if asked.code not in explanations:
        near = difflib.get_close_matches(asked.code, explanations, n=1)
        hint = f"Did you mean {near[0]}?" if near else "rotoscope explain lists all codes."
        raise InvalidInput(f"There is no error code {asked.code[:80]!r}.", hint=hint)
    print(f"{asked.code}\n\n{explanations[asked.code]}", file=sys.stdout)
    return 0
