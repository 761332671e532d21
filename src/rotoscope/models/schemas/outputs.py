"""Where a model's results are in its output, and of which kind they are. Pure.

A schema often says only "a file": then the key, the example's ending and what the model is for decide, in this order.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from rotoscope.models.schemas.documents import ModelDocument
from rotoscope.models.schemas.names import FileKind, file_kind_of_address, file_kind_of_words, split_words
from rotoscope.models.schemas.resolving import Resolver
from rotoscope.providers.http.messages import Json

__all__ = ["OutputPlace", "find_outputs"]

_MAX_LEVELS, _MAX_PLACES = 4, 60
_KEY = re.compile(r"[^.\[\]$]{1,100}")  # what a path of a manifest may hold
_ARCHIVE_SWITCHES = frozenset({"return_zip", "zip_output", "output_zip", "as_zip"})
_FILE_RECORDS = frozenset({"file", "image", "video", "videofile", "imagefile", "audio", "audiofile"})


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """A place in an output.

    Attributes:
        path: as a manifest writes it.
        kind: the kind of its files, or text; None: not known.
        why: what the kind was taken from: schema, key, example or purpose.
    """

    path: str
    kind: FileKind | str | None
    why: str = ""
    key: str = ""

    @property
    def is_text(self) -> bool:
        """Whether it holds text, and no file."""
        return self.kind == "text"


def find_outputs(document: ModelDocument) -> tuple[OutputPlace, ...]:
    """Every place of an output that holds a file or text, in the order of the schema; the schema's kinds first."""
    found = list(_places(document.resolver, document.output, "$", "", _MAX_LEVELS))[:_MAX_PLACES]
    if not any(not one.is_text for one in found):
        # A schema that says nothing, or only "text": the example may show files.
        found = list(_places_in_example(document.example_output, "$", "", _MAX_LEVELS))[:_MAX_PLACES] or found
    return tuple(_settle_kind(one, document) for one in found)


def _places(resolver: Resolver, schema: Mapping[str, Json], path: str, key: str, levels: int) -> Iterator[OutputPlace]:
    if levels <= 0:
        return
    kind = schema.get("type")
    properties = resolver.properties(schema)
    if kind == "array":
        yield from _places(resolver, resolver.resolve(schema.get("items")), f"{path}[]", key, levels - 1)
    elif isinstance(properties.get("url"), dict):
        title = str(schema.get("title") or "").lower().replace(" ", "")
        shown = file_kind_of_words(split_words(title)) if title in _FILE_RECORDS else None
        yield OutputPlace(path, shown, "schema" if shown else "", key)
    elif properties:
        for name, one in properties.items():
            if _KEY.fullmatch(name) and path != "$[]":  # no path of a manifest leads into the records of a list alone
                inner = name if path == "$" else f"{path}.{name}"
                yield from _places(resolver, resolver.resolve(one), inner, name, levels - 1)
    elif kind == "string":
        is_file = schema.get("format") == "uri" or split_words(key)[-1:] in (("url",), ("urls",), ("uri",))
        yield OutputPlace(path, None if is_file else "text", "" if is_file else "schema", key)


def _places_in_example(value: Json, path: str, key: str, levels: int) -> Iterator[OutputPlace]:
    if levels <= 0:
        return
    if isinstance(value, list) and value:
        yield from _places_in_example(value[0], f"{path}[]", key, levels - 1)
    elif isinstance(value, dict):
        for name, one in value.items():
            if _KEY.fullmatch(name) and path != "$[]":
                yield from _places_in_example(one, name if path == "$" else f"{path}.{name}", name, levels - 1)
    elif isinstance(value, str):
        is_file = value[:8].lower().startswith(("https://", "http://"))
        yield OutputPlace(path, file_kind_of_address(value) if is_file else "text", "example", key)


def _settle_kind(place: OutputPlace, document: ModelDocument) -> OutputPlace:
    """The place with its kind: of several signs, the first that says something."""
    if place.is_text:
        return place
    shown = _kind_in_example(document.example_output, place.path)
    if shown == "archive" and any(one.name in _ARCHIVE_SWITCHES for one in document.fields):
        shown = None  # it can be asked for the files themselves
    if shown is not None:
        return replace(place, kind=shown, why="example")
    if place.kind is not None:
        return place
    by_key = _kind_of_key(place.key)
    if by_key is not None:
        return replace(place, kind=by_key, why="key")
    return replace(place, kind=_kind_by_purpose(document), why="purpose")


def _kind_of_key(key: str) -> FileKind | None:
    words = split_words(key)
    if {"zip", "archive"} & set(words):
        return "archive"
    if {"glb", "mesh", "lora", "weights", "config"} & set(words):
        return "model"
    return file_kind_of_words(words)


def _kind_in_example(output: Json, path: str) -> FileKind | None:
    values = [output]
    for step in path.removeprefix("$").strip(".").split("."):
        key = step.removesuffix("[]")
        if key:
            values = [one[key] for one in values if isinstance(one, dict) and key in one]
        if step.endswith("[]"):
            values = [item for one in values for item in (one if isinstance(one, list) else [one])]
    # Some schemas call a list one file, or one file a list, and the example shows it.
    values = [item for one in values[:50] for item in (one if isinstance(one, list) else [one])]
    addresses = [one.get("url") if isinstance(one, dict) else one for one in values[:50]]
    kinds = [kind for one in addresses if (kind := file_kind_of_address(one)) is not None]
    return kinds[0] if kinds else None


_CATEGORY_ENDS: Mapping[str, FileKind] = {
    "video": "video", "image": "image", "audio": "audio", "speech": "audio", "music": "audio", "3d": "model"
}  # fmt: skip


def _kind_by_purpose(document: ModelDocument) -> FileKind | None:
    end = document.category.rpartition("-")[2].lower()
    if end in _CATEGORY_ENDS:
        return _CATEGORY_ENDS[end]
    words = split_words(document.name.endpoint)
    return file_kind_of_words(words) or file_kind_of_words(split_words(document.description))
