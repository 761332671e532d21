"""rotoscope: an MCP server for media models.

Tools are code, models are data, a provider is a dialect.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
