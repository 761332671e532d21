"""The README's tables, generated from the code and the manifests. `python -m rotoscope.cli.docs [--check]`."""

import sys
from collections.abc import Mapping
from pathlib import Path

from rotoscope.contracts.tools import TOOLS
from rotoscope.environment import SETTINGS
from rotoscope.models.catalog import Catalog, load_catalog, manifest_folder
from rotoscope.models.descriptions import describe_price, describe_prompts
from rotoscope.models.manifest import Manifest, Provider
from rotoscope.server.schemas import input_schema

__all__ = ["fill_in_tables", "write_readme_tables"]

_OPEN_MARK = "<!-- generated: {} -->"
_CLOSE_MARK = "<!-- end: {} -->"


def write_readme_tables(arguments: list[str]) -> int:
    """Write the tables into the README; with `--check`, only say whether they are up to date."""
    readme = Path(__file__).parents[3] / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = fill_in_tables(old)
    if "--check" in arguments:
        print("README.md is up to date." if new == old else "README.md is out of date: run `make docs`.")
        return int(new != old)
    readme.write_text(new, encoding="utf-8")
    return 0


def fill_in_tables(text: str) -> str:
    """The text with every generated part replaced by what the code says now."""
    catalog = load_catalog(manifest_folder())
    for name, table in {
        "tools": _tool_table(),
        "models": _model_table(catalog),
        "keys": _key_table(catalog.providers),
        "settings": _settings_table(),
    }.items():
        before, opening, rest = text.partition(_OPEN_MARK.format(name))
        _, closing, after = rest.partition(_CLOSE_MARK.format(name))
        text = f"{before}{opening}\n{table}\n{closing}{after}"
    return text


def _tool_table() -> str:
    rows = [f"| `{name}` | {_argument_list(name)} | {contract.description} |" for name, contract in TOOLS.items()]
    return "\n".join(["| tool | arguments | what it does |", "| --- | --- | --- |", *rows])


def _argument_list(tool: str) -> str:
    schema = input_schema(TOOLS[tool].arguments)
    required = schema.get("required", [])
    properties = schema["properties"]
    assert isinstance(required, list)
    assert isinstance(properties, Mapping)
    return ", ".join(f"`{name}`" if name in required else f"`{name}?`" for name in properties)


def _model_table(catalog: Catalog) -> str:
    ranked = sorted(catalog.models.values(), key=lambda m: (m.tool, m.rank, m.id))
    rows = [_model_row(catalog, manifest) for manifest in ranked]
    heading = ["| model | tool | takes | provider | price | typical |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*heading, *rows])


def _model_row(catalog: Catalog, manifest: Manifest) -> str:
    providers = ", ".join(catalog.providers[route.provider].title for route in manifest.routes)
    seconds = f"{manifest.timing.typical_seconds:g} s"
    takes, price = describe_prompts(manifest), describe_price(manifest.price)
    return f"| `{manifest.id}` | `{manifest.tool}` | {takes} | {providers} | {price} | {seconds} |"


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
    raise SystemExit(write_readme_tables(sys.argv[1:]))
