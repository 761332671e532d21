"""The pages that are made from the code and the manifests. `python -m rotoscope.cli.docs [--check]`.

The tables in README.md, docs/costs.md, docs/clients.md and docs/install.md; docs/manifest.md, docs/errors.md, the
schema of manifests, and the skills of the plugin for Claude Code.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rotoscope.cli.explain import errors_page
from rotoscope.cli.host_files.pages import client_parts
from rotoscope.cli.manifest_docs import manifest_page, manifest_schema
from rotoscope.contracts.tools import TOOLS
from rotoscope.environment import SETTINGS
from rotoscope.models.catalog import Catalog, load_catalog, manifest_folder
from rotoscope.models.descriptions import describe_route_price
from rotoscope.models.model_table import ModelRow, group_by_model, list_model_rows
from rotoscope.models.provider import Provider
from rotoscope.server.skills import load_skills

__all__ = ["fill_in_tables", "generated_pages", "write_pages"]

_OPEN_MARK = "<!-- generated: {} -->"
_CLOSE_MARK = "<!-- end: {} -->"
_NAME = re.compile(r"<!-- generated: ([\w -]+?) -->")


def write_pages(arguments: list[str]) -> int:
    """Write every generated page; with `--check`, only say which ones are out of date."""
    is_check = "--check" in arguments
    outdated = 0
    for path, text in generated_pages(Path(__file__).parents[3]).items():
        is_current = path.is_file() and path.read_text(encoding="utf-8") == text
        if is_check:
            print(f"{path.name} is up to date." if is_current else f"{path.name} is out of date: run `make docs`.")
            outdated += not is_current
        elif not is_current:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(outdated > 0)


def generated_pages(top: Path) -> dict[Path, str]:
    """Every generated page of a checkout, with what should stand in it."""
    with_tables = (top / "README.md", *(top / "docs" / f"{name}.md" for name in ("costs", "clients", "install")))
    return {
        **{page: fill_in_tables(page.read_text(encoding="utf-8")) for page in with_tables},
        top / "docs" / "manifest.md": manifest_page(),
        top / "docs" / "errors.md": errors_page(),
        top / "manifests" / "model.schema.json": manifest_schema(),
        **_plugin_skills(top / "manifests" / "claude-plugin" / "skills"),
    }


def _plugin_skills(folder: Path) -> dict[Path, str]:
    """The files of the plugin's skills, which are those that the server serves."""
    return {folder / skill.name / path: text for skill in load_skills() for path, text in skill.files.items()}


def fill_in_tables(text: str) -> str:
    """The text with every generated part replaced by what the code says now."""
    catalog = load_catalog(manifest_folder())
    parts = {
        "tools": _tool_table(),
        "models": _model_table(catalog),
        "keys": _key_table(catalog.providers),
        "settings": _settings_table(),
        **client_parts(),
    }
    for name in _NAME.findall(text):
        before, opening, rest = text.partition(_OPEN_MARK.format(name))
        _, closing, after = rest.partition(_CLOSE_MARK.format(name))
        text = f"{before}{opening}\n{parts[name]}\n{closing}{after}"
    return text


def _tool_table() -> str:
    rows = [f"| `{name}` | {_argument_list(name)} | {contract.description} |" for name, contract in TOOLS.items()]
    return "\n".join(["| tool | arguments | what it does |", "| --- | --- | --- |", *rows])


def _argument_list(tool: str) -> str:
    fields = TOOLS[tool].arguments.model_fields
    return ", ".join(f"`{name}`" if field.is_required() else f"`{name}?`" for name, field in fields.items())


def _model_table(catalog: Catalog) -> str:
    grouped = group_by_model(list_model_rows(catalog, describe_route_price))
    heading = [
        "| tool | model | takes | provider | price of a usual run | typical |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*heading, *map(_model_row, grouped.values())])


def _model_row(rows: Sequence[ModelRow]) -> str:
    """One row for a model; where its providers differ in price, each price names its own."""
    first, prices = rows[0], {row.title: row.price for row in rows}
    price = first.price if len(set(prices.values())) == 1 else "; ".join(f"{at}: {one}" for at, one in prices.items())
    seconds = f"{first.typical_seconds:g} s"
    return f"| `{first.tool}` | `{first.model}` | {first.takes} | {', '.join(prices)} | {price} | {seconds} |"


def _key_table(providers: Mapping[str, Provider]) -> str:
    needed = {True: "required", False: "optional"}
    rows = [
        f"| {p.title} | `{p.key_variables[0]}` | `{p.base_variable}` ({needed[p.base_required]}) |"
        for p in providers.values()
    ]
    return "\n".join(["| provider | key | base URL |", "| --- | --- | --- |", *rows])


def _settings_table() -> str:
    rows = [f"| `{setting.name}` | {setting.default} | {setting.meaning} |" for setting in SETTINGS]
    return "\n".join(["| variable | default | what it decides |", "| --- | --- | --- |", *rows])


if __name__ == "__main__":
    raise SystemExit(write_pages(sys.argv[1:]))
