"""The MCP extension `io.modelcontextprotocol/tasks` for servers on the Python SDK 2.x, protocol 2026-07-28.

A tool call that takes long is answered with a task; the client asks for it with `tasks/get`, answers its questions
with `tasks/update`, ends it with `tasks/cancel`, and may subscribe to its changes by `subscriptions/listen`. What a
task is, where it is kept and who does the work is the server's own: it gives a `TaskStore`.

The package needs the SDK and nothing else of this project.

    tasks = TasksExtension(store, principal_of)
    server = MCPServer("name", extensions=[tasks], subscriptions=bus)

    async def tool(...):                      # opens the work, durably, then:
        if (offer := current_offer()) is not None:
            offer.task_id = work.id           # the client gets the task instead of this tool's result
        return ...
"""

from rotoscope.protocol.tasks.extension import TaskOffer, TasksExtension, current_offer, has_tasks_extension
from rotoscope.protocol.tasks.listening import TaskListenHandler
from rotoscope.protocol.tasks.store import PrincipalOf, TaskStore
from rotoscope.protocol.tasks.task import FINAL_STATUSES, IDENTIFIER, Task, TaskStatus

__all__ = [
    "FINAL_STATUSES",
    "IDENTIFIER",
    "PrincipalOf",
    "Task",
    "TaskListenHandler",
    "TaskOffer",
    "TaskStatus",
    "TaskStore",
    "TasksExtension",
    "current_offer",
    "has_tasks_extension",
]
