"""Fixtures of the conformance suite: tools that become tasks, and the tasks themselves, kept beside those of jobs."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mcp import MCPError
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import INTERNAL_ERROR, CallToolResult, ElicitResult, ErrorData, InputRequest, InputRequiredResult
from questions import answered, ask_name, ask_yes, form

from rotoscope.protocol.tasks import Task, TaskStore, current_offer

REQUIRED = frozenset({"failing_job", "test_tool_with_task"})


@dataclass
class Work:
    """A piece of work that a task tells of."""

    task: Task
    notify: Callable[[str], None]
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    running: "asyncio.Task[None] | None" = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def becomes(self, **changes: Any) -> None:
        if not self.task.is_final:
            self.task = replace(self.task, updated_at=time.time(), **changes)
            self.notify(self.task.id)

    async def ask(self, questions: Mapping[str, InputRequest]) -> Mapping[str, Mapping[str, Any]]:
        """Wait until all is answered; what is still open is what the task asks."""
        while open_ones := {key: one for key, one in questions.items() if key not in self.answers}:
            self.answered.clear()
            self.becomes(status="input_required", message="waiting for an answer", inputs=open_ones)
            await self.answered.wait()
        self.becomes(status="working", message="answered", inputs={})
        return self.answers

    async def run(self, body: Callable[["Work"], Awaitable[CallToolResult]]) -> None:
        try:
            self.becomes(status="completed", message="done", result=await body(self))
        except MCPError as error:
            self.becomes(status="failed", message="failed", error=ErrorData(code=error.code, message=str(error)))


class Works:
    """A task store in memory for the fixtures, in front of the one of jobs."""

    def __init__(self, jobs: TaskStore) -> None:
        self._jobs = jobs
        self._works: dict[str, Work] = {}
        self._listeners: dict[object, Callable[[str], None]] = {}

    def begin(self, body: Callable[[Work], Awaitable[CallToolResult]]) -> str:
        now, task_id = time.time(), secrets.token_hex(16)
        task = Task(task_id, "working", "begun", now, now, ttl_ms=600_000, poll_ms=200)
        work = self._works[task_id] = Work(task, self._notify)
        work.running = asyncio.create_task(work.run(body))
        return task_id

    async def get(self, principal: str, task_id: str) -> Task | None:
        work = self._works.get(task_id)
        return work.task if work else await self._jobs.get(principal, task_id)

    async def mark_delivered(self, principal: str, task_id: str) -> None:
        if task_id not in self._works:
            await self._jobs.mark_delivered(principal, task_id)

    async def cancel(self, principal: str, task_id: str) -> None:
        work = self._works.get(task_id)
        if work is None:
            await self._jobs.cancel(principal, task_id)
        elif work.running is not None:
            work.running.cancel()
            work.becomes(status="cancelled", message="cancelled", inputs={})

    async def update(self, principal: str, task_id: str, responses: Mapping[str, Mapping[str, Any]]) -> None:
        work = self._works.get(task_id)
        if work is None:
            await self._jobs.update(principal, task_id, responses)
            return
        work.answers.update(responses)
        left = {key: one for key, one in work.task.inputs.items() if key not in work.answers}
        work.becomes(**({"inputs": left} if left else {"status": "working", "inputs": {}}))
        work.answered.set()

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        token = object()
        self._listeners[token] = listener
        ends = self._jobs.watch(listener)

        def forget() -> None:
            self._listeners.pop(token, None)
            ends()

        return forget

    def _notify(self, task_id: str) -> None:
        for listener in list(self._listeners.values()):
            listener(task_id)


def words(said: str, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[{"type": "text", "text": said}], is_error=is_error)  # type: ignore[list-item]


def add_works(server: MCPServer[Any], works: Callable[[], Works]) -> None:
    """Add the tools that become tasks where the client takes tasks, and answer at once where not."""

    async def answer(body: Callable[[Work], Awaitable[CallToolResult]]) -> CallToolResult:
        offer = current_offer()
        if offer is None:
            now = time.time()
            return await body(Work(Task("-", "working", "", now, now), lambda _: None))
        offer.task_id = works().begin(body)
        return words("a task")

    @server.tool(structured_output=False)
    def greet(name: str) -> str:
        """Greet somebody. Never a task."""
        return f"Hello, {name}!"

    @server.tool(structured_output=False)
    async def slow_compute(seconds: float = 1.0, label: str = "") -> CallToolResult:
        """Compute for some seconds."""

        async def body(_: Work) -> CallToolResult:
            await asyncio.sleep(seconds)
            return words(f"computed {label}")

        return await answer(body)

    @server.tool(structured_output=False)
    async def failing_job() -> CallToolResult:
        """Work that fails as tools fail."""

        async def body(_: Work) -> CallToolResult:
            await asyncio.sleep(1)
            return words("It failed.", is_error=True)

        return await answer(body)

    @server.tool(structured_output=False)
    async def protocol_error_job() -> CallToolResult:
        """Work that ends in a protocol error."""

        async def body(_: Work) -> CallToolResult:
            await asyncio.sleep(0.2)
            raise MCPError(INTERNAL_ERROR, "The server is broken.")

        return await answer(body)

    _add_asking_works(server, answer)


def _add_asking_works(
    server: MCPServer[Any],
    answer: Callable[[Callable[[Work], Awaitable[CallToolResult]]], Awaitable[CallToolResult]],
) -> None:
    @server.tool(structured_output=False)
    async def confirm_delete(filename: str = "file.txt") -> CallToolResult:
        """Delete a file, if the user says so."""

        async def body(work: Work) -> CallToolResult:
            question = form(f"Delete {filename}?", {"confirm": {"type": "boolean"}}, ("confirm",))
            said = (await work.ask({"confirm": question}))["confirm"]
            return words(f"{filename}: {said.get('action')}")

        return await answer(body)

    @server.tool(structured_output=False)
    async def multi_input() -> CallToolResult:
        """Ask two things at once."""

        async def body(work: Work) -> CallToolResult:
            said = await work.ask({"first": ask_name(), "second": ask_yes()})
            return words(f"answered {sorted(said)}")

        return await answer(body)

    @server.tool(structured_output=False)
    async def test_tool_with_task(ctx: Context) -> Any:
        """Ask for a name at once, then work on it."""
        known = answered(ctx, "user_name", ElicitResult)
        if known is None:
            return InputRequiredResult(input_requests={"user_name": ask_name()})

        async def body(_: Work) -> CallToolResult:
            await asyncio.sleep(0.2)
            return words(f"Hello, {(known.content or {}).get('name')}!")

        return await answer(body)
