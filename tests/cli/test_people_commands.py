"""`rotoscope people`, as processes of their own on a home of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from rotoscope.server.sign_in.people.passphrases import Passphrases
from rotoscope.store.database import Database
from rotoscope.store.grants import Code, Grants, TokenHashes
from rotoscope.store.people import People, Person

pytestmark = pytest.mark.slow
PASSPHRASE = "a lamp beside the river"
SITE = "https://rotoscope.example"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "rotoscope"


@pytest.fixture
def run(folder: Path, home: Path) -> Run:
    def command(*arguments: str, stdin: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
        kept = {"PATH": os.environ["PATH"], "HOME": str(home), "ROTOSCOPE_HOME": str(folder), "PYTHONWARNINGS": "error"}
        own = {"ROTOSCOPE_PUBLIC_URL": SITE, "ROTOSCOPE_SIGN_IN": "people"}
        return subprocess.run(
            [sys.executable, "-m", "rotoscope", "people", *arguments],
            env={**kept, **own, **more},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def find_person(folder: Path, name: str) -> Person | None:
    return anyio.run(People(Database(folder / "ledger.sqlite3"), lambda: 1.0).find, name)


def test_a_person_is_added_with_a_passphrase_of_which_a_hash_is_kept(run: Run, folder: Path) -> None:
    done = run("add", "anna", "--passphrase", stdin=f"{PASSPHRASE}\n")
    assert (done.returncode, done.stdout) == (0, "")
    person = find_person(folder, "anna")
    assert person is not None
    assert person.passphrase_hash is not None
    assert person.passphrase_hash.startswith("$argon2id$")
    assert anyio.run(Passphrases().is_right, PASSPHRASE, person.passphrase_hash)
    assert PASSPHRASE not in done.stderr


def test_a_link_is_printed_once_and_alone_on_stdout(run: Run, folder: Path) -> None:
    done = run("add", "anna", "--link")
    assert done.returncode == 0
    (link,) = done.stdout.split()
    secret = link.removeprefix(f"{SITE}/sign-in/links/")
    assert len(secret) == 43
    assert "24 hours" in done.stderr
    assert secret not in done.stderr
    another = run("link", "anna", "--hours", "2").stdout.strip()
    assert another.startswith(f"{SITE}/sign-in/links/")
    assert another != link
    assert secret.encode() not in b"".join(file.read_bytes() for file in folder.glob("ledger.sqlite3*"))


def test_people_are_listed_and_removed(run: Run, folder: Path) -> None:
    run("add", "anna", "--passphrase", stdin=PASSPHRASE)
    run("add", "bert", "--link")
    table = run("list").stdout.splitlines()
    assert [line.split()[:2] for line in table[1:]] == [["anna", "passphrase"], ["bert", "links"]]
    assert [one["name"] for one in json.loads(run("list", "--json").stdout)] == ["anna", "bert"]
    assert run("remove", "anna").returncode == 0
    assert find_person(folder, "anna") is None
    again = run("add", "anna", "--link")
    assert again.returncode == 2
    assert "--restore" in again.stderr
    assert run("add", "anna", "--link", "--restore").returncode == 0


def test_another_passphrase_replaces_the_first(run: Run, folder: Path) -> None:
    run("add", "anna", "--passphrase", stdin=PASSPHRASE)
    assert run("passphrase", "anna", stdin="quite another sentence").returncode == 0
    person = find_person(folder, "anna")
    assert person is not None
    assert anyio.run(Passphrases().is_right, "quite another sentence", person.passphrase_hash)


def test_what_an_app_may_do_is_listed_and_ended(run: Run, folder: Path) -> None:
    run("add", "anna", "--link")
    grants = Grants(Database(folder / "ledger.sqlite3"), lambda: 4e9)
    code = Code("https://app.example/c.json", "anna", ("x",), "c", "https://app.example/", True, f"{SITE}/mcp")

    async def let_in() -> None:
        await grants.add_code("code", code)
        await grants.begin("code", code, "grant-one", TokenHashes("a", "r"))

    anyio.run(let_in)
    shown = json.loads(run("sessions", "anna", "--json").stdout)
    assert [one["client_name"] for one in shown] == ["https://app.example/c.json"]
    assert "grant-one" in run("sessions").stdout
    assert run("revoke", "anna", "grant-one").stdout == "ended 1 of anna\n"
    assert anyio.run(grants.read_access, "a") is None
    assert run("revoke", "anna").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (("add", "anna", "--passphrase"), "short", "12 to 256 characters"),
        (("add", "local", "--link"), "", "reserved"),
        (("add", "a b", "--link"), "", "letters"),
        (("add", "anna", "--link", "--hours", "1000"), "", "hours"),
        (("link", "nobody"), "", "Nobody who may sign in"),
        (("remove", "nobody"), "", "Nobody who may sign in"),
        (("passphrase", "nobody"), PASSPHRASE, "Nobody who may sign in"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    run: Run, arguments: tuple[str, ...], stdin: str, words: str
) -> None:
    done = run(*arguments, stdin=stdin)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_link_needs_the_address_of_the_server_before_anybody_is_added(run: Run, folder: Path) -> None:
    done = run("add", "anna", "--link", ROTOSCOPE_PUBLIC_URL="")
    assert done.returncode == 2
    assert "ROTOSCOPE_PUBLIC_URL" in done.stderr
    assert not folder.exists()
