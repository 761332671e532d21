r"""What a `file://` URL or a path means on this system, before anything is looked up on the disk. Pure.

On Windows a path may name another machine (`\\server\share`), a device (`CON`, `\\.\pipe\x`) or a second stream of
a file (`a.png:x`). To look at one is to act: the machine is dialled, and is given the user's password hash. So they
are told from what they look like. RFC 8089 says how `file:` URLs are written, with drive letters in its appendix E.
"""

import re
from urllib.parse import unquote, urlsplit

from rotoscope.errors import InvalidInput, UnsafeSource

__all__ = ["check_path_name", "path_of_url"]

_DRIVE = re.compile(r"/+(?P<drive>[A-Za-z])[:|](?=[/\\]|$)")
_DRIVE_HOST = re.compile(r"[A-Za-z][:|]")
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(\..*)?", re.IGNORECASE)


def path_of_url(text: str, *, windows: bool) -> str:
    """The path of a `file://` URL.

    Raises:
        UnsafeSource: it names another machine.
        ValueError: it is no URL.
    """
    parts = urlsplit(text)
    host, path = parts.netloc, unquote(parts.path)
    if windows and _DRIVE_HOST.fullmatch(host):
        host, path = "", f"/{host}{path}"  # file://C:/a.png, as many write it
    if host.lower() not in ("", "localhost") or (windows and _is_network_path(path) and not _DRIVE.match(path)):
        # Without its host it would be judged, and read, as a file of this machine.
        raise UnsafeSource(
            "The file:// link names another machine.", hint="Write file:/// and an absolute path.", code="path_denied"
        )
    drive = _DRIVE.match(path) if windows else None
    return f"{drive['drive']}:{path[drive.end() :] or '/'}" if drive else path


def check_path_name(path: str, *, windows: bool) -> None:
    """Refuse what is no plain file of this machine by its very name.

    Raises:
        UnsafeSource: it names another machine.
        InvalidInput: it names a device or a second stream of a file.
    """
    if not windows:
        return
    if _is_network_path(path):
        raise UnsafeSource(
            "The path names another machine or a device.",
            hint="Copy the file to this machine, and give its path there.",
            code="path_denied",
        )
    names = re.split(r"[/\\]+", re.sub(r"^[A-Za-z]:", "", path))
    if any(_DEVICE.fullmatch(name) or ":" in name for name in names):
        raise InvalidInput(
            "The path names a device or a second stream of a file.",
            hint="Give the path of a plain file.",
            code="path_invalid",
        )


def _is_network_path(path: str) -> bool:
    return re.match(r"[/\\]{2}", path) is not None
