"""What the command line says of money: what was spent, as a table, JSON and CSV, and prices beside published ones."""

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rotoscope.cli.commands import run_command

DAY_ONE = 1_795_737_600.0  # 2026-11-27
COLUMNS = [
    "day", "principal", "model", "provider", "sandbox", "runs", "estimate_usd", "charged_usd",
    "may_still_be_charged_usd", "price_unknown",
]  # fmt: skip
Run = Callable[..., tuple[int, str, str]]
Spend = Callable[..., None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: its exit code, stdout and stderr."""
    for name in ("REPLICATE_API_TOKEN", "FAL_KEY", "SEGMIND_API_KEY", "GATEWAY_API_KEY", "ROTOSCOPE_SANDBOX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "rotoscope"))
    monkeypatch.setenv("HOME", str(home))

    def command(*arguments: str, **more: str) -> tuple[int, str, str]:
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = run_command(arguments)
        return (code, *capsys.readouterr())

    return command


@pytest.fixture
def spend(run: Run, tmp_path: Path) -> Spend:
    """Writes a reservation into the ledger: amounts in millionths of a US dollar, None where one is not known."""
    assert run("jobs", "spend")[0] == 0
    written = 0

    def write(
        estimate: int | None, held: int | None, charged: int | None, day: int = 0, principal: str = "local",
        model: str = "m/one", provider: str = "fal", *, sandbox: bool = False,
    ) -> None:  # fmt: skip
        nonlocal written
        written += 1
        row = (f"j{written}", principal, "segment_image", model, provider, sandbox, DAY_ONE + day * 86_400)
        committed = charged if charged is not None else held
        with closing(sqlite3.connect(tmp_path / "rotoscope" / "ledger.sqlite3", isolation_level=None)) as ledger:
            ledger.execute(
                "INSERT INTO reservations (job_id, principal, tool, model, provider, sandbox, at, sent_at, settled_at, "
                "reserved, committed, estimate, charged) VALUES (?, ?, ?, ?, ?, ?, ?7, ?7, ?7, ?8, ?9, ?10, ?11)",
                (*row, held, committed, estimate, charged),
            )

    return write


def spending(run: Run, *arguments: str) -> tuple[int, str, str]:
    return run("jobs", "spend", "--days", "36500", *arguments)


def rows_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in table.splitlines()
            if line.startswith(("│", "┃"))]  # fmt: skip


def test_estimate_and_charge_stand_side_by_side_with_a_total_of_what_was_paid(run: Run, spend: Spend) -> None:
    spend(5_000, 6_000, 5_000)
    spend(5_000, 6_000, None)
    spend(None, None, None, model="m/two", day=1)
    spend(70_000, 70_000, 70_000, sandbox=True)
    code, out, _ = spending(run)
    head, *lines, total = rows_of(out)
    assert code == 0
    assert head == ["day (UTC)", "principal", "model", "provider", "runs", "estimate USD", "charged USD",
                    "may still be charged USD", "price unknown"]  # fmt: skip
    assert ["2026-11-28", "local", "m/two", "fal", "1", "0.0000", "0.0000", "0.0000", "1"] in lines
    assert ["2026-11-27", "local", "m/one", "fal", "2", "0.0100", "0.0050", "0.0060", ""] in lines
    assert [
        "2026-11-27",
        "local",
        "m/one",
        "fal (sandbox: nothing is paid)",
        "1",
        "0.0700",
        "0.0700",
        "0.0000",
        "",
    ] in lines
    assert total == ["total", "", "", "", "3", "0.0100", "0.0050", "0.0060", "1"]
    assert "ROTOSCOPE_MAX_USD_PER_DAY" in out


@pytest.mark.parametrize(("by", "head", "expected"), [
    ("day", ["day (UTC)"], [["2026-11-28"], ["2026-11-27"]]),
    ("model", ["model", "provider"], [["m/one", "fal"], ["m/one", "replicate"], ["m/two", "fal"]]),
    ("principal", ["principal"], [["local"], ["ann"]]),
])  # fmt: skip
def test_the_rows_are_added_up_by_one_thing(
    run: Run, spend: Spend, by: str, head: list[str], expected: list[list[str]]
) -> None:
    for day in (0, 1):
        spend(100_000, 100_000, 100_000, day)
        spend(200_000, 200_000, 200_000, day, principal="ann")
        spend(100_000, 100_000, None, day, model="m/two")
        spend(100_000, 100_000, 100_000, day, provider="replicate")
    columns, *lines, total = rows_of(spending(run, "--by", by)[1])
    assert columns[: len(head)] == head
    assert sorted(line[: len(head)] for line in lines) == sorted(expected)
    assert total[len(head) :] == ["8", "1.0000", "0.8000", "0.2000", ""]
    assert sum(float(line[len(head) + 1]) for line in lines) == pytest.approx(1.0)


def test_csv_has_stable_columns_and_lines_as_rfc_4180_says(run: Run, spend: Spend) -> None:
    spend(5_000, 6_000, 4_200)
    spend(None, None, None, model='a "b", c', day=1, sandbox=True)
    code, out, _ = spending(run, "--csv")
    assert code == 0
    assert out.count("\r\n") == out.count("\n") == 3
    head, *lines = csv.reader(io.StringIO(out, newline=""))
    assert head == COLUMNS
    assert lines == [
        ["2026-11-28", "local", 'a "b", c', "fal", "true", "1", "0.000000", "0.000000", "0.000000", "1"],
        ["2026-11-27", "local", "m/one", "fal", "false", "1", "0.005000", "0.004200", "0.000000", "0"],
    ]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("https://a.example")'])
def test_a_name_that_a_spreadsheet_would_run_is_text_in_csv(run: Run, spend: Spend, name: str) -> None:
    spend(1, 1, 1, principal=name, model=name)
    _, line = csv.reader(io.StringIO(spending(run, "--csv")[1], newline=""))
    assert line[1:3] == [f"'{name}", f"'{name}"]


def test_json_has_every_amount_and_is_not_changed_by_names(run: Run, spend: Spend) -> None:
    spend(5_000, 6_000, None, principal="=a")
    (row,) = json.loads(spending(run, "--json")[1])
    assert row == {
        "day": "2026-11-27", "principal": "=a", "model": "m/one", "provider": "fal", "sandbox": False, "runs": 1,
        "estimate": 0.005, "held": 0.006, "charged": 0.0, "unknown": 0,
    }  # fmt: skip


def test_csv_and_json_at_once_are_refused(run: Run) -> None:
    with pytest.raises(SystemExit):
        run("jobs", "spend", "--csv", "--json")


def test_charges_are_read_before_they_are_shown_and_a_provider_that_does_not_answer_changes_nothing(
    run: Run, spend: Spend, tmp_path: Path
) -> None:
    """Nobody listens on port 9 of this machine."""
    fal = {"FAL_KEY": "id:secret", "FAL_BASE_URL": "http://127.0.0.1:9"}
    code, out, err = run("jobs", "spend", "--refresh", "--csv", **fal)
    assert (code, out.count("\n")) == (0, 1)
    assert err == "fal: every run that it could list has a known charge.\n"
    spend(5_000, 6_000, None, day=0)
    ledger = tmp_path / "rotoscope" / "ledger.sqlite3"
    with closing(sqlite3.connect(ledger, isolation_level=None)) as opened:
        opened.execute("UPDATE reservations SET sent_at = strftime('%s', 'now')")
        opened.execute("INSERT INTO runs VALUES ('fal', 'r1', 'j1', strftime('%s', 'now'))")
    code, out, err = run("jobs", "spend", "--refresh", "--csv", **fal)
    assert (code, out.count("\n")) == (0, 2)
    assert err.startswith("fal: of 1 runs without a known charge 0 were found and written. Not all were asked about: ")
    assert "secret" not in out + err


def test_prices_are_shown_beside_what_is_published_without_asking_anybody(run: Run, tmp_path: Path) -> None:
    code, out, err = run("models", "prices", FAL_KEY="id:secret", FAL_BASE_URL="http://127.0.0.1:9")
    assert (code, err) == (0, "")
    head, *lines = rows_of(out)
    assert head == ["model", "provider", "endpoint", "manifest", "published", "asked (UTC)", "difference"]
    (line,) = [one for one in lines if one[0] == "fal-ai/sam2/image"]
    assert line[1:] == ["fal", "fal-ai/sam2/image", "0.0024 USD for 1 compute second", "", "", "not known"]
    assert not (tmp_path / "rotoscope" / "prices.json").exists()


def test_prices_that_nobody_tells_end_with_1_and_the_reason(run: Run) -> None:
    environ = {"FAL_KEY": "id:secret", "FAL_BASE_URL": "http://127.0.0.1:9"}
    code, out, err = run("models", "prices", "--refresh", "--json", **environ)
    assert code == 1
    found: list[dict[str, Any]] = json.loads(out)
    assert {one["verdict"] for one in found} == {"not known", "no list"}
    assert err.startswith("fal did not tell its prices: ")
    assert "secret" not in out + err


def test_prices_are_compared_with_what_the_file_remembers(run: Run, tmp_path: Path) -> None:
    environ = {"FAL_KEY": "id:secret", "FAL_BASE_URL": "http://127.0.0.1:9"}
    run("models", "prices", "--refresh", **environ)
    file = tmp_path / "rotoscope" / "prices.json"
    kept = json.loads(file.read_text(encoding="utf-8"))
    (source,) = kept["sources"].values()
    row = {"asked_at": DAY_ONE, "amount": 0.0048, "unit": "compute seconds", "currency": "USD"}
    source["prices"] = {"fal-ai/sam2/image": row}
    file.write_text(json.dumps(kept), encoding="utf-8")
    (line,) = [one for one in rows_of(run("models", "prices")[1]) if one[0] == "fal-ai/sam2/image"]
    assert line[4:] == ["0.0048 USD for 1 compute second", "2026-11-27T00:00:00Z", "dearer, x 2"]
