"""Amounts of money in words, and what they are for. Pure."""

import math
from collections import Counter
from collections.abc import Sequence

__all__ = ["count_equal_words", "format_price", "format_usd"]

_MAX_DECIMALS = 10
_SAME_WITHIN = 1.1  # a bound that is a tenth above the price is not worth a word


def count_equal_words(texts: Sequence[str]) -> list[str]:
    """Each text once, in their order; one that is there several times with their number: `3 times 1 USD`."""
    counts = Counter(texts)
    return [text if count == 1 else f"{count} times {text}" for text, count in counts.items()]


def format_usd(usd: float, decimals: int = 2) -> str:
    """US dollars with some decimals; a small amount with as many as show two of its digits: it is not nothing."""
    if 0 < usd < 10**-decimals:
        decimals = min(1 - math.floor(math.log10(usd)), _MAX_DECIMALS)
    return f"{usd:.{decimals}f} USD"


def format_price(typical_usd: float, at_most_usd: float | None, decimals: int = 2) -> str:
    """What a run costs, and what at most where that is noticeably more."""
    words = format_usd(typical_usd, decimals)
    if at_most_usd is None or at_most_usd <= typical_usd * _SAME_WITHIN:
        return words
    return f"{words}, at most {format_usd(at_most_usd, decimals)}"
