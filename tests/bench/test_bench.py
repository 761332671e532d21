"""Every script in bench/ runs, and says what it measured, when and on which machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from soak import IS_SOAK

TOP = Path(__file__).parents[2]
SHARED = {"figures"}
SCRIPTS = sorted(path.stem for path in (TOP / "bench").glob("*.py") if path.stem not in SHARED)
LONG = {"chain", "cold_start", "film", "growth", "hostile", "lag", "long_clip", "many", "serve", "waiting", "webhooks"}
"""Scripts that take long even at their smallest: they run in `make soak`."""

HEADLINE = re.compile(r".+, \d{4}-\d{2}-\d{2}, \w+, \d+ cores, Python \d+\.\d+\.\d+")
NEEDS = "  needs "
"""How a line begins that names clips or weights which are not on this machine."""

FIGURE = re.compile(r"\d (ms|s|MB|x|jobs)\b|\d+\.\d\d \(to hold")


@pytest.mark.parametrize("script", [script for script in SCRIPTS if IS_SOAK or script not in LONG])
def test_a_script_prints_its_figures_below_what_when_and_where(script: str) -> None:
    command = [sys.executable, str(TOP / "bench" / f"{script}.py"), "--smallest"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    first, *figures = done.stdout.splitlines()
    assert HEADLINE.fullmatch(first), first
    if figures and figures[0].startswith(NEEDS):
        pytest.skip(figures[0].strip())
    assert figures
    assert all(re.search(r"\d", line) or line == figures[0] for line in figures), figures
    assert any(FIGURE.search(line) for line in figures), figures


def test_make_bench_runs_every_script() -> None:
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"bench/(\w+)\.py", makefile)) == set(SCRIPTS)


def test_every_figure_of_the_architecture_page_names_the_script_that_prints_it() -> None:
    page = (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("## Figures") :].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert rows
    named = [re.search(r"\| `(\w+)` \|", row) for row in rows]
    assert all(found and found[1] in SCRIPTS for found in named), rows
