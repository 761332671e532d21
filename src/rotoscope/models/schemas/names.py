"""What the name of an input or output says: its words, and the kind of file that it means. Pure."""

import re
from collections.abc import Iterable
from typing import Literal

__all__ = ["FileKind", "file_kind_of_address", "file_kind_of_text", "file_kind_of_words", "split_words", "word_set"]

FileKind = Literal["image", "video", "audio", "archive", "model", "other"]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def word_set(text: str) -> frozenset[str]:
    """The words of a line, as a set."""
    return frozenset(text.split())


_KIND_WORDS: tuple[tuple[FileKind, frozenset[str]], ...] = (
    ("audio", word_set("audio audios sound sounds music voice speech song vocals wav mp3 speaker")),
    ("image", word_set("frame keyframe thumbnail poster")),
    ("video", word_set("video videos clip clips movie film footage mp4 animation gif")),
    (
        "image",
        word_set(
            "image images img imgs imgurl picture pictures photo photos photograph frames face selfie portrait sketch "
            "png jpg jpeg mask masks garment pose depth canny"
        ),
    ),
)
_ENDINGS: dict[str, FileKind] = {
    **dict.fromkeys(word_set("png jpg jpeg webp bmp tif tiff avif heic"), "image"),
    **dict.fromkeys(word_set("mp4 webm mov mkv m4v avi mpeg mpg gif"), "video"),
    **dict.fromkeys(word_set("mp3 wav flac ogg m4a aac opus"), "audio"),
    **dict.fromkeys(word_set("zip tar gz tgz 7z rar"), "archive"),
    **dict.fromkeys(word_set("safetensors glb obj ply stl usdz fbx bin pt pth ckpt onnx"), "model"),
    **dict.fromkeys(word_set("json txt csv md html pdf srt vtt npz npy pkl"), "other"),
}


def split_words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case: `firstFrame_url` is first, frame, url."""
    return tuple(word.lower() for word in _WORD.findall(name[:200]))


def file_kind_of_words(words: Iterable[str]) -> FileKind | None:
    """The kind of file that some words name; None where none does."""
    known = set(words)
    return next((kind for kind, names in _KIND_WORDS if known & names), None)


def file_kind_of_text(text: str) -> FileKind | None:
    """The kind of file that a sentence speaks of first."""
    for word in split_words(text):
        kind = file_kind_of_words([word])
        if kind is not None:
            return kind
    return None


def file_kind_of_address(address: object) -> FileKind | None:
    """The kind of file at an address, by its ending; None where it shows none or is no address."""
    if not isinstance(address, str) or not address[:2000].lower().startswith(("http://", "https://", "data:")):
        return None
    if address[:5].lower() == "data:":
        kind = address[5:40].partition("/")[0].lower()
        return {"image": "image", "video": "video", "audio": "audio"}.get(kind)  # type: ignore[return-value]
    path = address[:2000].partition("?")[0].partition("#")[0].rpartition("/")[2]
    return _ENDINGS.get(path.rpartition(".")[2].lower()) if "." in path else None
