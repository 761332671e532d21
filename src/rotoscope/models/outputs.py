"""The harvest: from a model's output to the media and words in it. Pure."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from rotoscope.contracts.characters import one_line, whole_text
from rotoscope.errors import PredictionFailed
from rotoscope.models.captions import clean_text
from rotoscope.models.manifest import Manifest
from rotoscope.providers.http.messages import Json

__all__ = ["LONGEST_ADDRESS", "MOST_FILES", "Harvest", "Notice", "Source", "harvest"]

LONGEST_ADDRESS = 8192
"""Characters; a longer address is not told, because nothing that a person has would open it."""

MOST_FILES = 64
"""How many files of an output are taken."""

_DEEPEST, _MOST_VALUES = 8, 20_000  # how far an output is looked through for files that are not where they should be
_TOLD, _TOLD_ADDRESS = 4, 500  # addresses in a warning, and characters of each
_USUAL_TEXTS = ("output", "response", "text", "caption", "description", "answer")

_NOT_IN_ADDRESSES = re.compile("[^!-~]+")

# Providers never send this field; the sandbox does, to say how it got its result.
_SANDBOX_FIELD = "sandbox"
_WORD, _SENTENCES = 100, 1_000  # characters


@dataclass(frozen=True, slots=True)
class Source:
    """A file of the output: where it is (https, data: or artifact://; ASCII) and what the provider says of it.

    `label` is the name that it stands under in a dictionary of labels.
    """

    url: str
    content_type: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """How the sandbox got its result: its method, how sure it is (0-1), and what the user should know."""

    method: str = ""
    confidence: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Harvest:
    """What an output holds, in the order of the output. Without masks and video it is what the model said.

    Attributes:
        warnings: what is odd about the output, or was left there.
        left_out: how many masks are beyond the most that are taken.
    """

    masks: tuple[Source, ...] = ()
    video: Source | None = None
    text: str | None = None
    notice: Notice | None = None
    warnings: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def is_words_alone(self) -> bool:
        """Whether there is no file in it: the model only said something, or nothing."""
        return not self.masks and self.video is None


def harvest(
    manifest: Manifest, output: Json, metrics: Mapping[str, Json], allows: Callable[[str], bool] = lambda _: True
) -> Harvest:
    """Find the results in an output.

    Where the manifest says that they are is looked first. If nothing is there, files that stand anywhere else in the
    output are taken with a warning: they were paid for. Words without masks are a result too.

    Args:
        manifest: the model.
        output: what it gave.
        metrics: what the provider measured.
        allows: whether a file may be fetched from an address; only such ones are taken from elsewhere.

    Raises:
        PredictionFailed: the model said that it succeeded, but there is nothing of what it should give.
    """
    outputs = manifest.outputs
    text, notice = _text(output, outputs.text), _notice(output, metrics)
    if outputs.video:
        files = _Files.of(output, outputs.video, "video", allows)
        if files.taken:
            return Harvest(video=files.taken[0], text=text, notice=notice, warnings=files.warnings_of_video())
    files = _Files.of(output, outputs.masks, "image", allows) if outputs.masks else _Files()
    if not files.taken and not (outputs.masks and _is_empty_answer(output, outputs.masks, text)):
        raise PredictionFailed(
            f"{manifest.id} finished without a result.",
            hint=_look_at(output),
            code="provider_protocol",
            said=clean_text(text or _error_words(output) or "") or None,
        )
    return Harvest(
        masks=files.taken, text=text, notice=notice, warnings=files.warnings_of_masks(), left_out=files.left_out
    )


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of one kind in an output: those that are taken, and others that stand there.

    Attributes:
        elsewhere: they stand where the manifest does not say.
    """

    taken: tuple[Source, ...] = ()
    others: tuple[Source, ...] = ()
    elsewhere: bool = False

    @classmethod
    def of(cls, output: Json, path: str, kind: str, allows: Callable[[str], bool]) -> "_Files":
        """Look where they should be, then everywhere."""
        found = tuple(_sources(output, path))
        if found:
            return cls(found[:MOST_FILES], found[MOST_FILES:])
        media = [source for source in _anywhere(output, _Walk()) if _is_ours(source.url, allows)]
        each = tuple({source.url: source for source in media}.values())
        # What says that it is of the kind goes before what does not say what it is.
        fitting = sorted((one for one in each if _kind(one) in (kind, "")), key=lambda one: _kind(one) != kind)
        taken = tuple(fitting[:MOST_FILES])
        return cls(taken, tuple(one for one in each if one not in taken), elsewhere=bool(taken))

    @property
    def left_out(self) -> int:
        """How many files of the kind are beyond the most that are taken."""
        return 0 if self.elsewhere else len(self.others)

    def warnings_of_video(self) -> tuple[str, ...]:
        more = (*self.taken[1:], *self.others)
        told = f"The model gave {len(more)} more files beside the video, which are not fetched{_at(more)}."
        return (*self._where(), *((told,) if more else ()))

    def warnings_of_masks(self) -> tuple[str, ...]:
        told = f"{len(self.others)} more files that the model gave were not fetched{_at(self.others)}."
        return (*self._where(), *((told,) if self.others else ()))

    def _where(self) -> tuple[str, ...]:
        return (_ELSEWHERE,) if self.elsewhere else ()


_ELSEWHERE = "The model gave its result in another form than its manifest says; it was taken from where it stood."


def _at(sources: Sequence[Source]) -> str:
    urls = [one.url for one in sources if one.url.startswith("http") and len(one.url) <= _TOLD_ADDRESS]
    return f": {' '.join(urls[:_TOLD])}" if urls else ""


def _is_empty_answer(output: Json, path: str, text: str | None) -> bool:
    """Whether a model says that there is no mask: its place is empty, or there are words and no such place."""
    places = _find(output, path.removesuffix("[]"))
    if any(place not in (None, "", [], {}) for place in places) or (path == "$" and not text):
        return False
    return bool(places or text) and not any(map(_is_address, _all_texts(output, _Walk())))


def _look_at(output: Json) -> str:
    """What to do about an output in which nothing was found; addresses in it may be what was paid for."""
    found = re.findall(r"https?://[^\s\"'\\]+", json.dumps(output, ensure_ascii=False))
    urls = [url for url in map(_address, found[:4]) if len(url) <= LONGEST_ADDRESS // 4]
    if urls:
        return f"The run was probably charged; look at what it gave: {' '.join(urls)}"
    return "It may have found nothing: change the prompt or try another model; the run may have been charged."


def _error_words(output: Json) -> str | None:
    said = output.get("error") if isinstance(output, dict) else None
    return said if isinstance(said, str) and said else None


def _sources(output: Json, path: str) -> Iterator[Source]:
    found = _find(output, path)
    # A list where one file is expected: some models wrap their output, and a wrapped result is a result.
    for value in found[0] if len(found) == 1 and isinstance(found[0], list) else found:
        source = _source(value)
        if source is not None:
            yield source


def _source(value: Json, label: str | None = None) -> Source | None:
    """The file that a value stands for: an address, or an object with one."""
    if isinstance(value, str) and value:
        return Source(_address(value), label=label)
    if isinstance(value, dict) and isinstance(value.get("url"), str):
        content_type = value.get("content_type")
        return Source(_address(str(value["url"])), content_type if isinstance(content_type, str) else None, label)
    return None


@dataclass(slots=True)
class _Walk:
    """How much of an output may still be looked at: it is as large and as deep as its maker likes."""

    left: int = _MOST_VALUES

    def enters(self, depth: int) -> bool:
        self.left -= 1
        return self.left >= 0 and depth <= _DEEPEST


def _anywhere(value: Json, walk: _Walk, name: str = "", depth: int = 0) -> Iterator[Source]:
    """Every file in an output, in its order. The name under which one stands may be its label."""
    if not walk.enters(depth):
        return
    source = _source(value, name or None)
    if source is not None and _is_address(source.url):
        yield source
    elif isinstance(value, list):
        for one in value:
            yield from _anywhere(one, walk, "", depth + 1)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _anywhere(one, walk, key if depth else "", depth + 1)


def _all_texts(value: Json, walk: _Walk, depth: int = 0) -> Iterator[str]:
    if not walk.enters(depth):
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _all_texts(one, walk, depth + 1)


def _is_address(text: str) -> bool:
    return text.lower().startswith(("https://", "http://", "data:image/", "data:video/")) and " " not in text


def _is_ours(url: str, allows: Callable[[str], bool]) -> bool:
    return url.lower().startswith("data:") or allows(url)


def _kind(source: Source) -> str:
    """`image`, `video`, or nothing where neither its type nor its name says it."""
    said = source.content_type or (source.url[5:] if source.url.lower().startswith("data:") else "")
    if said.lower().startswith(("image/", "video/")):
        return said.partition("/")[0].lower()
    ending = source.url.partition("?")[0].partition("#")[0].rpartition(".")[2].lower()
    return "video" if ending in _VIDEOS else "image" if ending in _IMAGES else "other" if ending in _OTHERS else ""


_VIDEOS = frozenset({"mp4", "webm", "mov", "mkv", "m4v", "avi", "mpeg", "mpg"})
_IMAGES = frozenset({"png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif", "jfif"})
_OTHERS = frozenset({"json", "txt", "html", "htm", "zip", "npz", "npy", "wav", "mp3", "csv", "log", "pkl"})


def _address(said: str) -> str:
    """As it can be dialled, kept and told: percent-encoded where a provider wrote more than printable ASCII."""
    return _NOT_IN_ADDRESSES.sub(lambda strange: quote(whole_text(strange[0])), said)


def _find(value: Json, path: str) -> list[Json]:
    """The values at a path of `$`, dotted keys and `[]`."""
    found = [value]
    for step in path.removeprefix("$").strip(".").split("."):
        key = step.removesuffix("[]")
        if key:
            found = [one[key] for one in found if isinstance(one, dict) and key in one]
        if step.endswith("[]"):
            found = [item for one in found if isinstance(one, list) for item in one]
    return found


def _text(output: Json, path: str | None) -> str | None:
    """The model's words: where they should be, else under a usual name."""
    if path is None:
        return None
    texts = [value for value in _find(output, path) if isinstance(value, str)]
    if not texts and isinstance(output, dict):
        named = (output.get(name) for name in _USUAL_TEXTS)
        texts = [value for value in named if isinstance(value, str) and not _is_address(value)]
    return texts[0] if texts else None


def _notice(output: Json, metrics: Mapping[str, Json]) -> Notice | None:
    said = output.get(_SANDBOX_FIELD) if isinstance(output, dict) else None
    said = said or metrics.get(_SANDBOX_FIELD)
    if not isinstance(said, dict):
        return None
    confidence = said.get("confidence")
    sure = isinstance(confidence, int | float) and not isinstance(confidence, bool) and 0 <= confidence <= 1
    return Notice(
        method=one_line(str(said.get("method") or ""), _WORD),
        confidence=float(confidence) if sure and isinstance(confidence, int | float) else None,
        text=one_line(str(said.get("notice") or ""), _SENTENCES),
    )
