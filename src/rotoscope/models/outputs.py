"""Extraction: from a model's output to the media and the text in it. Pure."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from rotoscope.contracts.characters import one_line, replace_surrogates_in_text
from rotoscope.errors import PredictionFailed
from rotoscope.models.captions import clean_text
from rotoscope.models.manifest import Manifest
from rotoscope.providers.http.messages import Json

__all__ = [
    "MAX_OUTPUT_FILES",
    "MAX_URL_LENGTH",
    "ModelOutput",
    "OutputFile",
    "SandboxNotice",
    "extract_output",
]

MAX_URL_LENGTH = 8192
"""Characters; a longer address is not shown, because no browser opens it."""

MAX_OUTPUT_FILES = 64
"""How many files of an output are taken."""

_MAX_OUTPUT_DEPTH, _MAX_OUTPUT_VALUES = 8, 20_000  # of a search for files that are not where they should be
_MAX_SHOWN_URLS, _MAX_SHOWN_URL_LENGTH = 4, 500  # addresses in a warning, and characters of each
_USUAL_TEXT_NAMES = ("output", "response", "text", "caption", "description", "answer")

_JSON = "application/json"

_NOT_IN_URLS = re.compile("[^!-~]+")

# Providers never send this field; the sandbox does, with the method by which it made its result.
_SANDBOX_FIELD = "sandbox"
_MAX_METHOD_LENGTH, _MAX_NOTICE_LENGTH = 100, 1_000  # characters


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file of the output: its address (https, data: or artifact://; ASCII) and its content type, if given.

    `label` is its key in a dictionary of labels.
    """

    url: str
    content_type: str | None = None
    label: str | None = None

    @property
    def is_document(self) -> bool:
        """Whether it holds run lengths, and no picture or film."""
        return self.content_type == _JSON


@dataclass(frozen=True, slots=True)
class SandboxNotice:
    """How the sandbox made its result: the method, its confidence (0-1), and a notice for the user."""

    method: str = ""
    confidence: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The media and the text of an output, in its order.

    Attributes:
        scores: how sure the model is of each mask, 0 to 1; empty where it does not say so of all of them.
        warnings: what is unusual about the output, and which files were not taken.
        excess_count: how many masks there are beyond the most that are taken.
        track: a mask film, or a document of run lengths by frame.
    """

    masks: tuple[OutputFile, ...] = ()
    video: OutputFile | None = None
    track: OutputFile | None = None
    text: str | None = None
    notice: SandboxNotice | None = None
    warnings: tuple[str, ...] = ()
    excess_count: int = 0
    scores: tuple[float, ...] = ()

    @property
    def is_text_only(self) -> bool:
        """Whether there is no file in it: text at most."""
        return not self.files

    @property
    def files(self) -> tuple[OutputFile, ...]:
        """Every file in it, in order."""
        return (*self.masks, *(one for one in (self.video, self.track) if one is not None))


def extract_output(
    manifest: Manifest,
    output: Json,
    metrics: Mapping[str, Json],
    is_fetch_allowed: Callable[[str], bool] = lambda _: True,
) -> ModelOutput:
    """Find the results in an output.

    The places that the manifest names come first. If nothing is there, files anywhere else in the output are taken
    with a warning: they were paid for. Text without masks is a result too.

    Args:
        manifest: the model.
        output: what it gave.
        metrics: what the provider measured.
        is_fetch_allowed: whether a file may be fetched from an address; only such ones are taken from elsewhere.

    Raises:
        PredictionFailed: the run succeeded, but its output has nothing of what the tool promises.
    """
    outputs = manifest.outputs
    text, notice = _model_text(output, outputs.text), _sandbox_notice(output, metrics)
    if outputs.rle or outputs.mask_film:
        return _extract_track(manifest, output, ModelOutput(text=text, notice=notice), is_fetch_allowed)
    if outputs.video:
        files = _OutputFiles.find_files(output, outputs.video, "video", is_fetch_allowed)
        if files.main_files:
            return ModelOutput(video=files.main_files[0], text=text, notice=notice, warnings=files.video_warnings())
    files = (
        _OutputFiles.find_files(output, outputs.masks, "image", is_fetch_allowed) if outputs.masks else _OutputFiles()
    )
    if not files.main_files and not (outputs.masks and _is_empty_output(output, outputs.masks, text)):
        raise _no_result_error(manifest, output, text)
    return ModelOutput(
        masks=files.main_files,
        text=text,
        notice=notice,
        warnings=files.mask_warnings(),
        excess_count=files.excess_count,
        scores=_mask_scores(output, outputs.scores, files),
    )


def _no_result_error(manifest: Manifest, output: Json, text: str | None) -> PredictionFailed:
    return PredictionFailed(
        f"{manifest.id} finished without a result.",
        hint=_inspection_hint(output),
        code="provider_protocol",
        provider_message=clean_text(text or _error_text(output) or "") or None,
    )


def _extract_track(
    manifest: Manifest, output: Json, found: ModelOutput, is_fetch_allowed: Callable[[str], bool]
) -> ModelOutput:
    """The mask of a clip: run lengths where the manifest says, else a film; nothing where the model found nothing."""
    outputs = manifest.outputs
    runs = _values_at_path(output, outputs.rle) if outputs.rle else []
    if runs and runs[0] not in (None, "", [], {}) and (document := _document_of(runs[0], outputs.mask_film)):
        return replace(found, track=document)
    files = _OutputFiles.find_files(output, outputs.mask_film or "$", "video", is_fetch_allowed)
    if files.main_files:
        return replace(found, track=files.main_files[0], warnings=files.video_warnings())
    if runs and runs[0] in (None, "", []):
        return found
    raise _no_result_error(manifest, output, found.text)


def _document_of(runs: Json, film_path: str | None) -> OutputFile | None:
    """Run lengths as a file: one that the model names, or what stands in the output itself as a data URI."""
    named = _file_from_value(runs)
    if named is not None and named.url.lower().startswith(("https://", "http://", "artifact://")):
        return replace(named, content_type=_JSON)
    if isinstance(runs, dict) and film_path and film_path in runs and not {"frames", "rle"} & set(runs):
        return None  # the whole output, and what it has is a film
    content = json.dumps(runs, separators=(",", ":")).encode()
    return OutputFile(f"data:{_JSON};base64,{base64.b64encode(content).decode('ascii')}", _JSON)


@dataclass(frozen=True, slots=True)
class _OutputFiles:
    """The files of one kind in an output: those that are taken, and others that stand there.

    Attributes:
        is_elsewhere: they were not at the place that the manifest names.
    """

    main_files: tuple[OutputFile, ...] = ()
    other_files: tuple[OutputFile, ...] = ()
    is_elsewhere: bool = False

    @classmethod
    def find_files(cls, output: Json, path: str, kind: str, is_fetch_allowed: Callable[[str], bool]) -> "_OutputFiles":
        """Search the manifest's place, then the whole output."""
        found = tuple(_files_at_path(output, path))
        if found:
            return cls(found[:MAX_OUTPUT_FILES], found[MAX_OUTPUT_FILES:])
        media = [
            source for source in _iterate_files(output, _VisitBudget()) if _is_fetchable(source.url, is_fetch_allowed)
        ]
        each = tuple({source.url: source for source in media}.values())
        # Files that are surely of the kind come before those of unknown kind.
        fitting = sorted(
            (one for one in each if _media_kind_of(one) in (kind, "")), key=lambda one: _media_kind_of(one) != kind
        )
        taken = tuple(fitting[:MAX_OUTPUT_FILES])
        return cls(taken, tuple(one for one in each if one not in taken), is_elsewhere=bool(taken))

    @property
    def excess_count(self) -> int:
        """How many files of the kind there are beyond the most that are taken."""
        return 0 if self.is_elsewhere else len(self.other_files)

    def video_warnings(self) -> tuple[str, ...]:
        more = (*self.main_files[1:], *self.other_files)
        warning = f"The model gave {len(more)} more files beside the video, which are not fetched{_format_urls(more)}."
        return (*self._location_warnings(), *((warning,) if more else ()))

    def mask_warnings(self) -> tuple[str, ...]:
        warning = (
            f"{len(self.other_files)} more files that the model gave were not fetched{_format_urls(self.other_files)}."
        )
        return (*self._location_warnings(), *((warning,) if self.other_files else ()))

    def _location_warnings(self) -> tuple[str, ...]:
        return (_ELSEWHERE_WARNING,) if self.is_elsewhere else ()


_ELSEWHERE_WARNING = (
    "The model gave its result in another form than its manifest says; it was taken from where it stood."
)


def _format_urls(sources: Sequence[OutputFile]) -> str:
    urls = [one.url for one in sources if one.url.startswith("http") and len(one.url) <= _MAX_SHOWN_URL_LENGTH]
    return f": {' '.join(urls[:_MAX_SHOWN_URLS])}" if urls else ""


def _is_empty_output(output: Json, path: str, text: str | None) -> bool:
    """Whether a model found nothing: the place of its masks is empty, or there is text and no such place."""
    places = _values_at_path(output, path.removesuffix("[]"))
    if any(place not in (None, "", [], {}) for place in places) or (path == "$" and not text):
        return False
    return bool(places or text) and not any(map(_is_media_url, _iterate_texts(output, _VisitBudget())))


def _inspection_hint(output: Json) -> str:
    """What to do about an output in which nothing was found; addresses in it may be what was paid for."""
    found = re.findall(r"https?://[^\s\"'\\]+", json.dumps(output, ensure_ascii=False))
    urls = [url for url in map(_encode_url, found[:4]) if len(url) <= MAX_URL_LENGTH // 4]
    if urls:
        return f"The run was probably charged; look at what it gave: {' '.join(urls)}"
    return "It may have found nothing: change the prompt or try another model; the run may have been charged."


def _error_text(output: Json) -> str | None:
    text = output.get("error") if isinstance(output, dict) else None
    return text if isinstance(text, str) and text else None


def _files_at_path(output: Json, path: str) -> Iterator[OutputFile]:
    found = _values_at_path(output, path)
    # A list where one file is expected: some models wrap their output, and a wrapped result is a result.
    for value in found[0] if len(found) == 1 and isinstance(found[0], list) else found:
        source = _file_from_value(value)
        if source is not None:
            yield source


def _file_from_value(value: Json, label: str | None = None) -> OutputFile | None:
    """The file that a value means: an address, or an object with one."""
    if isinstance(value, str) and value:
        return OutputFile(_encode_url(value), label=label)
    if isinstance(value, dict) and isinstance(value.get("url"), str):
        content_type = value.get("content_type")
        return OutputFile(
            _encode_url(str(value["url"])), content_type if isinstance(content_type, str) else None, label
        )
    return None


@dataclass(slots=True)
class _VisitBudget:
    """How many values of an output may still be visited: its size and depth are the model's choice."""

    left: int = _MAX_OUTPUT_VALUES

    def can_visit(self, depth: int) -> bool:
        self.left -= 1
        return self.left >= 0 and depth <= _MAX_OUTPUT_DEPTH


def _iterate_files(value: Json, walk: _VisitBudget, name: str = "", depth: int = 0) -> Iterator[OutputFile]:
    """Every file in an output, in its order; the key of one may be its label."""
    if not walk.can_visit(depth):
        return
    source = _file_from_value(value, name or None)
    if source is not None and _is_media_url(source.url):
        yield source
    elif isinstance(value, list):
        for one in value:
            yield from _iterate_files(one, walk, "", depth + 1)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _iterate_files(one, walk, key if depth else "", depth + 1)


def _iterate_texts(value: Json, walk: _VisitBudget, depth: int = 0) -> Iterator[str]:
    if not walk.can_visit(depth):
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _iterate_texts(one, walk, depth + 1)


def _is_media_url(text: str) -> bool:
    return text.lower().startswith(("https://", "http://", "data:image/", "data:video/")) and " " not in text


def _is_fetchable(url: str, is_fetch_allowed: Callable[[str], bool]) -> bool:
    return url.lower().startswith("data:") or is_fetch_allowed(url)


def _media_kind_of(source: OutputFile) -> str:
    """`image`, `video` or `other`; empty where neither its type nor its name shows it."""
    content_type = source.content_type or (source.url[5:] if source.url.lower().startswith("data:") else "")
    if content_type.lower().startswith(("image/", "video/")):
        return content_type.partition("/")[0].lower()
    ending = source.url.partition("?")[0].partition("#")[0].rpartition(".")[2].lower()
    return (
        "video"
        if ending in _VIDEO_ENDINGS
        else "image"
        if ending in _IMAGE_ENDINGS
        else "other"
        if ending in _OTHER_ENDINGS
        else ""
    )


_VIDEO_ENDINGS = frozenset({"mp4", "webm", "mov", "mkv", "m4v", "avi", "mpeg", "mpg"})
_IMAGE_ENDINGS = frozenset({"png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif", "jfif"})
_OTHER_ENDINGS = frozenset({"json", "txt", "html", "htm", "zip", "npz", "npy", "wav", "mp3", "csv", "log", "pkl"})


def _encode_url(url: str) -> str:
    """An address in printable ASCII, the rest percent-encoded, so that it can be requested and stored."""
    return _NOT_IN_URLS.sub(lambda strange: quote(replace_surrogates_in_text(strange[0])), url)


def _values_at_path(value: Json, path: str) -> list[Json]:
    """The values at a path of `$`, dotted keys and `[]`."""
    found = [value]
    for step in path.removeprefix("$").strip(".").split("."):
        key = step.removesuffix("[]")
        if key:
            found = [one[key] for one in found if isinstance(one, dict) and key in one]
        if step.endswith("[]"):
            found = [item for one in found if isinstance(one, list) for item in one]
    return found


def _mask_scores(output: Json, path: str | None, files: _OutputFiles) -> tuple[float, ...]:
    """A score for each mask that is taken; none at all unless there is a sound one for each file."""
    found = [] if path is None or files.is_elsewhere else _values_at_path(output, path)
    numbers = (one for one in found if isinstance(one, int | float) and not isinstance(one, bool))
    sound = [float(one) for one in numbers if 0 <= one <= 1]
    if not sound or len(sound) != len(found) or len(sound) != len(files.main_files) + len(files.other_files):
        return ()
    return tuple(sound[: len(files.main_files)])


def _model_text(output: Json, path: str | None) -> str | None:
    """The model's text: at its place, else under a usual name."""
    if path is None:
        return None
    texts = [value for value in _values_at_path(output, path) if isinstance(value, str)]
    if not texts and isinstance(output, dict):
        named = (output.get(name) for name in _USUAL_TEXT_NAMES)
        texts = [value for value in named if isinstance(value, str) and not _is_media_url(value)]
    return texts[0] if texts else None


def _sandbox_notice(output: Json, metrics: Mapping[str, Json]) -> SandboxNotice | None:
    notice = output.get(_SANDBOX_FIELD) if isinstance(output, dict) else None
    notice = notice or metrics.get(_SANDBOX_FIELD)
    if not isinstance(notice, dict):
        return None
    confidence = notice.get("confidence")
    sure = isinstance(confidence, int | float) and not isinstance(confidence, bool) and 0 <= confidence <= 1
    return SandboxNotice(
        method=one_line(str(notice.get("method") or ""), _MAX_METHOD_LENGTH),
        confidence=float(confidence) if sure and isinstance(confidence, int | float) else None,
        text=one_line(str(notice.get("notice") or ""), _MAX_NOTICE_LENGTH),
    )
