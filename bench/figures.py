"""What the scripts here share: the line above their figures, and the size at which the tests run them."""

import argparse
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime

__all__ = ["arguments", "headline", "percentile"]


def headline(what: str) -> str:
    """What was measured, when and where: a figure without these says nothing."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{what}, {datetime.now(UTC):%Y-%m-%d}, {machine}"


def arguments(
    doc: str | None, given: Sequence[str] | None = None, **sizes: tuple[float, float, str]
) -> dict[str, float]:
    """The sizes that a script measures at, from its command line.

    Args:
        doc: the script's docstring.
        given: the command line; the process's own by default.
        sizes: by its name: the usual value, the one of `--smallest`, and what it is. Whole numbers stay whole.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--smallest", action="store_true", help="the smallest size: it shows that the script runs")
    for name, (usual, _, meaning) in sizes.items():
        words = f"{meaning} ({usual:g})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(usual), help=words)
    asked = vars(parser.parse_args(given))
    small = asked.pop("smallest")
    return {
        name: asked[name] if asked[name] is not None else (least if small else usual)
        for name, (usual, least, _) in sizes.items()
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of all values lies."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
