"""The server: how the Model Context Protocol reaches the studio."""
