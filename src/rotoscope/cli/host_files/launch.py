"""The command that starts the server on a machine where nothing is installed but uv."""

from rotoscope.cli.clients.entries import OUR_NAME, Launch

__all__ = ["NEWEST", "PACKAGE", "launch_of_version"]

PACKAGE = OUR_NAME
"""What uv installs."""
NEWEST = Launch("uvx", (PACKAGE, "serve"))
"""For a configuration that a person keeps for years: uv takes the newest version, and keeps it until asked."""


def launch_of_version(version: str) -> Launch:
    """For what a host updates by itself, as a whole: its tools are those of exactly this version."""
    return Launch("uvx", (f"{PACKAGE}@{version}", "serve"))
