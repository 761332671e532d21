"""A task as a client sees it: frozen data, and how it looks on the wire. Pure.

The shapes are those of the extension's specification (ext-tasks, draft): flat, `ttlMs` and `pollIntervalMs` in
milliseconds, times in ISO 8601, and exactly one of `result`, `error` and `inputRequests` where the status has one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from mcp_types import CallToolResult, ErrorData, InputRequest

__all__ = ["FINAL_STATUSES", "IDENTIFIER", "Task", "TaskStatus"]

IDENTIFIER = "io.modelcontextprotocol/tasks"
"""The extension's name, in capabilities and in errors."""

TaskStatus = Literal["working", "input_required", "completed", "failed", "cancelled"]

FINAL_STATUSES: frozenset[TaskStatus] = frozenset({"completed", "failed", "cancelled"})
"""Statuses that never change again."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task at one moment.

    Attributes:
        id: cannot be guessed; it identifies, but it authorises nobody.
        status: a tool result with `isError` is `completed`; `failed` is a JSON-RPC error.
        message: a short text for a person: how far it is, or what became of it.
        created_at: Unix seconds.
        updated_at: Unix seconds.
        ttl_ms: how long the task stays readable, counted from its creation; None: without limit.
        poll_ms: how long a client should wait between two questions.
        result: what the tool gives; only when completed.
        error: only when failed.
        inputs: what the client is asked, by keys that are never used twice in a task; only when input is required.

    Raises:
        ValueError: the outcome does not belong to the status.
    """

    id: str
    status: TaskStatus
    message: str
    created_at: float
    updated_at: float
    ttl_ms: int | None = None
    poll_ms: int = 2000
    result: CallToolResult | None = None
    error: ErrorData | None = None
    inputs: Mapping[str, InputRequest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        has = (self.result is not None, self.error is not None, bool(self.inputs))
        wants = (self.status == "completed", self.status == "failed", self.status == "input_required")
        if has != wants:
            raise ValueError(f"a task that is {self.status} has no such outcome")

    @property
    def is_final(self) -> bool:
        """Whether it never changes again."""
        return self.status in FINAL_STATUSES

    def creation_payload(self) -> dict[str, Any]:
        """The result of the `tools/call` that became this task."""
        return {"resultType": "task", **self._state_fields()}

    def detail_payload(self) -> dict[str, Any]:
        """The whole task: what `tasks/get` gives and `notifications/tasks` carries."""
        return {**self._state_fields(), **self._outcome_fields()}

    def _state_fields(self) -> dict[str, Any]:
        return {
            "taskId": self.id,
            "status": self.status,
            "statusMessage": self.message,
            "createdAt": _timestamp(self.created_at),
            "lastUpdatedAt": _timestamp(self.updated_at),
            "ttlMs": self.ttl_ms,
            "pollIntervalMs": self.poll_ms,
        }

    def _outcome_fields(self) -> dict[str, Any]:
        if self.result is not None:
            return {"result": _dump_wire(self.result)}
        if self.error is not None:
            return {"error": _dump_wire(self.error)}
        return {"inputRequests": {key: _dump_wire(one) for key, one in self.inputs.items()}} if self.inputs else {}


def _dump_wire(record: CallToolResult | ErrorData | InputRequest) -> dict[str, Any]:
    return record.model_dump(by_alias=True, mode="json", exclude_none=True)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
