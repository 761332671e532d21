"""Two servers on one ledger, vault and secret: what one has begun, the other knows."""

from typing import Any

import pytest
from calls import text_of
from http_client import HttpBuilder, connect, running
from mcp import MCPError
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult, InputRequiredResult

pytestmark = pytest.mark.anyio
VIDEO = {"prompt": "a boat on a lake", "duration": 4}
ASKS = {"ROTOSCOPE_ASK_ABOVE_USD": "0"}
VERSION = "2026-07-28"


async def nobody_is_asked(_: ClientRequestContext, __: ElicitRequestParams) -> ElicitResult:
    raise AssertionError("the question is answered by the test")


async def ask_at(http: Any) -> dict[str, Any]:
    """What a client brings back that was asked about the price: the state of the question, and a yes."""
    async with connect(http, VERSION, elicitation_callback=nobody_is_asked) as client:
        asked = await client.session.call_tool("generate_video", VIDEO, allow_input_required=True)
    assert isinstance(asked, InputRequiredResult), text_of(asked)
    assert asked.input_requests is not None
    yes = ElicitResult(action="accept", content={"spend": True})
    return {"request_state": asked.request_state, "input_responses": dict.fromkeys(asked.input_requests, yes)}


async def test_a_question_of_one_is_answered_to_the_other_and_its_job_and_files_are_found(
    build_http: HttpBuilder,
) -> None:
    async with running(build_http(**ASKS)) as one, running(build_http(**ASKS)) as other:
        agreed = await ask_at(one)
        async with connect(other, VERSION, elicitation_callback=nobody_is_asked) as client:
            made = await client.session.call_tool("generate_video", VIDEO, **agreed)
        assert made.structured_content is not None, text_of(made)
        async with connect(one, VERSION) as client:
            found = await client.call_tool("get_job", {"job_id": made.structured_content["job_id"], "wait_seconds": 30})
        assert found.structured_content is not None
        assert found.structured_content["status"] == "succeeded"
        url = found.structured_content["poster"]["url"]
        assert (await one.get(url)).content == (await other.get(url)).content


async def test_a_state_and_an_address_of_another_secret_are_refused(build_http: HttpBuilder) -> None:
    foreign = build_http(**ASKS, ROTOSCOPE_SECRETS="x" * 32)
    async with running(build_http(**ASKS)) as one, running(foreign) as other:
        agreed = await ask_at(one)
        async with connect(other, VERSION, elicitation_callback=nobody_is_asked) as client:
            with pytest.raises(MCPError):
                await client.session.call_tool("generate_video", VIDEO, **agreed)


async def test_a_secret_that_was_replaced_still_verifies(build_http: HttpBuilder) -> None:
    old, new = (
        build_http(**ASKS, ROTOSCOPE_SECRETS="o" * 32),
        build_http(**ASKS, ROTOSCOPE_SECRETS="n" * 32 + "," + "o" * 32),
    )
    async with running(old) as one, running(new) as other:
        agreed = await ask_at(one)
        async with connect(other, VERSION, elicitation_callback=nobody_is_asked) as client:
            made = await client.session.call_tool("generate_video", VIDEO, **agreed)
            assert not made.is_error
