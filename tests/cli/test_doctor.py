"""`rotoscope doctor`: what it finds of a machine that is well and of broken ones, what it advises, and how it ends."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import pytest
from answering_host import AnsweringHost, answering_host
from pydantic import BaseModel, Field

from rotoscope.cli.commands import run_command
from rotoscope.cli.doctor import gathering
from rotoscope.cli.doctor.bounded import BoundedWork, Unknown
from rotoscope.cli.doctor.machine import PackageFacts, gather_home, gather_installation
from rotoscope.cli.doctor.machine_checks import check_codecs, check_home, check_installation, meets_terms
from rotoscope.cli.doctor.network import NetworkFacts, ProviderFacts, gather_network
from rotoscope.cli.doctor.network_checks import check_network
from rotoscope.composition import load_user_catalog
from rotoscope.media.codec_trial import CODECS
from rotoscope.providers.http.proxies import ProxySettings
from rotoscope.settings import read_settings
from rotoscope.store.database import Database
from rotoscope.store.schema import SCHEMA_VERSION

KEYS = ("REPLICATE_API_TOKEN", "FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET", "SEGMIND_API_KEY", "GATEWAY_API_KEY")
BASES = ("REPLICATE_BASE_URL", "FAL_BASE_URL", "SEGMIND_BASE_URL", "GATEWAY_BASE_URL")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
SECRET = "r8_a-key-that-nobody-may-see"


class Check(BaseModel, extra="forbid"):
    """One check of the JSON document, version 1."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    group: Literal["installation", "settings", "home", "ledger", "providers", "media", "clients"]
    state: Literal["ok", "warning", "problem"]
    summary: Annotated[str, Field(min_length=1)]
    advice: str


class Document(BaseModel, extra="forbid"):
    """The JSON document, version 1."""

    version: Literal[1]
    rotoscope: str
    state: Literal["ok", "warning", "problem"]
    checks: Annotated[list[Check], Field(min_length=8)]


@dataclass(frozen=True)
class Outcome:
    """What one run of the command printed, and its exit code."""

    code: int
    out: str
    err: str

    def checks(self) -> dict[str, dict[str, Any]]:
        """The checks of the JSON document, by their ids."""
        return {one["id"]: one for one in json.loads(self.out)["checks"]}

    def state(self, check: str) -> str:
        return str(self.checks()[check]["state"])


Doctor = Callable[..., Outcome]


@pytest.fixture(scope="module")
def host() -> Iterator[AnsweringHost]:
    with answering_host() as answering:
        yield answering


@pytest.fixture(autouse=True)
def host_as_new(host: AnsweringHost) -> None:
    host.paths.clear()
    host.keys.clear()
    host.now = None


@pytest.fixture
def rotoscope_home(tmp_path: Path) -> Path:
    return tmp_path / "rotoscope"


@pytest.fixture
def doctor(
    monkeypatch: pytest.MonkeyPatch,
    rotoscope_home: Path,
    home: Path,
    host: AnsweringHost,
    capsys: pytest.CaptureFixture[str],
) -> Doctor:
    """Runs the command in this process; every provider is on loopback, whether or not it has a key."""
    for name in [*os.environ]:
        if name in (*KEYS, *PROXIES) or name.upper() in PROXIES or name.startswith("ROTOSCOPE_"):
            monkeypatch.delenv(name)
    for name in BASES[:3]:
        monkeypatch.setenv(name, host.url("accepted"))
    monkeypatch.setenv("ROTOSCOPE_HOME", str(rotoscope_home))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    # A worker process takes a second; the tests of the installed command try the codecs themselves.
    monkeypatch.setattr(gathering, "_try_codecs", lambda _: dict.fromkeys(CODECS, ""))

    def command(*arguments: str, **more: str) -> Outcome:
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = run_command(["doctor", *arguments])
        return Outcome(code, *capsys.readouterr())

    return command


# --- the command


def test_a_fresh_machine_has_warnings_alone_and_ends_with_0(doctor: Doctor) -> None:
    done = doctor("--json")
    document = Document.model_validate_json(done.out)
    assert (done.code, document.state, done.err) == (0, "warning", "")
    assert all(one.advice for one in document.checks if one.state != "ok")
    assert len({one.id for one in document.checks}) == len(document.checks)
    ok = {"python", "packages", "fast_start", "settings", "roots", "home", "disk", "ledger", "proxy", "clock", "codecs"}
    assert {done.state(check) for check in ok} == {"ok"}
    assert done.state("sandbox_weights") == "warning"


def test_a_check_makes_nothing(doctor: Doctor, rotoscope_home: Path) -> None:
    assert doctor("--offline").code == 0
    assert not rotoscope_home.exists()


def test_lines_are_grouped_and_each_that_is_not_ok_says_what_to_do(doctor: Doctor) -> None:
    lines = doctor("--offline").out.splitlines()
    titles = [line for line in lines if line and not line.startswith(" ")]
    assert titles[:3] == ["Installation", "Settings", "Home folder"]
    unwell = [number for number, line in enumerate(lines) if line.startswith(("  warning", "  problem"))]
    assert unwell
    assert all(lines[number + 1].startswith(" " * 11) for number in unwell)
    assert lines[-1].endswith("warnings.")


def test_offline_asks_nobody(doctor: Doctor, host: AnsweringHost) -> None:
    done = doctor("--offline", "--json", REPLICATE_API_TOKEN=SECRET)
    assert host.paths == []
    assert "not asked" in done.checks()["provider.replicate"]["summary"]


def test_the_installed_command_ends_with_1_where_there_is_a_problem(home: Path, tmp_path: Path) -> None:
    """As a person runs it: a process of its own, nothing but lines on stdout, no traceback."""
    environ = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONWARNINGS": "error"}
    (tmp_path / "file").write_text("no folder")
    done = subprocess.run(
        [sys.executable, "-m", "rotoscope", "doctor", "--offline"],
        env={**environ, "ROTOSCOPE_HOME": str(tmp_path / "file")},
        cwd=home, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is no folder" in done.stdout
    assert "Set ROTOSCOPE_HOME" in done.stdout
    assert "PNG, JPEG, WEBP, H.264, VP9, AV1 work in the worker process." in done.stdout
    assert done.stderr == ""


# --- settings


def test_every_setting_that_cannot_be_used_is_named_and_the_rest_is_checked(doctor: Doctor) -> None:
    done = doctor("--offline", "--json", ROTOSCOPE_AT_ONCE="many", ROTOSCOPE_MAX_USD_PER_CALL="-1")
    assert done.code == 1
    assert {done.state(f"setting.ROTOSCOPE_{name}") for name in ("AT_ONCE", "MAX_USD_PER_CALL")} == {"problem"}
    assert done.state("home") == "ok"


def test_a_name_that_is_no_setting_is_warned_of_with_the_nearest_one(doctor: Doctor) -> None:
    done = doctor("--offline", "--json", ROTOSCOPE_INLINE="3")
    assert done.code == 0
    assert done.checks()["setting.ROTOSCOPE_INLINE"]["advice"] == "Did you mean ROTOSCOPE_INLINE_SECONDS?"


def test_a_folder_of_roots_that_is_not_there_is_named(doctor: Doctor, tmp_path: Path) -> None:
    done = doctor("--offline", "--json", ROTOSCOPE_ROOTS=str(tmp_path / "away"))
    assert str(tmp_path / "away") in done.checks()["roots"]["summary"]
    assert done.state("roots") == "warning"


def test_a_manifest_of_ones_own_that_is_left_out_is_named(doctor: Doctor, rotoscope_home: Path) -> None:
    (rotoscope_home / "models").mkdir(parents=True, mode=0o700)
    (rotoscope_home / "models" / "mine.toml").write_text("id = 3")
    rotoscope_home.chmod(0o700)
    assert "mine.toml" in doctor("--offline", "--json").checks()["manifest.0"]["summary"]


# --- the home folder


def test_a_home_that_others_may_look_into_is_a_warning(doctor: Doctor, rotoscope_home: Path) -> None:
    rotoscope_home.mkdir()
    rotoscope_home.chmod(0o755)
    done = doctor("--offline", "--json")
    assert (done.code, done.state("home_modes")) == (0, "warning")
    assert "0755" in done.checks()["home_modes"]["summary"]


def test_a_home_that_others_may_write_to_is_a_problem(doctor: Doctor, rotoscope_home: Path) -> None:
    rotoscope_home.mkdir()
    rotoscope_home.chmod(0o777)
    done = doctor("--offline", "--json")
    assert (done.code, done.state("home")) == (1, "problem")


def test_files_in_the_home_that_others_may_read_are_named(doctor: Doctor, rotoscope_home: Path) -> None:
    rotoscope_home.mkdir(mode=0o700)
    (rotoscope_home / "tokens.json").write_text("{}")
    (rotoscope_home / "tokens.json").chmod(0o644)
    assert "tokens.json (0644)" in doctor("--offline", "--json").checks()["home_modes"]["summary"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no folder in which nobody may write")
def test_a_home_that_cannot_be_written_is_a_problem(doctor: Doctor) -> None:
    done = doctor("--offline", "--json", ROTOSCOPE_HOME="/proc/self/rotoscope")
    assert (done.code, done.state("home")) == (1, "problem")
    assert "Set ROTOSCOPE_HOME" in done.checks()["home"]["advice"]


def test_a_home_below_a_file_is_a_problem(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = doctor("--offline", "--json", ROTOSCOPE_HOME=str(tmp_path / "file" / "rotoscope"))
    assert (done.code, done.state("home")) == (1, "problem")


def test_little_space_is_a_warning_and_hardly_any_a_problem(rotoscope_home: Path) -> None:
    facts = gather_home(read_settings({"ROTOSCOPE_HOME": str(rotoscope_home)}))

    def state(free: int | None) -> str:
        found = check_home(replace(facts, free_bytes=free), sandbox_serves=False)
        return next(one.state for one in found if one.id == "disk")

    assert [state(10**11), state(10**9), state(10**7), state(None)] == ["ok", "warning", "problem", "warning"]


# --- the ledger


@pytest.fixture
def ledger(rotoscope_home: Path) -> Path:
    """A ledger of this version with no job in it."""
    rotoscope_home.mkdir(mode=0o700)
    file = rotoscope_home / "ledger.sqlite3"

    async def make() -> None:
        database = Database(file)
        await database.transact(lambda _: None)
        await database.aclose()

    anyio.run(make)
    return file


def write(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def job_statement(job_id: str, state: str, at: float) -> str:
    columns = "id, tool, model, provider, principal, sandbox, state, stage, args, data, progress, message, "
    columns += "cancel_requested, fence, created_at, updated_at"
    return (
        f"INSERT INTO jobs ({columns}) VALUES ('{job_id}', 'segment_image', 'm', 'fal', 'local', 1, '{state}', "
        f"'submit', '{{}}', '{{}}', 0.1, '', 0, 1, {at}, {at})"
    )


def test_a_whole_ledger_is_ok_and_stays_as_it_was(doctor: Doctor, ledger: Path) -> None:
    before = ledger.read_bytes()
    done = doctor("--offline", "--json")
    checks = ("ledger", "ledger_pages", "reviews", "drivers", "home_modes")
    assert [done.state(check) for check in checks] == ["ok"] * 5
    assert ledger.read_bytes() == before


def test_jobs_in_review_and_jobs_that_nobody_drives_are_named(doctor: Doctor, ledger: Path) -> None:
    old = time.time() - 3600
    write(ledger, job_statement("a" * 32, "needs_review", old), job_statement("b" * 32, "queued", old))
    done = doctor("--offline", "--json")
    assert done.code == 0
    assert "a" * 32 in done.checks()["reviews"]["summary"]
    assert "b" * 32 in done.checks()["drivers"]["summary"]
    assert {done.state("reviews"), done.state("drivers")} == {"warning"}


def test_a_job_waits_for_its_turn_while_a_process_drives(doctor: Doctor, ledger: Path) -> None:
    beat = f"INSERT INTO processes (owner, keys, beat_at) VALUES ('host:1:x', '[]', {time.time()})"
    write(ledger, job_statement("b" * 32, "queued", time.time() - 3600), beat)
    done = doctor("--offline", "--json")
    assert done.state("drivers") == "ok"
    assert "1 of them wait for their turn" in done.checks()["drivers"]["summary"]


def test_a_ledger_that_is_no_database_is_a_problem(doctor: Doctor, ledger: Path) -> None:
    ledger.write_bytes(b"no database at all, " * 500)
    done = doctor("--offline", "--json")
    assert (done.code, done.state("ledger")) == (1, "problem")
    assert "damaged" in done.checks()["ledger"]["summary"]


def test_a_ledger_with_damaged_pages_is_a_problem(doctor: Doctor, ledger: Path) -> None:
    content = bytearray(ledger.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    content[size * 2 : size * 8] = b"\xff" * (size * 6)
    ledger.write_bytes(content)
    done = doctor("--offline", "--json")
    assert done.code == 1
    found = [one for one in done.checks().values() if one["group"] == "ledger"]
    assert any(one["state"] == "problem" and "damaged" in one["summary"] for one in found)


def test_a_newer_ledger_is_a_problem_and_is_read_no_further(doctor: Doctor, ledger: Path) -> None:
    write(ledger, f"PRAGMA user_version = {SCHEMA_VERSION + 1}", "DROP TABLE jobs")
    done = doctor("--offline", "--json")
    assert (done.code, done.state("ledger")) == (1, "problem")
    assert "newer rotoscope" in done.checks()["ledger"]["summary"]
    assert "reviews" not in done.checks()


def test_a_database_server_that_is_away_is_a_problem_without_its_password(doctor: Doctor) -> None:
    url = "postgresql+psycopg://someone:open-sesame@127.0.0.1:9/jobs"
    done = doctor("--offline", "--json", ROTOSCOPE_DATABASE_URL=url)
    assert (done.code, done.state("ledger")) == (1, "problem")
    assert "jobs at 127.0.0.1:9" in done.out
    assert "open-sesame" not in done.out


# --- providers


def test_a_key_is_proven_by_one_free_request_and_never_shown(doctor: Doctor, host: AnsweringHost) -> None:
    done = doctor("--json", REPLICATE_API_TOKEN=SECRET)
    assert (done.code, done.state("provider.replicate")) == (0, "ok")
    assert len(host.paths) == 1
    assert host.paths[0].startswith("/accepted/v1/predictions?")
    assert host.keys == [f"Bearer {SECRET}"]
    assert SECRET not in done.out + done.err
    assert "provider.fal" not in done.checks()


@pytest.mark.parametrize(
    ("how", "state", "words"),
    [
        ("refused", "problem", "does not accept the key in REPLICATE_API_TOKEN"),
        ("locked", "problem", "has no credit"),
        ("forbidden", "warning", "list its runs"),
        ("missing", "warning", "does not give the list of runs (HTTP 404)"),
        ("broken", "warning", "is broken (HTTP 503)"),
        ("busy", "warning", "no more requests"),
        ("redirect", "problem", "a redirect to portal.example, which is not followed"),
    ],
)
def test_each_answer_of_a_provider_has_its_own_line(
    doctor: Doctor, host: AnsweringHost, how: str, state: str, words: str
) -> None:
    done = doctor("--json", REPLICATE_API_TOKEN=SECRET, REPLICATE_BASE_URL=host.url(how))
    found = done.checks()["provider.replicate"]
    assert (found["state"], done.code) == (state, 1 if state == "problem" else 0)
    assert words in found["summary"]
    assert found["advice"]
    assert len(host.paths) == 1
    assert SECRET not in done.out


def test_a_provider_that_is_away_is_a_problem_where_it_is_needed(doctor: Doctor) -> None:
    done = doctor("--json", FAL_KEY="id:secret", FAL_BASE_URL="http://127.0.0.1:9")
    assert (done.code, done.state("provider.fal")) == (1, "problem")


def test_without_a_key_a_provider_that_is_away_is_a_warning(doctor: Doctor, host: AnsweringHost) -> None:
    done = doctor("--json", FAL_BASE_URL="http://127.0.0.1:9")
    assert (done.code, done.state("provider.fal"), done.state("provider.replicate")) == (0, "warning", "ok")
    assert set(host.keys) == {""}


def test_a_provider_that_answers_too_late_is_given_up(host: AnsweringHost, rotoscope_home: Path) -> None:
    environ = {"ROTOSCOPE_HOME": str(rotoscope_home), "FAL_KEY": "a:b", "FAL_BASE_URL": host.url("slow")}
    settings = read_settings(environ)
    facts = gather_network(settings, load_user_catalog(settings), ProxySettings(), reply_seconds=0.2)
    found = {one.id: one for one in check_network(facts)}
    assert found["provider.fal"].state == "problem"
    assert found["provider.fal"].advice


def test_a_gateway_is_asked_about_a_run_that_is_not_there(doctor: Doctor, host: AnsweringHost) -> None:
    done = doctor("--json", GATEWAY_API_KEY="gate-key-long-enough", GATEWAY_BASE_URL=host.url("missing"))
    assert done.state("provider.gateway") == "ok"
    assert "no free request that proves its key" in done.checks()["provider.gateway"]["summary"]


def test_a_key_without_its_base_url_names_what_is_missing(doctor: Doctor) -> None:
    done = doctor("--offline", "--json", GATEWAY_API_KEY="gate-key-long-enough")
    assert "GATEWAY_BASE_URL" in done.checks()["variables.gateway"]["advice"]


def test_a_key_that_was_never_filled_in_is_named(doctor: Doctor) -> None:
    done = doctor("--offline", "--json", FAL_KEY="${FAL_KEY}")
    assert done.state("variables.fal") == "warning"
    assert done.state("serving") == "warning"


def test_a_key_with_characters_that_no_key_has_is_a_problem(doctor: Doctor) -> None:
    done = doctor("--json", FAL_KEY="two words")
    assert (done.code, done.state("keys")) == (1, "problem")
    assert "two words" not in done.out


def test_never_a_sandbox_and_no_key_is_a_problem(doctor: Doctor) -> None:
    assert doctor("--offline", "--json", ROTOSCOPE_SANDBOX="never").state("serving") == "problem"


def test_a_sandbox_that_is_named_is_asked_once(doctor: Doctor, host: AnsweringHost) -> None:
    done = doctor("--json", ROTOSCOPE_SANDBOX=host.url("accepted"))
    assert done.state("provider.replicate") == "ok"
    assert len(host.paths) == 1


def test_a_clock_that_differs_by_minutes_is_a_warning(doctor: Doctor, host: AnsweringHost) -> None:
    host.now = time.time() + 600
    done = doctor("--json", REPLICATE_API_TOKEN=SECRET)
    assert done.state("clock") == "warning"
    assert "behind" in done.checks()["clock"]["summary"]


def test_the_clock_is_judged_by_the_reply_that_differs_least() -> None:
    """A cache in between may give an old date."""
    base = ProviderFacts("fal", "fal", "FAL_KEY", "h", question="reach", status=200)
    facts = NetworkFacts((replace(base, clock_skew=-9000.0), replace(base, name="b", clock_skew=1.0)), "built-in")
    assert next(one.state for one in check_network(facts) if one.id == "clock") == "ok"


def test_a_proxy_is_named_without_its_password(doctor: Doctor) -> None:
    done = doctor("--offline", "--json", HTTPS_PROXY="http://me:open-sesame@proxy.example:3128")
    assert "https through http://proxy.example:3128" in done.checks()["proxy"]["summary"]
    assert "open-sesame" not in done.out


def test_requests_go_through_the_proxy_of_the_environment(doctor: Doctor, host: AnsweringHost) -> None:
    done = doctor(
        "--json", REPLICATE_API_TOKEN=SECRET, REPLICATE_BASE_URL="http://provider.example",
        HTTP_PROXY=f"http://127.0.0.1:{host.port}",
    )  # fmt: skip
    assert done.state("provider.replicate") == "ok"
    assert host.paths[0].startswith("http://provider.example/v1/predictions?")


def test_a_proxy_that_cannot_be_used_is_a_problem_and_nobody_is_asked(doctor: Doctor, host: AnsweringHost) -> None:
    done = doctor("--json", REPLICATE_API_TOKEN=SECRET, HTTPS_PROXY="ftp://proxy.example")
    assert (done.code, done.state("proxy")) == (1, "problem")
    assert host.paths == []


def test_an_object_store_that_is_away_is_a_problem(doctor: Doctor) -> None:
    done = doctor(
        "--json", ROTOSCOPE_SANDBOX="always", ROTOSCOPE_STORE_URL="s3://bucket", AWS_ENDPOINT_URL="http://127.0.0.1:9",
        AWS_ACCESS_KEY_ID="AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY="wJalrXUtnFEMIEXAMPLE", AWS_REGION="us-east-1",
    )  # fmt: skip
    assert (done.code, done.state("object_store")) == (1, "problem")
    assert "wJalrXUtnFEMIEXAMPLE" not in done.out


# --- the parts


def test_versions_are_compared_by_their_numbers() -> None:
    assert meets_terms("2.10.1", ">=2.9,<3")
    assert not meets_terms("3.0", ">=2.9,<3")
    assert meets_terms("1.0.7", "==1.0.7")
    assert meets_terms("2.3", "~=2.1")
    assert not meets_terms("3.0", "~=2.1")
    assert meets_terms("5.0.0rc1", ">=5")


def test_a_package_that_does_not_fit_is_a_problem() -> None:
    facts = gather_installation({}, "linux")
    for wrong in (PackageFacts("mcp", ">=2.3,<3", "1.9"), PackageFacts("mcp", ">=2.3,<3", None)):
        found = {one.id: one for one in check_installation(replace(facts, packages=(wrong,)))}
        assert found["packages"].state == "problem"
        assert "mcp" in found["packages"].summary


def test_why_the_fast_start_is_off_is_said(doctor: Doctor) -> None:
    facts = replace(gather_installation({}, "linux"), fast_start_obstacle="another version of mcp is installed")
    found = {one.id: one for one in check_installation(facts)}
    assert "another version of mcp is installed" in found["fast_start"].summary


def test_a_codec_that_does_not_work_is_named() -> None:
    (found,) = check_codecs({"PNG": "", "H.264": "UnknownCodecError: libx264"})
    assert (found.id, found.state) == ("codec.h264", "problem")


def test_work_that_hangs_is_given_up_and_work_that_fails_is_a_fault(host: AnsweringHost) -> None:
    hanging = BoundedWork(lambda: host.released.wait(30)).wait(0.05)
    assert isinstance(hanging, Unknown)
    assert not hanging.is_fault
    failed = BoundedWork(lambda: 1 // 0).wait(30)
    assert isinstance(failed, Unknown)
    assert failed.is_fault
    assert "ZeroDivisionError" in failed.why


def test_the_sandbox_command_makes_a_home_that_is_private(home: Path, tmp_path: Path) -> None:
    """The doctor sends people to it: what it makes must not be what the doctor then warns of."""
    environ = {"HOME": str(home), "PATH": os.environ["PATH"], "ROTOSCOPE_HOME": str(tmp_path / "own")}
    command = [sys.executable, "-m", "rotoscope", "sandbox", "--help"]
    subprocess.run(command, env=environ, cwd=home, capture_output=True, timeout=60, check=True)
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700
