"""The README's tables, generated from the code and the manifests. `python -m rotoscope.cli.docs [--check]`."""

import sys
from collections.abc import Mapping
from pathlib import Path

from rotoscope.contracts.tools import TOOLS
from rotoscope.models.catalog import Catalog, load_catalog, manifest_folder
from rotoscope.models.descriptions import price_in_words, prompts_in_words
from rotoscope.models.manifest import Manifest, Provider
from rotoscope.server.schemas import input_schema

__all__ = ["filled_in", "main"]

_OPEN = "<!-- generated: {} -->"
_CLOSE = "<!-- end: {} -->"


def main(arguments: list[str]) -> int:
    """Write the tables into the README; with `--check`, only say whether they are up to date."""
    readme = Path(__file__).parents[3] / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = filled_in(old)
    if "--check" in arguments:
        print("README.md is up to date." if new == old else "README.md is out of date: run `make docs`.")
        return int(new != old)
    readme.write_text(new, encoding="utf-8")
    return 0


def filled_in(text: str) -> str:
    """The text with every generated part made anew."""
    catalog = load_catalog(manifest_folder())
    for name, table in {"tools": _tools(), "models": _models(catalog), "keys": _keys(catalog.providers)}.items():
        before, opening, rest = text.partition(_OPEN.format(name))
        _, closing, after = rest.partition(_CLOSE.format(name))
        text = f"{before}{opening}\n{table}\n{closing}{after}"
    return text


def _tools() -> str:
    rows = [f"| `{name}` | {_arguments(name)} | {contract.description} |" for name, contract in TOOLS.items()]
    return "\n".join(["| tool | arguments | what it does |", "| --- | --- | --- |", *rows])


def _arguments(tool: str) -> str:
    schema = input_schema(TOOLS[tool].arguments)
    required = schema.get("required", [])
    properties = schema["properties"]
    assert isinstance(required, list)
    assert isinstance(properties, Mapping)
    return ", ".join(f"`{name}`" if name in required else f"`{name}?`" for name in properties)


def _models(catalog: Catalog) -> str:
    ranked = sorted(catalog.models.values(), key=lambda m: (m.tool, m.rank, m.id))
    rows = [_model(catalog, manifest) for manifest in ranked]
    heading = ["| model | tool | takes | provider | price | typical |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*heading, *rows])


def _model(catalog: Catalog, manifest: Manifest) -> str:
    providers = ", ".join(catalog.providers[route.provider].title for route in manifest.routes)
    seconds = f"{manifest.timing.typical_seconds:g} s"
    takes, price = prompts_in_words(manifest), price_in_words(manifest.price)
    return f"| `{manifest.id}` | `{manifest.tool}` | {takes} | {providers} | {price} | {seconds} |"


def _keys(providers: Mapping[str, Provider]) -> str:
    needed = {True: "required", False: "optional"}
    rows = [
        f"| {p.title} | `{p.key_variables[0]}` | `{p.base_variable}` ({needed[p.base_required]}) |"
        for p in providers.values()
    ]
    return "\n".join(["| provider | key | base URL |", "| --- | --- | --- |", *rows])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
