"""gemini-extension/: the extension of Gemini CLI, with the file that it adds to the model's context."""

from rotoscope.cli.clients.entries import gemini_entry
from rotoscope.cli.host_files.facts import ProjectFacts
from rotoscope.cli.host_files.launch import PACKAGE, launch_of_version
from rotoscope.cli.host_files.texts import Document, HostFile, json_text

__all__ = ["make_extension_files"]

_FOLDER, _CONTEXT = "gemini-extension", "GEMINI.md"
_CONTEXT_TEXT = """# rotoscope

- `segment_image`, `describe_with_masks`, `generate_video`, `edit_video_with_mask` and `segment_video` take the path or
  URL of a file.
- Call a tool that costs money with `dry_run: true` first, and tell the user the price.
- When a tool answers with a job id, call `get_job` with it until the job has ended; do not call the tool again.
- Show a mask or a frame with `view_media`; give the user the path or the url of a result.
"""


def make_extension_files(facts: ProjectFacts) -> tuple[HostFile, ...]:
    """The files of the extension."""
    return (
        HostFile(f"{_FOLDER}/gemini-extension.json", json_text(_extension(facts))),
        HostFile(f"{_FOLDER}/{_CONTEXT}", _CONTEXT_TEXT),
    )


def _extension(facts: ProjectFacts) -> Document:
    # Gemini asks for every setting when the extension is installed, one after the other, so for the usual ones alone.
    asked = [one for one in facts.keys if not one.needs_more]
    passed = {one.name: f"${one.name}" for one in facts.keys}
    return {
        "name": PACKAGE,
        "version": facts.version,
        "description": facts.description,
        "mcpServers": {PACKAGE: gemini_entry(launch_of_version(facts.version).with_environment(passed))},
        "contextFileName": _CONTEXT,
        "settings": [
            {"name": one.title, "description": one.meaning, "envVar": one.name, "sensitive": one.is_secret}
            for one in asked
        ],
    }
