"""Our stored replies, and whether they are what the server would answer here and now.

The lists of tools, resources and prompts come from the code and the shipped manifests. A manifest of one's own and the
value of a setting change none of them, so neither turns the fast start off; but a client must not be welcomed by a
server that cannot start, so the settings are read first. As light as `protocol.fast_start`.
"""

import os
import zlib
from collections.abc import Mapping, Sequence

from rotoscope import __version__
from rotoscope.environment import check_environment
from rotoscope.errors import InvalidInput
from rotoscope.protocol.fast_start.cached_replies import CachedReplies, is_installed, read_replies

__all__ = ["FILE", "find_manifests_folder", "find_obstacle", "fingerprint_of_manifests", "read_stored_replies"]

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib takes 4 ms to load
_PACKAGE = os.path.dirname(_HERE)  # noqa: PTH120 - as above
FILE = os.path.join(_HERE, "replies.json")  # noqa: PTH118 - as above
"""Where the replies are kept; `make replies` writes it."""


def read_stored_replies(environ: Mapping[str, str], file: str = FILE) -> tuple[CachedReplies | None, str]:
    """The stored replies; or None, and why they are not used."""
    replies = read_replies(file)
    if replies is None:
        return None, f"{file} cannot be read"
    obstacle = find_obstacle(replies.made_from, environ)
    return (None, obstacle) if obstacle else (replies, "")


def find_obstacle(
    made_from: Mapping[str, str],
    environ: Mapping[str, str],
    manifests: str | None = None,
    places: Sequence[str] | None = None,
) -> str:
    """Why the server might answer otherwise than replies that were made from these versions; "" if it would not.

    Args:
        made_from: `rotoscope`, `mcp` and `mcp_types` with their versions, `manifests` with its fingerprint.
        environ: the environment; the server must accept its settings.
        manifests: the folder of the shipped manifests, if not the usual one.
        places: where packages are looked for, if not in `sys.path`.
    """
    if made_from.get("rotoscope") != __version__:
        return "they were made by another version of rotoscope"
    for name in ("mcp", "mcp_types"):
        if not is_installed(name, made_from.get(name, ""), places):
            return f"another version of {name} is installed"
    if made_from.get("manifests") != fingerprint_of_manifests(manifests or find_manifests_folder()):
        return "a shipped manifest was changed"
    try:
        check_environment(environ)
    except InvalidInput as error:
        return error.message
    return ""


def find_manifests_folder() -> str:
    """Where the shipped manifests are, as `rotoscope.models.catalog.manifest_folder` finds them."""
    packaged = _join(_PACKAGE, "manifests")
    return packaged if os.path.isdir(packaged) else _join(_PACKAGE, "..", "..", "manifests")  # noqa: PTH112 - above


def fingerprint_of_manifests(folder: str) -> str:
    """A number over the names and contents of a manifest folder; it guards against change, not against an enemy."""
    number = 0
    for part in ("", "models"):
        for name in _manifest_names(_join(folder, part)):
            with open(_join(folder, part, name), "rb") as manifest:  # noqa: PTH123 - see _HERE
                number = zlib.crc32(manifest.read(), zlib.crc32(name.encode(), number))
    return f"{number:08x}"


def _manifest_names(folder: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".toml"))  # noqa: PTH208 - see _HERE


def _join(folder: str, *names: str) -> str:
    return os.path.join(folder, *names)  # noqa: PTH118 - see _HERE
