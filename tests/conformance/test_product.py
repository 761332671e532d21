"""What `rotoscope serve` itself offers, with no fixture in its place: a feature that is lost fails a test here.

The official suite runs over a server to which fixtures were added, and cannot tell whose feature it has met. So here
the command speaks over its own pipe, in both eras, and everything that it declares is used.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from early_progress import leave_out_early
from prices import with_price

from rotoscope.models.catalog import manifest_folder

MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"
ERAS = pytest.mark.parametrize("era", [MODERN, HANDSHAKE])
CLIENT = {"name": "product", "version": "1"}
BOX = {"left": 20, "top": 5, "right": 420, "bottom": 500}
SECONDS = 180
TASKS, SKILLS = "io.modelcontextprotocol/tasks", "io.modelcontextprotocol/skills"
Message = dict[str, Any]


class Session:
    """A client of the command, in one era, with the capability to ask its user."""

    def __init__(self, process: "subprocess.Popen[bytes]", era: str) -> None:
        self.process, self.era = process, era
        self.received: list[Message] = []
        self.number = 0
        self.extensions: Message = {}
        self.opened = self.open()

    def open(self) -> Message:
        if self.era == MODERN:
            return self.result("server/discover")
        capabilities: Message = {"elicitation": {}}
        opened = self.result("initialize", protocolVersion=self.era, capabilities=capabilities, clientInfo=CLIENT)
        self.say({"method": "notifications/initialized"})
        return opened

    def say(self, message: Message) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def post(self, method: str, *, token: str | None = None, **params: Any) -> int:
        self.number += 1
        meta: Message = {"progressToken": token} if token else {}
        if self.era == MODERN:
            capabilities = {"elicitation": {}, "extensions": self.extensions}
            facts = {"protocolVersion": self.era, "clientInfo": CLIENT, "clientCapabilities": capabilities}
            meta |= {f"io.modelcontextprotocol/{name}": value for name, value in facts.items()}
        self.say({"id": self.number, "method": method, "params": {**params, **({"_meta": meta} if meta else {})}})
        return self.number

    def read(self) -> Message:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server has ended"
        self.received.append(json.loads(line))
        return self.received[-1]

    def until(self, holds: Callable[[Message], object]) -> Message:
        for message in self.received:
            if holds(message):
                return message
        while not holds(message := self.read()):
            pass
        return message

    def ask(self, method: str, *, token: str | None = None, **params: Any) -> Message:
        number = self.post(method, token=token, **params)
        return self.until(lambda one: one.get("id") == number and "method" not in one)

    def result(self, method: str, *, token: str | None = None, **params: Any) -> Message:
        reply = self.ask(method, token=token, **params)
        assert "result" in reply, reply
        return reply["result"]  # type: ignore[no-any-return] # JSON

    def notices(self, method: str) -> list[Message]:
        return [one["params"] for one in self.received if one.get("method") == method]


Begin = Callable[[str], Session]


@pytest.fixture
def begin(tmp_path: Path, home: Path, photo: Path) -> Iterator[Begin]:
    models = tmp_path / "rotoscope" / "models"
    models.mkdir(parents=True, mode=0o700)
    models.parent.chmod(0o700)
    text = (manifest_folder() / "models" / "sam2-image.toml").read_text(encoding="utf-8")
    expensive = text.replace('id = "fal-ai/sam2/image"', 'id = "mine/expensive"', 1)
    (models / "expensive.toml").write_text(with_price(expensive, "run", 3.0), encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    env = {**kept, "HOME": str(home), "ROTOSCOPE_HOME": str(models.parent), "ROTOSCOPE_INLINE_SECONDS": "30"}
    begun: list[subprocess.Popen[bytes]] = []
    guards: list[threading.Timer] = []

    def session(era: str) -> Session:
        command = [sys.executable, "-m", "rotoscope", "serve"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env, cwd=home)
        begun.append(process)
        guards.append(threading.Timer(SECONDS, process.kill))
        guards[-1].start()
        return Session(process, era)

    yield session
    for guard in guards:
        guard.cancel()
    for process in begun:
        process.kill()
        process.communicate()


def segment(photo: Path, **more: Any) -> Message:
    return {"name": "segment_image", "arguments": {"image": str(photo), "box": BOX, **more}}


@ERAS
def test_what_is_declared_is_what_there_is(begin: Begin, era: str) -> None:
    declared = begin(era).opened["capabilities"]
    assert {"completions", "prompts", "resources", "tools"} <= set(declared)
    assert declared["resources"]["subscribe"] is True
    assert "logging" not in declared
    for extension in (TASKS, SKILLS):
        assert (extension in declared.get("extensions", {})) is (era == MODERN)


@ERAS
def test_arguments_of_prompts_and_links_are_completed(begin: Begin, era: str) -> None:
    session = begin(era)
    ref = {"type": "ref/prompt", "name": "storyboard_to_video"}
    found = session.result("completion/complete", ref=ref, argument={"name": "resolution", "value": "7"})
    assert found["completion"]["values"] == ["720p"]
    link = {"type": "ref/resource", "uri": "model://{+model_id}"}
    found = session.result("completion/complete", ref=link, argument={"name": "model_id", "value": "bytedance/sa2"})
    assert found["completion"]["values"] == ["bytedance/sa2va-4b-image"]


@ERAS
def test_prompts_are_listed_and_given(begin: Begin, era: str) -> None:
    session = begin(era)
    names = [one["name"] for one in session.result("prompts/list")["prompts"]]
    assert "photo_to_coco" in names
    prompt = session.result("prompts/get", name="photo_to_coco", arguments={"image": "street.jpg"})
    assert "street.jpg" in prompt["messages"][0]["content"]["text"]


@ERAS
def test_skills_are_listed_with_the_digests_of_what_is_read(begin: Begin, era: str) -> None:
    session = begin(era)
    names = {one["uri"]: one["name"] for one in session.result("resources/list")["resources"]}
    assert names["skill://photo-to-coco/SKILL.md"] == "photo-to-coco"
    text = session.result("resources/read", uri="skill://photo-to-coco/SKILL.md")["contents"][0]["text"]
    assert "describe_with_masks" in text
    if era == HANDSHAKE:
        assert session.ask("skills/list")["error"]["code"] == -32601
        return
    for skill in session.result("skills/list")["skills"]:
        assert session.result("skills/get", uri=skill["uri"])["skill"] == skill
        for file in skill["resources"]:
            (read,) = session.result("resources/read", uri=file["uri"])["contents"]
            content = read["text"].encode()
            assert (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)) == (file["digest"], file["size"])
            assert read["mimeType"] == "text/markdown"


@ERAS
def test_a_call_tells_its_progress_with_the_job_in_the_first_word(begin: Begin, era: str, photo: Path) -> None:
    session = begin(era)
    result = session.result("tools/call", token="mine", **segment(photo))
    notices = session.notices("notifications/progress")
    assert notices, "no progress came"
    assert {one["progressToken"] for one in notices} == {"mine"}
    assert result["structuredContent"]["job_id"] in leave_out_early(one["message"] for one in notices)[0]
    amounts = [one["progress"] for one in notices]
    assert amounts == sorted(set(amounts))


@ERAS
def test_a_call_without_a_token_tells_no_progress(begin: Begin, era: str, photo: Path) -> None:
    session = begin(era)
    assert session.result("tools/call", **segment(photo))["structuredContent"]["status"] == "succeeded"
    assert session.notices("notifications/progress") == []


@ERAS
def test_resources_are_listed_by_template_read_and_refused(begin: Begin, era: str, photo: Path) -> None:
    session = begin(era)
    templates = {one["uriTemplate"] for one in session.result("resources/templates/list")["resourceTemplates"]}
    assert templates == {"job://{job_id}", "artifact://{sha256}", "model://{+model_id}", "skill://{name}/{+path}"}
    made = session.result("tools/call", **segment(photo))["structuredContent"]
    (job,) = session.result("resources/read", uri=f"job://{made['job_id']}")["contents"]
    assert json.loads(job["text"])["status"] == "succeeded"
    (mask,) = session.result("resources/read", uri=made["masks"][0]["media"]["uri"])["contents"]
    assert mask["mimeType"] == "image/png"
    assert mask["blob"]
    (model,) = session.result("resources/read", uri="model://mine/expensive")["contents"]
    assert json.loads(model["text"])["price"]["usd"] == 3.0
    assert session.ask("resources/read", uri="job://none")["error"]["code"] == -32602


@ERAS
def test_a_subscriber_of_a_job_is_notified_of_its_changes(begin: Begin, era: str, photo: Path) -> None:
    session = begin(era)
    uri = f"job://{session.result('tools/call', **segment(photo))['structuredContent']['job_id']}"
    if era == HANDSHAKE:
        session.result("resources/subscribe", uri=uri)
        session.until(lambda one: one.get("method") == "notifications/resources/updated")
        assert session.notices("notifications/resources/updated")[0]["uri"] == uri
        session.result("resources/unsubscribe", uri=uri)
    else:
        session.post("subscriptions/listen", notifications={"resourceSubscriptions": [uri]})
        session.until(lambda one: one.get("method") == "notifications/subscriptions/acknowledged")
        (agreed,) = session.notices("notifications/subscriptions/acknowledged")
        assert agreed["notifications"]["resourceSubscriptions"] == [uri]


def agree(session: Session, call: Message) -> Message:
    """Make a call that asks first, and say yes, as each era has it; the result."""
    if session.era == MODERN:
        asked = session.result("tools/call", **call)
        assert asked["resultType"] == "input_required"
        ((key, question),) = asked["inputRequests"].items()
        assert question["method"] == "elicitation/create"
        assert "3.00 USD" in question["params"]["message"]
        answers = {key: {"action": "accept", "content": {"spend": True}}}
        return session.result("tools/call", **call, inputResponses=answers, requestState=asked["requestState"])
    number = session.post("tools/call", **call)
    question = session.until(lambda one: one.get("method") == "elicitation/create")
    assert "3.00 USD" in question["params"]["message"]
    session.say({"id": question["id"], "result": {"action": "accept", "content": {"spend": True}}})
    return session.until(lambda one: one.get("id") == number and "result" in one)["result"]  # type: ignore[no-any-return]


@ERAS
def test_an_expensive_call_asks_the_user_in_the_way_of_its_era(begin: Begin, era: str, photo: Path) -> None:
    result = agree(begin(era), segment(photo, model="mine/expensive"))
    assert result["structuredContent"]["status"] == "succeeded"
    assert result["structuredContent"]["cost"]["estimate_usd"] == 3.0


def test_a_client_that_takes_tasks_is_asked_about_a_price_in_the_task(begin: Begin, photo: Path) -> None:
    session = begin(MODERN)
    session.extensions = {TASKS: {}}
    task = session.result("tools/call", **segment(photo, model="mine/expensive"))
    assert (task["resultType"], task["status"]) == ("task", "input_required")
    ((key, question),) = session.result("tasks/get", taskId=task["taskId"])["inputRequests"].items()
    assert "3.00 USD" in question["params"]["message"]
    session.post("subscriptions/listen", notifications={"taskIds": [task["taskId"]]})
    session.result("tasks/update", taskId=task["taskId"], inputResponses={key: {"action": "accept", "content": {}}})
    notice = session.until(
        lambda one: one.get("method") == "notifications/tasks" and one["params"]["status"] == "completed"
    )
    assert notice["params"]["result"]["structuredContent"]["cost"]["estimate_usd"] == 3.0


@ERAS
def test_there_is_no_log_for_clients_and_setting_its_level_is_an_error(begin: Begin, era: str, photo: Path) -> None:
    session = begin(era)
    assert session.ask("logging/setLevel", level="debug")["error"]["code"] == -32601
    session.result("tools/call", **segment(photo))
    assert session.notices("notifications/message") == []


def test_a_client_that_takes_tasks_gets_one_and_its_result(begin: Begin, photo: Path) -> None:
    session = begin(MODERN)
    session.extensions = {TASKS: {}}
    film: dict[str, Any] = {
        "name": "generate_video",
        "arguments": {"prompt": "a red ball", "duration": 4, "resolution": "480p"},
    }
    task = session.result("tools/call", **film)
    assert task["resultType"] == "task"
    assert session.result("tasks/get", taskId=task["taskId"])["taskId"] == task["taskId"]
    session.result("tasks/cancel", taskId=task["taskId"])
    session.post("subscriptions/listen", notifications={"taskIds": [task["taskId"]]})
    notice = session.until(
        lambda one: one.get("method") == "notifications/tasks" and one["params"]["status"] != "working"
    )
    assert notice["params"]["status"] in ("cancelled", "completed")
