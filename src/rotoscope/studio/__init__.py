"""The studio: the facade that turns a tool call into a job, whoever calls: MCP, the command line, tests."""
