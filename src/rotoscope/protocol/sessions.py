"""The SDK's sessions over HTTP, each with a store of events of its own, and counted by whom they belong to.

`_admit_session` is the one method of the SDK's session manager that is not public: it decides on a new session.
`tests/server/http/test_sessions.py` fails when the SDK changes it.
"""

from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthorizationContext
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from rotoscope.protocol.lowlevel import lowlevel_server
from rotoscope.protocol.stream_events import StreamEvents

__all__ = ["HttpSessions"]


class HttpSessions(StreamableHTTPSessionManager):
    """Serves MCP over HTTP in both eras; the sessions of the handshake era live here.

    Args:
        server: what is served; its lifespan is entered once, by `run`.
        body_bytes: the largest body of a request.
        idle_seconds: after which a session without a request ends.
        retry_milliseconds: after which a client opens a closed stream again.
        most: how many sessions may be open.
        most_of_one: how many of one principal.
        events: how many events of a session are kept.
        event_bytes: how many bytes of them.
    """

    def __init__(
        self,
        server: MCPServer[Any],
        *,
        body_bytes: int,
        idle_seconds: float,
        retry_milliseconds: int,
        most: int,
        most_of_one: int,
        events: int,
        event_bytes: int,
    ) -> None:
        super().__init__(
            lowlevel_server(server),
            retry_interval=retry_milliseconds,
            session_idle_timeout=idle_seconds,
            max_request_body_size=body_bytes,
            max_sessions=most,
        )
        self._most_of_one = most_of_one
        self._kept = (events, event_bytes)

    def _admit_session(self, requestor: AuthorizationContext | None) -> StreamableHTTPServerTransport | None:
        """A new session, with a store of its own; None where its owner has too many, or all together."""
        if (
            requestor is not None
            and sum(one == requestor for one in self._session_owners.values()) >= self._most_of_one
        ):
            return None
        self.event_store = StreamEvents(*self._kept)
        return super()._admit_session(requestor)
