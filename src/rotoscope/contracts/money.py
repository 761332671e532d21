"""An amount of money in words. Pure."""

import math

__all__ = ["in_dollars"]

_MOST_DECIMALS = 10


def in_dollars(usd: float, decimals: int = 2) -> str:
    """US dollars with some decimals; a small amount with as many as show two of its digits: it is not nothing."""
    if 0 < usd < 10**-decimals:
        decimals = min(1 - math.floor(math.log10(usd)), _MOST_DECIMALS)
    return f"{usd:.{decimals}f} USD"
