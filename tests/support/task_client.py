"""The tasks extension on the side of the official client: a call whose answer is a task is followed to its result."""

from collections.abc import Sequence
from typing import Any, Literal

import anyio
from calls import SECONDS
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp_types import CallToolResult, ElicitResult, Request, RequestParams, Result

__all__ = ["TaskClient"]


class _TaskParams(RequestParams):
    task_id: str


class _GetTask(Request[_TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: _TaskParams
    name_param = "taskId"


class _UpdateParams(_TaskParams):
    input_responses: dict[str, Any]


class _UpdateTask(Request[_UpdateParams, Literal["tasks/update"]]):
    method: Literal["tasks/update"] = "tasks/update"
    params: _UpdateParams
    name_param = "taskId"


class _Begun(Result):
    result_type: Literal["task"] = "task"
    task_id: str
    status: str


class _Task(Result):
    status: str
    result: dict[str, Any] | None = None
    input_requests: dict[str, Any] | None = None


class TaskClient(ClientExtension):
    """Declares the extension; `begun` has the ids of the tasks that calls became, `asked` the questions in them.

    Args:
        answer: the answer to every question of a task; None: it is left open.
    """

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, answer: ElicitResult | None = None) -> None:
        self.begun: list[str] = []
        self.asked: dict[str, Any] = {}
        self._answer = answer

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=_Begun, resolve=self._follow)]

    async def _follow(self, begun: _Begun, context: ClaimContext) -> CallToolResult:
        self.begun.append(begun.task_id)
        asking = _GetTask(params=_TaskParams(task_id=begun.task_id))
        with anyio.fail_after(SECONDS):
            while (task := await context.session.send_request(asking, _Task)).status in ("working", "input_required"):
                new = {key: one for key, one in (task.input_requests or {}).items() if key not in self.asked}
                self.asked |= new
                if new and self._answer is not None:
                    said = self._answer.model_dump(by_alias=True, mode="json", exclude_none=True)
                    params = _UpdateParams(task_id=begun.task_id, input_responses=dict.fromkeys(new, said))
                    await context.session.send_request(_UpdateTask(params=params), Result)
                await anyio.lowlevel.checkpoint()
        assert task.result is not None, task
        return CallToolResult.model_validate(task.result, by_name=False)
