"""How results, errors and progress are presented to an MCP client."""
