"""The server over HTTP: the guard in front, the MCP endpoint, files, health and metrics."""
