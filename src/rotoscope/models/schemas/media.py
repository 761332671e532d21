"""Which inputs of a model are files, and of which kind. Pure.

Replicate marks most of its files with a format, fal marks none: there the name says it, then the ending of an example,
then the description.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rotoscope.models.schemas.documents import ModelDocument
from rotoscope.models.schemas.fields import SchemaField
from rotoscope.models.schemas.names import (
    FileKind,
    file_kind_of_address,
    file_kind_of_text,
    file_kind_of_words,
    split_words,
    word_set,
)

__all__ = ["MediaField", "MediaKind", "find_media", "is_media_default", "plain_name"]

MediaKind = Literal["image", "video", "audio", "visual"]

_ADDRESS_WORDS = word_set("url urls uri uris link")
_FILE_FORMATS = frozenset({"uri", "url", "binary", "data-url", "uri-reference"})
_MASK_WORDS = word_set("mask masks matte trimap")
_NO_MEDIA_WORDS = word_set(
    "lora loras weights weight webhook callback model checkpoint embedding hf huggingface repo config yaml prompt "
    "prompts name id format type size width height count number ratio quality strength scale seed mode fps color"
)
_WORDS_OF_TEXT = ("prompt", "describe", "text ", "color", "colour", "name of", "format")
_BESIDE_WORDS = word_set(
    "input init source src ref refs reference references start end first last tail target driving driven control "
    "original base main subject character path file files list conditioning style guide guidance for the a of to in "
    "starting ending swap background foreground garm human person model"
)


@dataclass(frozen=True, slots=True)
class MediaField:
    """An input that is a file.

    Attributes:
        is_mask: it selects a part of another file.
        why: what its kind was taken from: name, example, description or purpose.
    """

    field: SchemaField
    kind: MediaKind
    is_mask: bool
    why: str


def find_media(document: ModelDocument) -> Mapping[str, MediaField]:
    """The inputs that are files, by name."""
    found = [one for field in document.fields if (one := _read_media(field, document)) is not None]
    has_video = any(one.kind == "video" for one in found)
    # The name alone does not say whether a mask of a video may be a picture; the example or the description may.
    settled = [
        replace(one, kind="visual") if one.is_mask and has_video and one.why == "purpose" else one for one in found
    ]
    return {one.field.name: one for one in settled}


def plain_name(name: str) -> str:
    """A name without what says only that it is an address or a file: `first_frame_url` is first_frame."""
    words = [word for word in split_words(name) if word not in _ADDRESS_WORDS]
    while len(words) > 1 and words[-1] in ("path", "file", "files", "list"):
        words.pop()
    return "_".join(words)


def is_media_default(value: object) -> bool:
    """Whether a default is a file of the model's author, or a list of such."""
    listed = value if isinstance(value, list) else [value]
    return any(isinstance(one, str) and one[:8].lower().startswith(("http://", "https://", "data:")) for one in listed)


def _read_media(field: SchemaField, document: ModelDocument) -> MediaField | None:
    if field.type != "string" or field.choices or field.is_secret or not _is_file(field):
        return None
    words = set(split_words(field.name))
    is_mask = bool(words & _MASK_WORDS)
    kind, why = _kind_of(field, document, words)
    return None if kind is None else MediaField(field, kind, is_mask, why)


def _is_file(field: SchemaField) -> bool:
    words = split_words(field.name)
    if set(words) & _NO_MEDIA_WORDS - {"model"} or ("model" in words and not {"image", "video"} & set(words)):
        return False
    if field.format in _FILE_FORMATS or set(words) & _ADDRESS_WORDS:
        return True
    # Some authors declare a file as plain text: its name must be that of a file, and nothing may speak of words.
    known = file_kind_of_words(words) is not None
    rest = [word for word in words if file_kind_of_words([word]) is None and not word.isdigit()]
    said = f"{field.title} {field.description}".lower()
    speaks_of_words = any(one in said for one in _WORDS_OF_TEXT)
    has_other_default = isinstance(field.default, str) and field.default != "" and not is_media_default(field.default)
    return known and set(rest) <= _BESIDE_WORDS and not speaks_of_words and not has_other_default


def _kind_of(field: SchemaField, document: ModelDocument, words: set[str]) -> tuple[MediaKind | None, str]:
    shown = _kind_in_examples(field, document)
    if shown in ("archive", "model", "other"):
        return None, ""
    if words & _MASK_WORDS:
        return _kind_of_mask(field, words, shown)
    named = file_kind_of_words(words)
    if named is not None:
        return _as_media(named), "name"
    if shown is not None:
        return _as_media(shown), "example"
    said = file_kind_of_text(f"{field.title} {field.description}")
    return (None, "") if said is None else (_as_media(said), "description")


def _as_media(kind: FileKind) -> MediaKind | None:
    return kind if kind in ("image", "video", "audio") else None


def _kind_of_mask(field: SchemaField, words: set[str], shown: str | None) -> tuple[MediaKind, str]:
    if "video" in words:
        return "video", "name"
    if words & {"image", "img", "frame", "picture"}:
        return "image", "name"
    said = set(split_words(field.description))
    if "video" in said and said & {"image", "picture", "frame"}:
        return "visual", "description"
    if shown == "video" or "video" in said:
        # A mask of a video that a page shows as a video: whether it may be a picture too is not said.
        return "video", "example" if shown else "description"
    return "image", "example" if shown == "image" else "purpose"


def _kind_in_examples(field: SchemaField, document: ModelDocument) -> FileKind | None:
    given = document.example_input.get(field.name)
    shown = [*field.examples, given, field.default]
    flat = [item for one in shown for item in (one if isinstance(one, list) else [one])]
    return next((kind for one in flat if (kind := file_kind_of_address(one)) is not None), None)
