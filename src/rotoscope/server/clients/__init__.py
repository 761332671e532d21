"""What is known of each MCP client: how long it waits, what it shows."""
