"""The log: one record a line whatever it holds, with the job and the request that it is about."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from rotoscope.logs import configure_logging, current_request_id, note_job, note_request

log = logging.getLogger("rotoscope.tests")


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """What a test begins is ended."""
    top = logging.getLogger()
    former, level = top.handlers[:], top.level
    yield
    top.handlers[:] = former
    top.setLevel(level)
    logging.getLogger("rotoscope").setLevel(logging.NOTSET)


def begin(form: str = "text", level: int = logging.WARNING) -> None:
    """Log as in a process of its own, where nobody else has a handler."""
    logging.getLogger().handlers[:] = []
    configure_logging(form, level)


def test_a_line_of_text_names_the_job_and_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    with note_request("r1"), note_job("j1"):
        log.warning("the store is %s", "away")
        assert current_request_id() == "r1"
    log.warning("outside")
    assert capsys.readouterr().err.splitlines() == [
        "rotoscope: WARNING: the store is away [job j1 request r1]",
        "rotoscope: WARNING: outside",
    ]


def test_a_line_of_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    begin("json")
    with note_job("j1"):
        log.error("a job %s", "fell\nover", exc_info=ValueError("no such thing"))
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert (found["level"], found["message"], found["job"]) == ("error", "a job fell\nover", "j1")
    assert found["error"].endswith("ValueError: no such thing")
    assert found["time"].endswith("Z")
    assert "request" not in found


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "text", ["a\nrotoscope: ERROR: forged", "\x1b[2Jgone", "a\u2028b\u202ec", "bell\x07\x00", "tab\tcr\r"]
)
def test_what_a_provider_says_cannot_forge_a_line(capsys: pytest.CaptureFixture[str], form: str, text: str) -> None:
    begin(form)
    log.warning("it says %s", text)
    lines = capsys.readouterr().err.split("\n")
    assert not any(line.startswith("rotoscope: ERROR") for line in lines)
    assert all(one.isprintable() for one in lines)


def test_json_tells_what_is_done_and_text_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    for form, lines in (("json", 1), ("text", 0)):
        begin(form)
        log.info("a stage is done")
        logging.getLogger("somebody.else").info("a query")
        assert len(capsys.readouterr().err.splitlines()) == lines


def test_the_form_can_change_and_nothing_is_written_twice(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    configure_logging("json")
    log.warning("once")
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["once"]


def test_the_handlers_of_a_program_that_we_run_in_stay(capsys: pytest.CaptureFixture[str]) -> None:
    theirs = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(theirs)
    configure_logging()
    log.warning("seen")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("seen\n", "")


def test_addresses_that_clients_log_stay_out(capsys: pytest.CaptureFixture[str]) -> None:
    begin(level=logging.INFO)
    logging.getLogger("httpx").info("GET https://files.example/?signature=secret")
    assert capsys.readouterr().err == ""
