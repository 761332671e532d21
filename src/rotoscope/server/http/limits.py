"""All limits of the HTTP server in one record, with numbers that suit one process on two cores."""

from dataclasses import dataclass

__all__ = ["HttpLimits"]


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one server process takes.

    Attributes:
        body_bytes: of a request to the MCP endpoint; as the SDK bounds it.
        body_seconds: in which such a body must have come.
        header_bytes: of all headers of a request, names and values.
        header_count: how many headers it may have.
        header_seconds: in which a request's headers must have come, from its first byte or from the connection's start.
        idle_seconds: how long a connection may stay open between two requests.
        chunk_seconds: how long one part of a body may take to come, or one part of an answer to be taken.
        connections: open at once.
        requests_per_principal: to the MCP endpoint at once, without streams.
        streams_per_principal: open at once.
        sessions: of the handshake era, of all principals.
        sessions_per_principal: of one.
        session_idle_seconds: after which a session without a request ends.
        events_per_session: that are kept to be sent again.
        event_bytes_per_session: of the events that are kept.
        retry_milliseconds: after which a client opens a stream again that was closed.
        downloads: files that are sent at once.
        drain_seconds: how long the answers that are under way may take when the process is asked to end.
    """

    body_bytes: int = 4 * 1024 * 1024
    body_seconds: float = 30.0
    header_bytes: int = 16 * 1024
    header_count: int = 64
    header_seconds: float = 15.0
    idle_seconds: float = 75.0
    chunk_seconds: float = 60.0
    connections: int = 1000
    requests_per_principal: int = 128
    streams_per_principal: int = 256
    sessions: int = 1000
    sessions_per_principal: int = 256
    session_idle_seconds: float = 30 * 60.0
    events_per_session: int = 100
    event_bytes_per_session: int = 256 * 1024
    retry_milliseconds: int = 2000
    downloads: int = 64
    drain_seconds: float = 10.0
