"""The stored replies, and whether they may be used: only while nothing that they were made from has changed.

Everything here stands between a client and its first reply: the standard library alone, and little of that. A
difference is never an error: without stored replies the server itself answers, only later.
"""

import json
import os
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence

from rotoscope import __version__

__all__ = ["FILE", "CachedReplies", "find_manifests_folder", "fingerprint_of_manifests", "is_current", "read_replies"]

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib takes 4 ms
_PACKAGE = os.path.dirname(os.path.dirname(_HERE))  # noqa: PTH120 - as above
FILE = os.path.join(_HERE, "replies.json")  # noqa: PTH118 - as above
"""Where the replies are kept; `make replies` writes it."""

_SETTING_PREFIX = "ROTOSCOPE_"
_ANY_VALUE_SETTINGS = ("ROTOSCOPE_STORE_URL",)
_PATH_SETTINGS = ("ROTOSCOPE_HOME", "ROTOSCOPE_ROOTS")
_NUMBER_SETTINGS = (
    "ROTOSCOPE_ASK_ABOVE_USD",
    "ROTOSCOPE_INLINE_SECONDS",
    "ROTOSCOPE_MAX_USD_PER_CALL",
    "ROTOSCOPE_MAX_USD_PER_DAY",
    "ROTOSCOPE_RESEND_BELOW_USD",
    "ROTOSCOPE_RETENTION_DAYS",
)
_CHOICE_SETTINGS = {
    "ROTOSCOPE_SANDBOX": ("auto", "always", "never"),
    "ROTOSCOPE_UNPRICED": ("ask", "run", "allow", "refuse"),
}
_MAX_DIGITS = 6  # digits; nobody waits longer
_HOME_SETTINGS = ("ROTOSCOPE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA")


class CachedReplies:
    """What the server answers before anything was asked of it.

    Attributes:
        latest: the revision that `initialize` settles on when the asked one is unknown.
        handshake: by revision of the handshake era, the names of the parts of each method's result.
        modern: the same for revisions whose requests carry an envelope.
    """

    __slots__ = ("_parts", "handshake", "latest", "modern")

    def __init__(
        self,
        latest: str,
        handshake: Mapping[str, Mapping[str, Sequence[str]]],
        modern: Mapping[str, Mapping[str, Sequence[str]]],
        parts: Mapping[str, Mapping[str, object]],
    ) -> None:
        self.latest = latest
        self.handshake = handshake
        self.modern = modern
        self._parts = parts

    def reply_line(self, parts: Sequence[str], request_id: int | str) -> bytes:
        """The reply to a request, as one line."""
        whole = {key: value for name in parts for key, value in self._parts[name].items()}
        result = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
        return f'{{"jsonrpc":"2.0","id":{json.dumps(request_id)},"result":{result}}}\n'.encode()


def read_replies(environ: Mapping[str, str], file: str = FILE) -> CachedReplies | None:
    """The stored replies, or None when they may differ from what the server would answer."""
    try:
        with open(file, "rb") as stored:  # noqa: PTH123 - see _PACKAGE
            kept = json.loads(stored.read())
        if not is_current(kept["made_from"], environ):
            return None
        return CachedReplies(kept["latest"], kept["handshake"], kept["modern"], kept["parts"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def is_current(
    made_from: Mapping[str, str],
    environ: Mapping[str, str],
    manifests: str | None = None,
    path: Sequence[str] | None = None,
) -> bool:
    """Whether replies that were made from these versions and manifests hold here and now.

    Args:
        made_from: `rotoscope`, `mcp` and `mcp_types` with their versions, `manifests` with its fingerprint.
        environ: the environment; its settings must be the server's to accept, its home without manifests.
        manifests: the folder of the shipped manifests, if not the usual one.
        path: where packages are looked for, if not in `sys.path`.
    """
    places = sys.path if path is None else path
    return (
        made_from["rotoscope"] == __version__
        and all(_is_installed(name, made_from[name], places) for name in ("mcp", "mcp_types"))
        and _is_environment_safe(environ)
        and not _has_own_manifests(environ)
        and made_from["manifests"] == fingerprint_of_manifests(manifests or find_manifests_folder())
    )


def find_manifests_folder() -> str:
    """Where the shipped manifests are, as `rotoscope.models.catalog.manifest_folder` finds them."""
    packaged = _join_path(_PACKAGE, "manifests")
    return packaged if os.path.isdir(packaged) else _join_path(_PACKAGE, "..", "..", "manifests")  # noqa: PTH112 - above


def fingerprint_of_manifests(folder: str) -> str:
    """A number over the names and contents of a manifest folder; it guards against change, not against an enemy."""
    number = 0
    for part in ("", "models"):
        for name in _manifest_names(_join_path(folder, part)):
            with open(_join_path(folder, part, name), "rb") as manifest:  # noqa: PTH123 - see _PACKAGE
                number = zlib.crc32(manifest.read(), zlib.crc32(name.encode(), number))
    return f"{number:08x}"


def _is_installed(package: str, version: str, places: Iterable[str]) -> bool:
    """Whether what would be imported is of this version. `importlib.metadata` takes 20 ms to say so."""
    for place in places:
        if os.path.isfile(_join_path(place, package, "__init__.py")):  # noqa: PTH113 - see _PACKAGE
            return os.path.isdir(_join_path(place, f"{package}-{version}.dist-info"))  # noqa: PTH112 - see _PACKAGE
    return False


def _is_environment_safe(environ: Mapping[str, str]) -> bool:
    """Whether the server is sure to accept its settings, and none is unknown here and may change what it lists."""
    if any(environ.get(name, "").strip().startswith("$") for name in _HOME_SETTINGS):
        return False
    return all(_is_safe_setting(name, environ[name].strip()) for name in environ if name.startswith(_SETTING_PREFIX))


def _is_safe_setting(name: str, value: str) -> bool:
    digits = value.replace(".", "", 1)
    return (
        not value
        or name in _ANY_VALUE_SETTINGS
        or (name in _NUMBER_SETTINGS and digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS)
        or value in _CHOICE_SETTINGS.get(name, ())
        or (name in _PATH_SETTINGS and "~" not in value.replace("~/", "/"))
        or (name == "ROTOSCOPE_DATABASE_URL" and value.startswith("sqlite:///") and "?" not in value)
        or (name == "ROTOSCOPE_SANDBOX" and _is_plain_address(value))
    )


def _is_plain_address(value: str) -> bool:
    scheme, _, rest = value.partition("://")
    host = rest.partition("/")[0].replace(".", "").replace(":", "").replace("-", "")
    plain = value.isascii() and value.isprintable() and " " not in value
    return plain and scheme in ("http", "https") and host.isalnum()


def _has_own_manifests(environ: Mapping[str, str]) -> bool:
    home, *shared = (environ.get(name, "").strip() for name in _HOME_SETTINGS)
    if not home:
        home = _join_path(next(filter(None, shared), "~/.local/share"), "rotoscope")
    try:
        return bool(_manifest_names(_join_path(os.path.expanduser(home), "models")))  # noqa: PTH111 - see _PACKAGE
    except FileNotFoundError:
        return False


def _manifest_names(folder: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".toml"))  # noqa: PTH208 - see _PACKAGE


def _join_path(folder: str, *names: str) -> str:
    return os.path.join(folder, *names)  # noqa: PTH118 - see _PACKAGE
