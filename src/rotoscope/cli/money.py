"""What a person sees of money: what was spent, as a table and as CSV, and prices beside the published ones. Pure."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Literal

from rich.table import Table

from rotoscope.contracts.characters import visible_text
from rotoscope.jobs.charges import ChargesRead
from rotoscope.store.reservations import DailySpend
from rotoscope.studio.prices import RoutePrice

__all__ = ["Grouping", "describe_charges", "group_spending", "price_table", "spending_csv", "spending_table"]

Grouping = Literal["day", "model", "principal"]
_KEPT: Mapping[Grouping, tuple[str, ...]] = {
    "day": ("day",),
    "model": ("model", "provider"),
    "principal": ("principal",),
}
_NAMES = ("day", "principal", "model", "provider")
_AMOUNTS = ("runs", "estimate", "held", "charged", "unknown")
_CSV_COLUMNS = {
    "day": "day",
    "principal": "principal",
    "model": "model",
    "provider": "provider",
    "sandbox": "sandbox",
    "runs": "runs",
    "estimate": "estimate_usd",
    "charged": "charged_usd",
    "held": "may_still_be_charged_usd",
    "unknown": "price_unknown",
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula
_SANDBOX_MARK = "(sandbox: nothing is paid)"


def group_spending(rows: Iterable[DailySpend], by: Grouping | None) -> list[DailySpend]:
    """The rows added up by one thing, what is of several left empty; the sandbox's stay apart. None: as they are."""
    if by is None:
        return list(rows)
    groups: dict[tuple[object, ...], DailySpend] = {}
    for row in rows:
        day, principal, model, provider = (getattr(row, name) if name in _KEPT[by] else "" for name in _NAMES)
        plain = replace(row, day=day, principal=principal, model=model, provider=provider)
        key = (day, principal, model, provider, row.sandbox)
        groups[key] = _add(groups[key], plain) if key in groups else plain
    return list(groups.values())


def _add(one: DailySpend, other: DailySpend) -> DailySpend:
    """One row with the amounts of two; sums of millionths have no more decimals than those."""
    sums = {name: round(getattr(one, name) + getattr(other, name), 6) for name in _AMOUNTS}
    return replace(one, **sums)


def spending_table(rows: Sequence[DailySpend], by: Grouping | None) -> Table:
    """What was spent, for a person: estimate and charge side by side, and a total of what was no rehearsal."""
    names = [name for name in _NAMES if by is None or name in _KEPT[by]]
    titles = {"day": "day (UTC)"}
    amounts = ("runs", "estimate USD", "charged USD", "may still be charged USD", "price unknown")
    table = Table(*(titles.get(name, name) for name in names))
    for title in amounts:
        table.add_column(title, justify="right")
    for row in rows:
        cells = [visible_text(str(getattr(row, name))) for name in names]
        cells[-1] += f" {_SANDBOX_MARK}" if row.sandbox else ""
        table.add_row(*cells, *_amount_cells(row))
    paid = [row for row in rows if not row.sandbox]
    if paid:
        total = paid[0]
        for row in paid[1:]:
            total = _add(total, row)
        table.add_section()
        table.add_row("total", *[""] * (len(names) - 1), *_amount_cells(total))
    return table


def _amount_cells(row: DailySpend) -> tuple[str, ...]:
    amounts = (f"{usd:.4f}" for usd in (row.estimate, row.charged, row.held))
    return (str(row.runs), *amounts, str(row.unknown or ""))


def spending_csv(rows: Iterable[DailySpend]) -> str:
    """What was spent as CSV (RFC 4180), for a spreadsheet: the columns keep their names and order."""
    assert set(_CSV_COLUMNS) == {one.name for one in fields(DailySpend)}
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_CSV_COLUMNS.values())
    for row in rows:
        writer.writerow([_csv_cell(getattr(row, name)) for name in _CSV_COLUMNS])
    return text.getvalue()


def _csv_cell(value: object) -> str:
    """A cell. A name that a spreadsheet would run as a formula gets an apostrophe before it, which it shows as text."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def describe_charges(read: ChargesRead) -> str:
    """What came of reading a provider's charges, in a sentence or two."""
    if not read.unknown:
        return f"{read.title}: every run that it could list has a known charge."
    words = f"{read.title}: of {read.unknown} runs without a known charge {read.found} were found and written."
    if read.is_refused:
        return f"{words} The key may not read what was charged: that takes one with more rights."
    return f"{words} Not all were asked about: {read.error}" if read.error else words


def price_table(lines: Sequence[RoutePrice]) -> Table:
    """Every route's price beside the published one, for a person."""
    table = Table("model", "provider", "endpoint", "manifest", "published", "asked (UTC)", "difference")
    for line in lines:
        names = (line.model, line.provider, line.endpoint, line.manifest_price, line.published_price)
        table.add_row(*map(visible_text, names), line.asked_at or "", _difference(line))
    return table


def _difference(line: RoutePrice) -> str:
    if line.ratio is None or line.verdict == "same":
        return line.verdict
    return f"{line.verdict}, x {line.ratio:.3g}"
