"""The documents as a site: it is built without a warning, every page is in it, and nothing is asked for elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
_LOADED = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(made)]
    configuration = str(TOP / "manifests" / "site" / "mkdocs.yml")
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        [*command, "-f", configuration], cwd=TOP, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stderr
    return made


def test_every_document_is_a_page_of_the_site(site: Path) -> None:
    documents = {path.relative_to(TOP / "docs").with_suffix(".html") for path in (TOP / "docs").rglob("*.md")}
    pages = {path.parent / "index.html" if path.stem == "README" else path for path in documents}
    assert {path for path in pages if not (site / path).is_file()} == set()


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loaded = {url for page in site.rglob("*.html") for url in _LOADED.findall(page.read_text(encoding="utf-8"))}
    assert loaded == set()


def test_the_reference_says_what_the_docstrings_say(site: Path) -> None:
    results = (site / "reference" / "results.html").read_text(encoding="utf-8")
    assert "Money in US dollars; null means unknown, never free." in results
    assert 'id="rotoscope.contracts.results.Cost.at_most_usd"' in results


def test_every_error_code_has_an_address_of_its_own(site: Path) -> None:
    page = (site / "errors.html").read_text(encoding="utf-8")
    assert 'id="submit_unknown"' in page
    assert 'id="budget"' in page
