"""What a server gives to the extension: where its tasks are kept, and on whose behalf a request comes."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mcp.server.context import ServerRequestContext

from rotoscope.protocol.tasks.task import Task

__all__ = ["PrincipalOf", "TaskStore"]

PrincipalOf = Callable[[ServerRequestContext[Any, Any]], str]
"""On whose behalf a request comes. Every task belongs to one principal."""


class TaskStore(Protocol):
    """Where tasks are kept.

    A task is durable before its id is offered: the extension announces only what `get` returns, and a client may
    ask for it at once, from another process too. A task of another principal is answered like one that never was.
    """

    async def get(self, principal: str, task_id: str) -> Task | None:
        """A task as it is now; None when this principal has none of that id, or it has expired."""
        ...

    async def mark_delivered(self, principal: str, task_id: str) -> None:
        """The end of a task is sent to its client. Only this says so: a `get` alone is no delivery."""
        ...

    async def cancel(self, principal: str, task_id: str) -> None:
        """Request the cancellation of a task. One that ends otherwise first, or is gone, raises nothing."""
        ...

    async def update(self, principal: str, task_id: str, responses: Mapping[str, Mapping[str, Any]]) -> None:
        """Take a client's answers to what the task asks, by key.

        Only keys that it still asks come here, perhaps not all of them. The shapes of the answers are not checked.
        """
        ...

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call a function with the id of every task that changes, on the event loop; calling what is returned ends
        that.

        The listener neither waits nor raises.
        """
        ...
