"""Fixtures of the conformance suite: tools and a prompt that ask the client something, in the way of each era."""

from collections.abc import Callable, Mapping
from typing import Any

from mcp import MCPError
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
_PREFIX, _ASKS = "test_input_required_result_", "A tool that asks before it answers."
_VALUES = ["value1", "value2", "value3"]
_TITLED = [{"const": value, "title": f"Option {n}"} for n, value in enumerate(_VALUES)]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": _VALUES},
    "titledSingle": {"type": "string", "oneOf": _TITLED},
    "legacyEnum": {"type": "string", "enum": _VALUES, "enumNames": ["One", "Two", "Three"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _VALUES}},
    "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
}


def form(message: str, properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> ElicitRequest:
    schema = {"type": "object", "properties": dict(properties), "required": list(required)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def ask_name() -> ElicitRequest:
    return form("What is your name?", {"name": {"type": "string"}}, ("name",))


def ask_yes() -> ElicitRequest:
    return form("Are you sure?", {"ok": {"type": "boolean"}}, ("ok",))


def sample(prompt: str) -> CreateMessageRequest:
    content = TextContent(type="text", text=prompt)
    messages = [SamplingMessage(role="user", content=content)]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=messages, max_tokens=100))


def answered(ctx: Context, key: str, kind: type) -> Any:
    """The client's answer of that key, or None."""
    found = (ctx.input_responses or {}).get(key)
    return found if isinstance(found, kind) else None


def add_questions(server: MCPServer[Any]) -> None:
    """Add what asks."""
    _add_handshake_tools(server)
    _add_single_questions(server)
    _add_longer_talks(server)
    _add_what_asks_by_capability(server)


def _add_handshake_tools(server: MCPServer[Any]) -> None:
    @server.tool(structured_output=False)
    async def test_sampling(prompt: str, ctx: Context) -> str:
        """A tool that asks the client's model."""
        params = sample(prompt).params
        answer = await ctx.session.create_message(
            params.messages, max_tokens=params.max_tokens, related_request_id=ctx.request_id
        )
        return f"LLM response: {getattr(answer.content, 'text', '')}"

    def elicits(name: str, properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> None:
        async def run(ctx: Context, message: str = "Please fill in the form.") -> str:
            asked = form(message, properties, required).params
            assert isinstance(asked, ElicitRequestFormParams)
            answer = await ctx.session.elicit_form(asked.message, asked.requested_schema, ctx.request_id)
            return f"User response: action={answer.action}, content={answer.content}"

        server.add_tool(run, name=name, description=_ASKS, structured_output=False)

    strings = {"username": {"type": "string"}, "email": {"type": "string"}}
    elicits("test_elicitation", strings, ("username", "email"))
    elicits("test_elicitation_sep1034_defaults", DEFAULTS)
    elicits("test_elicitation_sep1330_enums", ENUMS)

    @server.tool(structured_output=False)
    async def test_missing_capability(ctx: Context) -> str:
        """A tool that cannot do without sampling."""
        if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
            needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs sampling.", needed)
        return "The client samples."


def _add_single_questions(server: MCPServer[Any]) -> None:
    def asks(
        name: str, key: str, question: Callable[[], InputRequest], kind: type, words: Callable[[Any], str]
    ) -> None:
        async def run(ctx: Context) -> str | InputRequiredResult:
            answer = answered(ctx, key, kind)
            return InputRequiredResult(input_requests={key: question()}) if answer is None else words(answer)

        server.add_tool(run, name=f"{_PREFIX}{name}", description=_ASKS, structured_output=False)

    def greeting(answer: ElicitResult) -> str:
        return f"Hello, {(answer.content or {}).get('name', 'stranger')}!"

    asks("elicitation", "user_name", ask_name, ElicitResult, greeting)
    asks(
        "sampling",
        "capital_question",
        lambda: sample("What is the capital of France?"),
        CreateMessageResult,
        lambda answer: f"The model said: {getattr(answer.content, 'text', '')}",
    )
    asks(
        "list_roots",
        "client_roots",
        ListRootsRequest,
        ListRootsResult,
        lambda answer: f"Roots: {[str(root.uri) for root in answer.roots]}",
    )

    @server.prompt()
    def test_input_required_result_prompt(ctx: Context) -> Any:
        """A prompt that asks first."""
        answer = answered(ctx, "user_context", ElicitResult)
        if answer is None:
            question = form("What should the prompt know?", {"context": {"type": "string"}}, ("context",))
            return InputRequiredResult(input_requests={"user_context": question})
        return f"Use this: {(answer.content or {}).get('context', '')}"


def _add_longer_talks(server: MCPServer[Any]) -> None:
    def stateful(name: str) -> None:
        async def run(ctx: Context) -> str | InputRequiredResult:
            if ctx.request_state == "asked" and answered(ctx, "confirm", ElicitResult):
                return "state-ok"
            return InputRequiredResult(input_requests={"confirm": ask_yes()}, request_state="asked")

        server.add_tool(run, name=f"{_PREFIX}{name}", description=_ASKS, structured_output=False)

    stateful("request_state")
    stateful("tampered_state")

    @server.tool(structured_output=False)
    async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
        """A tool that asks three things at once."""
        questions: dict[str, InputRequest] = {
            "user_name": ask_name(),
            "greeting": sample("Greet somebody."),
            "client_roots": ListRootsRequest(),
        }
        if set(questions) <= set(ctx.input_responses or {}):
            return "All three are answered."
        return InputRequiredResult(input_requests=questions, request_state="three")

    @server.tool(structured_output=False)
    async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
        """A tool that asks twice, one after the other."""
        if ctx.request_state == "second" and answered(ctx, "step2", ElicitResult):
            return "Both steps are done."
        if ctx.request_state == "first" and answered(ctx, "step1", ElicitResult):
            return InputRequiredResult(input_requests={"step2": ask_yes()}, request_state="second")
        return InputRequiredResult(input_requests={"step1": ask_name()}, request_state="first")


def _add_what_asks_by_capability(server: MCPServer[Any]) -> None:
    @server.tool(structured_output=False)
    async def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
        """A tool that asks only what this client can answer."""
        if ctx.input_responses:
            return "Answered."
        can = ctx.client_capabilities
        questions: dict[str, InputRequest] = {}
        if can is not None and can.elicitation is not None:
            questions["user_name"] = ask_name()
        if can is not None and can.sampling is not None:
            questions["greeting"] = sample("Greet somebody.")
        if can is not None and can.roots is not None:
            questions["client_roots"] = ListRootsRequest()
        return InputRequiredResult(input_requests=questions) if questions else "Nothing can be asked."
