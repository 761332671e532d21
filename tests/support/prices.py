"""A shipped manifest with another price, or with none, as its user would write it."""

import re

__all__ = ["with_price", "without_price"]

_PRICE_TABLE = re.compile(r"^\[+(?:routes\.)?price[^\]\n]*\]+.*\n(?:(?!\[).*\n)*", re.MULTILINE)


def without_price(manifest: str) -> str:
    """The text of a manifest without its tables of prices."""
    return _PRICE_TABLE.sub("", manifest)


def with_price(manifest: str, unit: str, usd: float, seen: str = "2026-11") -> str:
    """The text of a manifest with another price, at its end."""
    return without_price(manifest) + f'\n[price]\nunit = "{unit}"\nusd = {usd}\nseen = "{seen}"\n'
