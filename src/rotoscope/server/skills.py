"""The skills that come with the package: what a model should know to carry out a chain of tools.

Their texts are the folders in `rotoscope/skills`. They are served to MCP clients, they are the body of the prompts, and
the plugin for Claude Code ships the same files.
"""

from functools import cache
from importlib.resources import files
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError

from rotoscope.protocol.skills import Skill, SkillsExtension, read_skills

__all__ = ["find_skill", "load_skills", "serve_skill_files"]

_TEMPLATE = "skill://{name}/{+path}"


@cache
def load_skills() -> tuple[Skill, ...]:
    """Every skill, by name."""
    return read_skills(files("rotoscope").joinpath("skills"))


def find_skill(name: str) -> Skill:
    """The skill of that name, which there is."""
    return next(skill for skill in load_skills() if skill.name == name)


def serve_skill_files(server: MCPServer[Any], skills: SkillsExtension) -> None:
    """Add the template by which every file of a skill is read."""

    @server.resource(
        _TEMPLATE, name="skill", description="A file of a skill: SKILL.md first.", mime_type="text/markdown"
    )
    def read_skill_file(name: str, path: str) -> str:
        text = skills.read_file(name, path)
        if text is None:
            known = ", ".join(skill.uri for skill in skills.skills)
            raise ResourceNotFoundError(f"There is no such file of a skill. Skills: {known}.")
        return text
