"""An amount of money in words. Pure."""

import math

__all__ = ["format_usd"]

_MAX_DECIMALS = 10


def format_usd(usd: float, decimals: int = 2) -> str:
    """US dollars with some decimals; a small amount with as many as show two of its digits: it is not nothing."""
    if 0 < usd < 10**-decimals:
        decimals = min(1 - math.floor(math.log10(usd)), _MAX_DECIMALS)
    return f"{usd:.{decimals}f} USD"
