"""The keys of one stored file in an object store, and what a listing of them says. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from rotoscope.media.sniff import content_type_of_name
from rotoscope.media.store_client import StoredObject
from rotoscope.media.stored_files import is_content_hash

__all__ = ["ObjectFolder", "file_key", "folder_key", "hash_in_key", "mark_key", "object_attributes", "removal_key"]

_REMOVING = "removing-"
_KEY_PARTS = 3
_CACHE_CONTROL = "private, max-age=31536000, immutable"  # the content of a hash never changes
_SHOWN_DIGITS = 16  # of the hash in the name under which a browser saves the file
_CLOCK_STEP = 1.0  # seconds; stores round down when an object was written


def folder_key(sha256: str) -> str:
    """What the keys of a file begin with. Files are spread by the first two digits, so that a part can be listed."""
    return f"{sha256[:2]}/{sha256}"


def file_key(sha256: str, extension: str) -> str:
    """The key of the content; the extension has its dot."""
    return f"{folder_key(sha256)}/{sha256[:_SHOWN_DIGITS]}{extension}"


def mark_key(sha256: str, mark: str) -> str:
    """The key of an empty object beside the content."""
    return f"{folder_key(sha256)}/{mark}"


def removal_key(sha256: str, who: str) -> str:
    """The key of the mark that somebody is about to remove the file; each has one of its own."""
    return mark_key(sha256, f"{_REMOVING}{who}")


def hash_in_key(key: str) -> str | None:
    """The hash of the file that a key belongs to; None for a key of another kind."""
    parts = key.split("/")
    return parts[1] if len(parts) == _KEY_PARTS and is_content_hash(parts[1]) else None


def object_attributes(sha256: str, extension: str) -> dict[str, str]:
    """What the store says of a file to whoever opens its address: its type, its name, and that it never changes."""
    name = f"{sha256[:_SHOWN_DIGITS]}{extension}"
    content_type = content_type_of_name(name)
    how = "inline" if content_type.partition("/")[0] in ("image", "video", "audio") else "attachment"
    return {
        "Content-Type": content_type,
        "Content-Disposition": f'{how}; filename="{name}"',
        "Cache-Control": _CACHE_CONTROL,
    }


@dataclass(frozen=True, slots=True)
class ObjectFolder:
    """All objects of one stored file: its content, and empty objects as marks.

    Attributes:
        sha256: of the file.
        objects: as the store lists them.
    """

    sha256: str
    objects: Sequence[StoredObject]

    @property
    def files(self) -> Sequence[StoredObject]:
        """The content; more than one where it was put with several content types."""
        begin = file_key(self.sha256, ".")
        return sorted((one for one in self.objects if one.key.startswith(begin)), key=lambda one: one.key)

    @property
    def removals(self) -> Sequence[StoredObject]:
        """The marks of those that are about to remove the file."""
        begin = removal_key(self.sha256, "")
        return [one for one in self.objects if one.key.startswith(begin)]

    def has_mark(self, mark: str) -> bool:
        """Whether an empty object of that name is there."""
        return any(one.key == mark_key(self.sha256, mark) for one in self.objects)

    def is_older_than(self, before: float) -> bool:
        """Whether the file was put and renewed before a moment (Unix seconds); not when there is nothing.

        Other marks have an age only where they are left alone; that of a removal counts last, for who wrote it asks.
        """
        renewed, removals = mark_key(self.sha256, "renewed"), self.removals
        dated = [*self.files, *(one for one in self.objects if one.key == renewed)]
        others = [one for one in self.objects if one not in removals]
        written = [one.written_at for one in dated or others or removals]
        return bool(written) and max(written) + _CLOCK_STEP <= before
