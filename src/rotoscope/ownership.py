"""Whose a file or folder is: what decides where keys go, and what keeps prompts and pictures, is its owner's alone."""

import os
import stat
from pathlib import Path

__all__ = ["find_fault", "make_private"]

_ROOT = 0
_PRIVATE = 0o700


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for its owner alone, whatever the umask says.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    make_private(folder.parent)
    try:
        folder.mkdir(mode=_PRIVATE)
    except FileExistsError:  # by another process, meanwhile
        if not folder.is_dir():
            raise
    else:
        folder.chmod(_PRIVATE)


def find_fault(path: Path, uid: int | None = None, *, group_may_write: bool = False) -> str | None:
    """Why the content of a file or folder cannot be trusted, or None.

    Args:
        path: exists. A link is judged by its own owner, and by where it leads.
        uid: who must own it, or the administrator; by default whom this process runs for.
        group_may_write: whether its group may write to it.

    Returns:
        Words that follow the name, such as "belongs to another user". None also on systems without owners.

    Raises:
        OSError: it cannot be looked at.
    """
    if uid is None:
        uid = os.geteuid() if hasattr(os, "geteuid") else None
    if uid is None:
        return None
    facts = path.stat()
    if not {facts.st_uid, path.lstat().st_uid} <= {uid, _ROOT}:
        return "belongs to another user"
    writers = stat.S_IWOTH if group_may_write else stat.S_IWOTH | stat.S_IWGRP
    return "can be written by other users" if facts.st_mode & writers else None
