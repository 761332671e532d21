"""A setting or a manifest that cannot be used is one sentence that names it: no traceback, no stray file."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rotoscope.cli.commands import run_command

COMMANDS = [
    ["models"],
    ["jobs", "list"],
    ["jobs", "spend"],
    ["jobs", "sweep"],
    ["call", "list_jobs"],
    ["call", "segment_image", "--json", '{"image": "a.png", "instruction": "a dog", "dry_run": true}'],
]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder with an environment of its own; its exit code and what it printed."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def command(arguments: list[str], **environ: str) -> tuple[int, str]:
        with monkeypatch.context() as patched:
            for name in [name for name in os.environ if name.startswith(("ROTOSCOPE_", "FAL_", "REPLICATE_"))]:
                patched.delenv(name)
            for name, value in {"ROTOSCOPE_HOME": str(tmp_path / "home"), **environ}.items():
                patched.setenv(name, value)
            code = run_command(arguments)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert list(here.iterdir()) == [], "a stray file"
        return code, printed.err

    return command


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROTOSCOPE_DATABASE_URL", "postgresql://user:hunter2@host/jobs"),
        ("ROTOSCOPE_DATABASE_URL", "postgres://host/jobs"),
        ("ROTOSCOPE_DATABASE_URL", "mysql+pymysql://host/jobs"),
        ("ROTOSCOPE_DATABASE_URL", "ledger.sqlite3"),
        ("ROTOSCOPE_DATABASE_URL", "sqlite:ledger"),
        ("ROTOSCOPE_DATABASE_URL", "sqlite://host/jobs"),
        ("ROTOSCOPE_DATABASE_URL", "sqlite+aiosqlite:///jobs"),
        ("ROTOSCOPE_DATABASE_URL", "sqlite:///jobs?nonsense=1"),
        ("ROTOSCOPE_HOME", "~nobody-of-that-name/rotoscope"),
        ("ROTOSCOPE_ROOTS", "/tmp:~nobody-of-that-name"),
        ("ROTOSCOPE_INLINE_SECONDS", "soon"),
        ("ROTOSCOPE_RETENTION_DAYS", "-1"),
        ("ROTOSCOPE_MAX_USD_PER_CALL", "nan"),
        ("ROTOSCOPE_MAX_USD_PER_DAY", "1e300"),
        ("ROTOSCOPE_ASK_ABOVE_USD", "much"),
        ("ROTOSCOPE_UNPRICED", "perhaps"),
        ("ROTOSCOPE_AT_ONCE", "fal=" + "9" * 5_000),
        ("ROTOSCOPE_AT_ONCE", "fal="),
        ("ROTOSCOPE_SANDBOX", "http://"),
        ("ROTOSCOPE_SANDBOX", "http://a b"),
    ],
)
def test_a_malformed_setting_is_named_in_one_sentence_by_every_command(run: Run, name: str, value: str) -> None:
    for arguments in COMMANDS:
        code, printed = run(arguments, **{name: value})
        assert code == 2
        assert name in printed
        assert printed.count("\n") == 1
        assert "hunter2" not in printed


@pytest.mark.parametrize(
    "value", ["ftp://gateway.example", "gateway.example", "http://", "https://h:port", "https://u@h"]
)
def test_a_malformed_base_address_is_named_in_one_sentence(run: Run, value: str) -> None:
    for arguments in COMMANDS:
        code, printed = run(arguments, FAL_KEY="id:none-of-yours", FAL_BASE_URL=value)
        assert code == 2
        assert "FAL_BASE_URL" in printed
        assert printed.count("\n") == 1


PROVIDER = """
[mine]
title = "Mine"
dialect = "replicate"
bases = { api = "https://mine.example" }
base_variable = "MINE_BASE_URL"
key_variables = ["MINE_KEY"]
auth = { header = "Authorization", prefix = "Bearer " }
output_hosts = ["mine.example"]
can_cancel = true
can_upload = true
inline_bytes = 1000
source = "a test"
"""


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('dialect = "replicate"', 'dialect = "telepathy"', "dialect"),
        ('api = "https://mine.example"', "", "bases"),
        ('api = "https://mine.example"', 'storage = "https://mine.example"', "bases"),
        ('"https://mine.example"', '"mine.example"', "bases.api"),
        ('output_hosts = ["mine.example"]', 'output_hosts = ["https://mine.example/"]', "output_hosts"),
        ('header = "Authorization"', 'header = "Two Words"', "auth.header"),
        ('key_variables = ["MINE_KEY"]', "key_variables = []", "key_variables"),
        ("inline_bytes = 1000", "inline_bytes = -1", "inline_bytes"),
        ('source = "a test"', "", "source"),
        ('source = "a test"', 'source = "a"\nversion_path = "v1"', "version_path"),
        ('dialect = "replicate"', 'dialect = "fal"\nversion_path = "/v1"', "takes no version_path"),
        ('source = "a test"', 'source = "a"\nforms = { official = "other" }', "mine.forms"),
        ('source = "a test"', 'source = "a"\nheaders = { Host = { value = "x" } }', "header host"),
        ('source = "a test"', 'source = "a"\nheaders = { authorization = { value = "x" } }', "header authorization"),
        ('source = "a test"', 'source = "a"\nheaders = { x-a = { prefix = "x" } }', "mine.headers.x-a"),
        ("[mine]", "mine = 1\n[other]", "mine"),
        ("[mine]", "[mine", "line 2"),
    ],
)
def test_providers_of_the_users_that_cannot_be_used_are_reported_by_file_and_field(
    run: Run, tmp_path: Path, old: str, new: str, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "home" / "models"
    folder.mkdir(parents=True)
    assert old in PROVIDER
    (folder / "providers.toml").write_text(PROVIDER.replace(old, new, 1), encoding="utf-8")
    for arguments in COMMANDS[:3]:
        caplog.clear()
        code, printed = run(arguments)
        assert code == 0
        report = printed + caplog.text
        assert "providers.toml" in report
        assert field in report


def test_providers_of_the_users_that_can_be_used_are(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "models"
    folder.mkdir(parents=True)
    (folder / "providers.toml").write_text(PROVIDER, encoding="utf-8")
    assert run(["models"]) == (0, "")
