"""Above a price that the operator sets, somebody agrees before anything is spent."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import BOX, text_of
from decoding import InThread
from mcp import Client, MCPError
from mcp.client import ClientRequestContext
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult, InputRequiredResult
from prices import with_price, without_price

from rotoscope.composition import make_studio_opener, stdio_roots
from rotoscope.models.access import SANDBOX_URL
from rotoscope.models.catalog import manifest_folder
from rotoscope.server.app import build_server
from rotoscope.server.clients.profiles import read_client_profiles
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings, read_settings
from rotoscope.store.records import Job
from rotoscope.studio.planning import RequestPlan
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


@pytest.fixture
def environment(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """The user's own manifest of a model that costs 3 USD a run, and one whose price nobody knows."""
    folder = tmp_path / "rotoscope" / "models"
    folder.mkdir(parents=True)
    text = (manifest_folder() / "models" / "sam2-image.toml").read_text(encoding="utf-8")
    shipped = 'id = "fal-ai/sam2/image"'
    assert shipped in text
    priced = with_price(text.replace(shipped, 'id = "mine/expensive"', 1), "run", 3.0, "2026-11-01")
    (folder / "expensive.toml").write_text(priced, encoding="utf-8")
    unpriced = without_price(text.replace(shipped, 'id = "mine/unpriced"', 1))
    (folder / "unpriced.toml").write_text(unpriced, encoding="utf-8")
    return environment


@pytest.fixture
def expensive(photo: Path) -> dict[str, Any]:
    return {"image": str(photo), "box": BOX, "model": "mine/expensive"}


class User:
    """A person at a client that can ask, who always answers alike."""

    def __init__(self, action: str, **content: Any) -> None:
        self.answer = ElicitResult(action=action, content=content or None)  # type: ignore[arg-type]
        self.asked: list[str] = []
        self.forms: list[dict[str, Any]] = []

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        self.forms.append(getattr(params, "requested_schema", {}))
        return self.answer


async def call(client: Client, tool: str, arguments: dict[str, Any]) -> CallToolResult:
    with anyio.fail_after(180):
        return await client.call_tool(tool, arguments)


def nothing_begun(sandbox: Sandbox, answer: CallToolResult) -> None:
    assert answer.is_error
    assert text_of(answer).startswith("consent: ")
    assert "3.00 USD" in text_of(answer)
    assert answer.structured_content is None
    assert sandbox.state.accepted == []


async def asked_and_agreed(client: Client, expensive: dict[str, Any]) -> dict[str, Any]:
    """What a client of the modern era brings back: the state of the question that it was asked, and a yes."""
    first = await client.session.call_tool("segment_image", expensive, allow_input_required=True)
    assert isinstance(first, InputRequiredResult)
    assert first.input_requests is not None
    yes = ElicitResult(action="accept", content={"spend": True})
    return {"request_state": first.request_state, "input_responses": dict.fromkeys(first.input_requests, yes)}


@ERAS
@pytest.mark.parametrize("user", [User("accept", spend=True), User("accept")], ids=["true", "only accepted"])
async def test_who_agrees_is_asked_once_with_the_price_and_the_call_is_made(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any], mode: Any, user: User
) -> None:
    user.asked.clear()
    user.forms.clear()
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        answer = await call(client, "segment_image", expensive)
    assert not answer.is_error, text_of(answer)
    assert len(user.asked) == 1
    assert user.forms == [{"type": "object", "properties": {}}], "one key is enough at a terminal"
    for fact in ("3.00 USD", "mine/expensive", "fal", "segment_image"):
        assert fact in user.asked[0]
    assert len(sandbox.state.accepted) == 1


@ERAS
@pytest.mark.parametrize(
    "user",
    [
        User("decline"),
        User("cancel"),
        User("accept", spend=False),
        User("accept", spend="yes"),
        User("accept", spend=0),
    ],
)
async def test_anything_but_a_plain_yes_spends_nothing_and_opens_no_job(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any], mode: Any, user: User
) -> None:
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        nothing_begun(sandbox, await call(client, "segment_image", expensive))
        assert (await call(client, "list_jobs", {})).structured_content["jobs"] == []


@ERAS
async def test_a_client_that_cannot_ask_agrees_by_a_dry_run_of_the_same_request(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any], mode: Any
) -> None:
    async with Client(server, mode=mode) as client:
        refused = await call(client, "segment_image", expensive)
        nothing_begun(sandbox, refused)
        assert "dry_run" in text_of(refused)
        shown = await call(client, "segment_image", {**expensive, "dry_run": True})
        assert shown.structured_content is not None
        assert shown.structured_content["cost"]["estimate_usd"] == 3.0
        nothing_begun(sandbox, await call(client, "segment_image", {**expensive, "box": {**BOX, "left": 30}}))
        answer = await call(client, "segment_image", expensive)
    assert not answer.is_error, text_of(answer)
    assert len(sandbox.state.accepted) == 1


@ERAS
async def test_where_a_person_can_be_asked_a_dry_run_alone_is_no_consent(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any], mode: Any
) -> None:
    user = User("decline")
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        await call(client, "segment_image", {**expensive, "dry_run": True})
        nothing_begun(sandbox, await call(client, "segment_image", expensive))
    assert len(user.asked) == 1


@ERAS
async def test_a_client_that_dismisses_every_question_still_has_a_way(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any], mode: Any
) -> None:
    """Headless clients say that they can ask and then answer `cancel`."""
    async with Client(server, mode=mode, elicitation_callback=User("cancel")) as client:
        refused = await call(client, "segment_image", expensive)
        nothing_begun(sandbox, refused)
        assert "dry_run" in text_of(refused)
        await call(client, "segment_image", {**expensive, "dry_run": True})
        assert not (await call(client, "segment_image", expensive)).is_error


@ERAS
async def test_what_is_cheap_or_of_unknown_price_is_not_asked_about(
    server: MCPServer[LazyStudio], expensive: dict[str, Any], mode: Any
) -> None:
    user = User("decline")
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        points = {"image": expensive["image"], "points": [{"x": 220, "y": 100}], "model": "sam-v2-image"}
        assert not (await call(client, "segment_image", points)).is_error
        unpriced = {"image": expensive["image"], "box": BOX, "model": "fal-ai/sam2/image"}
        assert not (await call(client, "segment_image", unpriced)).is_error
    assert user.asked == []


@pytest.mark.parametrize("above", ["never", "3", "10"])
async def test_the_operator_says_from_which_price_on_is_asked(
    environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any], above: str
) -> None:
    settings: Settings = read_settings({**environment, "ROTOSCOPE_ASK_ABOVE_USD": above})
    async with Client(serve(settings, sandbox)) as client:
        assert not (await call(client, "segment_image", expensive)).is_error


async def test_every_round_asks_the_same_question(server: MCPServer[LazyStudio], expensive: dict[str, Any]) -> None:
    async with Client(server, elicitation_callback=User("accept", spend=True)) as client:
        first = await client.session.call_tool("segment_image", expensive, allow_input_required=True)
        assert isinstance(first, InputRequiredResult)
        again = await client.session.call_tool(
            "segment_image", expensive, request_state=first.request_state, input_responses={}, allow_input_required=True
        )
        assert isinstance(again, InputRequiredResult)
        assert again.input_requests == first.input_requests


async def test_a_yes_to_one_request_is_none_to_another(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with Client(server, elicitation_callback=User("accept", spend=True)) as client:
        agreed = await asked_and_agreed(client, expensive)
        other = {**expensive, "box": {**BOX, "left": 30}}
        with pytest.raises(MCPError):
            await client.session.call_tool("segment_image", other, **agreed)
    assert sandbox.state.accepted == []


async def test_a_price_that_was_shown_is_forgotten_after_some_minutes(
    server: MCPServer[LazyStudio], sandbox: Sandbox, settings: Settings, expensive: dict[str, Any]
) -> None:
    async with Client(server) as client:
        await call(client, "segment_image", {**expensive, "dry_run": True})
        age_quotes(settings, 601)
        nothing_begun(sandbox, await call(client, "segment_image", expensive))
        await call(client, "segment_image", {**expensive, "dry_run": True})
        age_quotes(settings, 599)
        assert not (await call(client, "segment_image", expensive)).is_error


def age_quotes(settings: Settings, seconds: float) -> None:
    with closing(sqlite3.connect(settings.home / "ledger.sqlite3", isolation_level=None)) as ledger:
        assert ledger.execute("UPDATE quotes SET at = at - ?", [seconds]).rowcount == 1


async def test_a_price_that_was_shown_covers_one_run(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any]
) -> None:
    async with Client(server) as client:
        await call(client, "segment_image", {**expensive, "dry_run": True})
        first = await call(client, "segment_image", expensive)
        redelivered = await call(
            client, "segment_image", expensive
        )  # its client may have missed the end: nothing is paid
        assert first.structured_content is not None
        assert redelivered.structured_content is not None
        assert first.structured_content["job_id"] == redelivered.structured_content["job_id"]
        assert (await call(client, "segment_image", expensive)).is_error
    assert len(sandbox.state.accepted) == 1


async def test_a_price_that_one_process_has_shown_is_known_to_the_next(
    settings: Settings, sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any]
) -> None:
    """Some clients start a server for each call."""
    async with Client(serve(settings, sandbox)) as client:
        await call(client, "segment_image", {**expensive, "dry_run": True})
    async with Client(serve(settings, sandbox)) as client:
        assert not (await call(client, "segment_image", expensive)).is_error


async def test_one_yes_is_good_for_one_run(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any], expire_redelivery: Callable[[], bool]
) -> None:
    """What a question carries can be sent again by whoever holds it: a loop must not spend on it."""
    async with Client(server, elicitation_callback=User("accept", spend=True)) as client:
        agreed = {**await asked_and_agreed(client, expensive), "allow_input_required": True}
        assert isinstance(await client.session.call_tool("segment_image", expensive, **agreed), CallToolResult)
        expire_redelivery()
        assert isinstance(await client.session.call_tool("segment_image", expensive, **agreed), InputRequiredResult)
    assert len(sandbox.state.accepted) == 1


@ERAS
async def test_a_job_that_would_have_been_joined_and_is_not_there_any_more_is_no_leave_to_spend(
    environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any], mode: Any,
    monkeypatch: pytest.MonkeyPatch, expire_redelivery: Callable[[], bool],
) -> None:  # fmt: skip
    """Between the look at its price and its opening, another call may have received the end of the job."""
    server = serve(read_settings({**environment, "ROTOSCOPE_INLINE_SECONDS": "0"}), sandbox)
    find_open_job = Studio.find_open_job

    async def find_then_deliver(studio: Studio, plan: RequestPlan) -> Job | None:
        found = await find_open_job(studio, plan)
        if found is not None:
            job = await studio.wait((await studio.context.ledger.jobs("local", None, 1))[0], 60)
            await studio.deliver_result(job)
            expire_redelivery()
        return found

    monkeypatch.setattr(Studio, "find_open_job", find_then_deliver)
    user = User("accept", spend=True)
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        assert not (await call(client, "segment_image", expensive)).is_error
        refused = await call(client, "segment_image", expensive)
        assert refused.is_error
        assert "consent" in text_of(refused)
        assert len(sandbox.state.accepted) == 1
        again = await call(client, "segment_image", expensive)
    assert not again.is_error
    assert len(user.asked) == 2


@ERAS
async def test_what_a_cap_forbids_is_not_asked_about(
    environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any], mode: Any
) -> None:
    user = User("accept", spend=True)
    server = serve(read_settings({**environment, "ROTOSCOPE_MAX_USD_PER_CALL": "2"}), sandbox)
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        refused = await call(client, "segment_image", expensive)
    assert text_of(refused).startswith("budget: ")
    assert (user.asked, sandbox.state.accepted) == ([], [])


async def test_a_run_that_a_cap_forbids_uses_no_shown_price_up(
    environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any]
) -> None:
    async with Client(serve(read_settings(environment), sandbox)) as client:
        await call(client, "segment_image", {**expensive, "dry_run": True})
    async with Client(serve(read_settings({**environment, "ROTOSCOPE_MAX_USD_PER_DAY": "2"}), sandbox)) as client:
        assert text_of(await call(client, "segment_image", expensive)).startswith("budget: ")
    async with Client(serve(read_settings(environment), sandbox)) as client:
        assert not (await call(client, "segment_image", expensive)).is_error


@ERAS
async def test_who_dismissed_a_question_and_then_agreed_by_a_dry_run_is_asked_again_the_next_time(
    server: MCPServer[LazyStudio],
    sandbox: Sandbox,
    expensive: dict[str, Any],
    mode: Any,
    expire_redelivery: Callable[[], bool],
) -> None:
    user = User("cancel")
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        await call(client, "segment_image", expensive)
        await call(client, "segment_image", {**expensive, "dry_run": True})
        assert not (await call(client, "segment_image", expensive)).is_error
        expire_redelivery()
        user.answer = ElicitResult(action="decline")
        assert (await call(client, "segment_image", expensive)).is_error
    assert len(user.asked) == 2
    assert len(sandbox.state.accepted) == 1


@ERAS
async def test_a_dry_run_before_a_question_that_was_dismissed_is_no_consent(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any], mode: Any
) -> None:
    async with Client(server, mode=mode, elicitation_callback=User("cancel")) as client:
        await call(client, "segment_image", {**expensive, "dry_run": True})
        nothing_begun(sandbox, await call(client, "segment_image", expensive))
        nothing_begun(sandbox, await call(client, "segment_image", expensive))


@ERAS
async def test_a_dismissed_question_is_known_to_the_next_process(
    settings: Settings, sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any], mode: Any
) -> None:
    """A headless client that starts a server for each call has the same way as any other."""
    user = User("cancel")
    for asked in (expensive, {**expensive, "dry_run": True}):
        async with Client(serve(settings, sandbox), mode=mode, elicitation_callback=user) as client:
            await call(client, "segment_image", asked)
    async with Client(serve(settings, sandbox), mode=mode, elicitation_callback=user) as client:
        assert not (await call(client, "segment_image", expensive)).is_error
    assert len(user.asked) == 1


@ERAS
async def test_a_client_that_declines_every_question_by_itself_still_has_a_way(
    server: MCPServer[LazyStudio],
    sandbox: Sandbox,
    expensive: dict[str, Any],
    mode: Any,
    expire_redelivery: Callable[[], bool],
) -> None:
    """A headless Codex says that it can ask, and answers `decline`; a no stays one until a dry run follows on it."""
    user = User("decline")
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        refused = await call(client, "segment_image", expensive)
        nothing_begun(sandbox, refused)
        nothing_begun(sandbox, await call(client, "segment_image", expensive))
        assert len(user.asked) == 2
        for word in ("dry_run: true", "ROTOSCOPE_ASK_ABOVE_USD"):
            assert word in text_of(refused)
        await call(client, "segment_image", {**expensive, "dry_run": True})
        assert not (await call(client, "segment_image", expensive)).is_error
        expire_redelivery()
        assert (await call(client, "segment_image", expensive)).is_error
    assert len(user.asked) == 3
    assert len(sandbox.state.accepted) == 1


async def test_a_question_that_nobody_answers_ends_with_the_patience_of_its_client_and_a_late_yes_is_none(
    environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any]
) -> None:
    asked, let = anyio.Event(), anyio.Event()

    async def late(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        asked.set()
        await let.wait()
        return ElicitResult(action="accept", content={"spend": True})

    server = serve(read_settings({**environment, "ROTOSCOPE_INLINE_SECONDS": "0.3"}), sandbox)
    async with Client(server, mode="legacy", elicitation_callback=late) as client:
        refused = await call(client, "segment_image", expensive)
        assert asked.is_set()
        nothing_begun(sandbox, refused)
        assert "dry_run: true" in text_of(refused)
        let.set()
        nothing_begun(sandbox, await call(client, "segment_image", expensive))
        await call(client, "segment_image", {**expensive, "dry_run": True})
        assert not (await call(client, "segment_image", expensive)).is_error


@ERAS
async def test_a_small_price_is_not_reported_as_nothing(
    environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any], mode: Any
) -> None:
    move(environment, "usd = 3.0", "usd = 0.004")
    user = User("decline")
    server = serve(read_settings({**environment, "ROTOSCOPE_ASK_ABOVE_USD": "0.001"}), sandbox)
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        refused = await call(client, "segment_image", expensive)
    assert "0.0040 USD" in user.asked[0]
    assert "0.0040 USD" in text_of(refused)


@ERAS
async def test_a_repeat_that_joins_an_open_job_is_not_asked_about(
    environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any], mode: Any
) -> None:
    """A client that gave up waiting calls again: the job is there, and nothing more is paid."""
    impatient = serve(read_settings({**environment, "ROTOSCOPE_INLINE_SECONDS": "0"}), sandbox)
    user = User("accept", spend=True)
    async with Client(impatient, mode=mode, elicitation_callback=user) as client:
        first = await call(client, "segment_image", expensive)
        user.answer = ElicitResult(action="decline")
        again = await call(client, "segment_image", expensive)
    assert first.structured_content is not None
    assert again.structured_content is not None
    assert again.structured_content["job_id"] == first.structured_content["job_id"]
    assert len(user.asked) == 1


@pytest.mark.parametrize("value", ["-1", "much", "inf", "nan"])
def test_a_limit_that_is_no_price_is_refused(value: str) -> None:
    with pytest.raises(Exception, match="ROTOSCOPE_ASK_ABOVE_USD"):
        read_settings({"ROTOSCOPE_ASK_ABOVE_USD": value})
    assert json.dumps(read_settings({}).ask_above_usd) == "1.0"


REAL = {"FAL_KEY": "id:none-of-yours", "FAL_BASE_URL": "http://127.0.0.1:9"}


@pytest.mark.parametrize(("shown_in", "asked_in"), [({}, REAL), (REAL, {})], ids=["sandbox first", "real first"])
async def test_a_price_that_the_sandbox_showed_is_no_consent_to_a_real_run_nor_the_other_way(
    environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any],
    shown_in: dict[str, str], asked_in: dict[str, str],
) -> None:  # fmt: skip
    async with Client(serve(read_settings({**environment, **shown_in}), sandbox)) as client:
        assert not (await call(client, "segment_image", {**expensive, "dry_run": True})).is_error
    async with Client(serve(read_settings({**environment, **asked_in}), sandbox)) as client:
        nothing_begun(sandbox, await call(client, "segment_image", expensive))


UNPRICED = {"box": BOX, "model": "mine/unpriced"}


def nothing_asked_of_the_provider(sandbox: Sandbox, answer: CallToolResult) -> None:
    assert answer.is_error
    assert text_of(answer).startswith("consent: ")
    assert "unknown price" in text_of(answer)
    assert "ROTOSCOPE_UNPRICED=run" in text_of(answer)
    assert sandbox.state.accepted == []


@pytest.fixture
def real(environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any]) -> Callable[..., Any]:
    """A server with a key, whose provider the sandbox app plays: as far as the server knows, every run is paid for."""
    host = SANDBOX_URL.rpartition("/")[2]
    real = {"FAL_KEY": "id:none-of-yours", "FAL_BASE_URL": f"https://{host}"}

    def build(**more: str) -> Any:
        return serve(read_settings({**environment, **real, **more}), sandbox)

    return build


@ERAS
async def test_a_run_of_unknown_price_is_asked_about_like_an_expensive_one(
    real: Callable[..., Any], sandbox: Sandbox, photo: Path, mode: Any, expire_redelivery: Callable[[], bool]
) -> None:
    user = User("decline")
    asked = {"image": str(photo), **UNPRICED}
    async with Client(real(), mode=mode, elicitation_callback=user) as client:
        nothing_asked_of_the_provider(sandbox, await call(client, "segment_image", asked))
        assert "no known price" in user.asked[0]
        user.answer = ElicitResult(action="accept", content={"spend": True})
        assert not (await call(client, "segment_image", asked)).is_error
        expire_redelivery()
        user.answer = ElicitResult(action="decline")
        assert (await call(client, "segment_image", asked)).is_error
    assert len(user.asked) == 3
    assert len(sandbox.state.accepted) == 1


@ERAS
async def test_a_client_that_cannot_ask_agrees_to_an_unknown_price_by_a_dry_run(
    real: Callable[..., Any], sandbox: Sandbox, photo: Path, mode: Any
) -> None:
    asked = {"image": str(photo), **UNPRICED}
    async with Client(real(), mode=mode) as client:
        nothing_asked_of_the_provider(sandbox, await call(client, "segment_image", asked))
        shown = (await call(client, "segment_image", {**asked, "dry_run": True})).structured_content
        assert shown is not None
        assert any("asked about first" in warning for warning in shown["warnings"])
        assert not (await call(client, "segment_image", asked)).is_error
    assert len(sandbox.state.accepted) == 1


@ERAS
@pytest.mark.parametrize("above", ["never", "1"])
async def test_where_the_operator_lets_unknown_prices_run_nobody_is_asked(
    real: Callable[..., Any], sandbox: Sandbox, photo: Path, mode: Any, above: str
) -> None:
    user = User("decline")
    server = real(ROTOSCOPE_UNPRICED="run", ROTOSCOPE_ASK_ABOVE_USD=above)
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        assert not (await call(client, "segment_image", {"image": str(photo), **UNPRICED})).is_error
    assert user.asked == []


@ERAS
async def test_who_asks_never_about_prices_still_asks_about_unknown_ones(
    real: Callable[..., Any], sandbox: Sandbox, photo: Path, mode: Any
) -> None:
    user = User("decline")
    async with Client(real(ROTOSCOPE_ASK_ABOVE_USD="never"), mode=mode, elicitation_callback=user) as client:
        nothing_asked_of_the_provider(sandbox, await call(client, "segment_image", {"image": str(photo), **UNPRICED}))
    assert len(user.asked) == 1


async def test_a_yes_to_an_unknown_price_is_none_to_one_that_became_known(
    real: Callable[..., Any], environment: dict[str, str], sandbox: Sandbox, photo: Path
) -> None:
    move(environment, '\n[price]\nunit = "run"\nusd = 3.0\nseen = "2026-11-01"\n', "")
    asked = {"image": str(photo), "box": BOX, "model": "mine/expensive"}
    async with Client(real()) as client:
        await call(client, "segment_image", {**asked, "dry_run": True})
    file = Path(environment["ROTOSCOPE_HOME"]) / "models" / "expensive.toml"
    price = '\n[price]\nunit = "run"\nusd = 3.0\nseen = "2026-11-01"\n'
    file.write_text(file.read_text(encoding="utf-8") + price, encoding="utf-8")
    async with Client(real()) as client:
        nothing_begun(sandbox, await call(client, "segment_image", asked))


def move(environment: dict[str, str], old: str, new: str) -> None:
    manifest = Path(environment["ROTOSCOPE_HOME"]) / "models" / "expensive.toml"
    text = manifest.read_text(encoding="utf-8")
    assert old in text
    manifest.write_text(text.replace(old, new), encoding="utf-8")


async def test_a_price_at_one_provider_is_no_consent_to_another(
    environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any], expensive: dict[str, Any]
) -> None:
    route = '[[routes]]\nprovider = "gateway"\nform = "official"\nendpoint = "mine/expensive"\n\n'
    move(environment, "[inputs.image_url]", f"{route}[inputs.image_url]")
    async with Client(serve(read_settings(environment), sandbox)) as client:
        shown = await call(client, "segment_image", {**expensive, "model": "mine/expensive@gateway", "dry_run": True})
        assert shown.structured_content is not None
        assert shown.structured_content["provider"] == "gateway"
        nothing_begun(sandbox, await call(client, "segment_image", {**expensive, "model": "mine/expensive@fal"}))
        nothing_begun(sandbox, await call(client, "segment_image", expensive))


@pytest.mark.parametrize(
    ("old", "new"),
    [('endpoint = "fal-ai/sam2/image"', 'endpoint = "fal-ai/sam2/other"'), ("usd = 3.0", "usd = 3.01")],
    ids=["another endpoint", "a higher price"],
)
async def test_a_price_is_no_consent_once_the_manifest_has_moved(
    environment: dict[str, str],
    sandbox: Sandbox,
    serve: Callable[..., Any],
    expensive: dict[str, Any],
    old: str,
    new: str,
) -> None:
    async with Client(serve(read_settings(environment), sandbox)) as client:
        await call(client, "segment_image", {**expensive, "dry_run": True})
    move(environment, old, new)
    async with Client(serve(read_settings(environment), sandbox)) as client:
        refused = await call(client, "segment_image", expensive)
    assert text_of(refused).startswith("consent: ")
    assert sandbox.state.accepted == []


async def test_a_price_is_for_the_request_in_whatever_words_it_comes(
    server: MCPServer[LazyStudio], sandbox: Sandbox, expensive: dict[str, Any], photo: Path
) -> None:
    """A dry run shows the picture by its link, so that is how some assistants go on."""
    async with Client(server) as client:
        shown = await call(client, "segment_image", {**expensive, "dry_run": True})
        assert shown.structured_content is not None
        assert "quote_key" not in shown.structured_content
        link = shown.structured_content["planned_input"]["image_url"]
        box = {**BOX, "left": "20.4"}
        answer = await call(client, "segment_image", {**expensive, "image": link, "box": box, "overlay": True})
    assert not answer.is_error, text_of(answer)
    assert len(sandbox.state.accepted) == 1


async def test_a_price_that_was_shown_without_a_seed_is_for_any_seed(
    environment: dict[str, str], sandbox: Sandbox, serve: Callable[..., Any]
) -> None:
    """The dry run itself says how to run the very request that it shows: with its seed."""
    text = (manifest_folder() / "models" / "seedance-2.0.toml").read_text(encoding="utf-8")
    own = Path(environment["ROTOSCOPE_HOME"]) / "models" / "film.toml"
    own.write_text(with_price(text, "output_second", 0.5), encoding="utf-8")
    async with Client(serve(read_settings({**environment, "ROTOSCOPE_INLINE_SECONDS": "0"}), sandbox)) as client:
        asked = {"prompt": "a fox", "duration": 4, "resolution": "480p", "model": "bytedance/seedance-2.0@replicate"}
        shown = (await call(client, "generate_video", {**asked, "dry_run": True})).structured_content
        assert shown is not None
        assert shown["cost"]["estimate_usd"] == 2.0
        other = await call(client, "generate_video", {**asked, "seed": shown["seed"], "duration": 5})
        assert text_of(other).startswith("consent: ")
        answer = await call(client, "generate_video", {**asked, "seed": shown["seed"]})
    assert not answer.is_error, text_of(answer)


async def test_a_price_that_one_principal_was_shown_is_no_consent_of_another(
    settings: Settings, sandbox: Sandbox, home: Path, expensive: dict[str, Any]
) -> None:
    caller = ["anna"]
    opener = make_studio_opener(settings, stdio_roots(settings, home, home), sandbox, InThread())
    clients = read_client_profiles(manifest_folder() / "clients.toml")
    server = build_server(opener, clients, settings.inline_seconds, find_principal=lambda _: caller[0])
    async with Client(server) as client:
        assert not (await call(client, "segment_image", {**expensive, "dry_run": True})).is_error
        caller[0] = "bert"
        nothing_begun(sandbox, await call(client, "segment_image", expensive))
        caller[0] = "anna"
        assert not (await call(client, "segment_image", expensive)).is_error
