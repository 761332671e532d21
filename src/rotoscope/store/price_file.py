"""The prices that providers have published, as they were last asked for: one small file in the home.

It is a memory, not a record: a file that is missing, broken or too large is as none, and the prices are asked for
again. Prices of one account say nothing of another's, nor do the sandbox's, so each source has a part of its own.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rotoscope.providers.billing import PublishedPrice
from rotoscope.providers.http.messages import Json

__all__ = ["KnownPrice", "PriceBook", "PriceFile"]

_VERSION = 1
_MAX_BYTES = 1_000_000
_MAX_SOURCES, _MAX_PRICES = 20, 2000
_MAX_TEXT = 300  # characters
_MAX_NUMBER = 1e12


@dataclass(frozen=True, slots=True)
class KnownPrice:
    """What a provider answered about one endpoint.

    Attributes:
        asked_at: when it was asked, in Unix seconds.
        published: its price; None where it publishes none.
    """

    asked_at: float
    published: PublishedPrice | None = None


@dataclass(frozen=True, slots=True)
class PriceBook:
    """What is known of the prices of one source, by endpoint.

    Attributes:
        prices: what was answered about each endpoint.
        tried_at: when it was last asked, whether or not an answer came, in Unix seconds; None for never.
    """

    prices: Mapping[str, KnownPrice] = field(default_factory=dict)
    tried_at: float | None = None


@dataclass(frozen=True, slots=True)
class PriceFile:
    """Where published prices are kept between processes. Its methods block for a moment."""

    path: Path

    def read(self, source: str) -> PriceBook:
        """What is known of a source. It never fails."""
        return _read_book(_object(self._read_sources().get(source)))

    def write(self, source: str, book: PriceBook) -> None:
        """Replace what is known of a source; the others stay.

        Raises:
            OSError: the disk is full, or the folder is gone.
        """
        sources = {name: part for name, part in self._read_sources().items() if name != source}
        kept = dict(list(sources.items())[-(_MAX_SOURCES - 1) :])
        text = json.dumps({"version": _VERSION, "sources": {**kept, source: _book_to_json(book)}})
        scratch = self.path.with_name(f"{self.path.name}.{secrets.token_hex(6)}")
        try:
            opened = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(opened, "w", encoding="utf-8") as file:
                file.write(text)
            scratch.replace(self.path)
        finally:
            scratch.unlink(missing_ok=True)

    def _read_sources(self) -> dict[str, Json]:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            with self.path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) <= _MAX_BYTES:
                known = _object(json.loads(content))
                return _object(known.get("sources")) if known.get("version") == _VERSION else {}
        return {}


def _read_book(part: Mapping[str, Json]) -> PriceBook:
    rows = list(_object(part.get("prices")).items())[:_MAX_PRICES]
    read = {endpoint: _read_price(endpoint, _object(row)) for endpoint, row in rows if len(endpoint) <= _MAX_TEXT}
    return PriceBook({name: one for name, one in read.items() if one is not None}, _number(part.get("tried_at")))


def _read_price(endpoint: str, row: Mapping[str, Json]) -> KnownPrice | None:
    asked_at, usd = _number(row.get("asked_at")), _number(row.get("amount"))
    unit, currency = row.get("unit"), row.get("currency")
    if asked_at is None:
        return None
    if usd is None or not isinstance(unit, str) or not isinstance(currency, str):
        return KnownPrice(asked_at)
    return KnownPrice(asked_at, PublishedPrice(endpoint, usd, unit[:_MAX_TEXT], currency[:_MAX_TEXT]))


def _book_to_json(book: PriceBook) -> dict[str, Json]:
    newest = sorted(book.prices.items(), key=lambda pair: -pair[1].asked_at)[:_MAX_PRICES]
    return {"tried_at": book.tried_at, "prices": {endpoint: _price_to_json(one) for endpoint, one in newest}}


def _price_to_json(known: KnownPrice) -> dict[str, Json]:
    price = known.published
    if price is None:
        return {"asked_at": known.asked_at}
    return {"asked_at": known.asked_at, "amount": price.amount, "unit": price.unit, "currency": price.currency}


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MAX_NUMBER else None
