"""The harvest: from a model's output to the media and words in it. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from rotoscope.contracts.characters import one_line, whole_text
from rotoscope.errors import PredictionFailed
from rotoscope.models.manifest import Manifest
from rotoscope.wire.messages import Json

__all__ = ["LONGEST_ADDRESS", "Harvest", "Notice", "Source", "harvest"]

LONGEST_ADDRESS = 8192
"""Characters; a longer address is not told, because nothing that a person has would open it."""

_NOT_IN_ADDRESSES = re.compile("[^!-~]+")

# Providers never send this field; the sandbox does, to say how it got its result.
_SANDBOX_FIELD = "sandbox"
_WORD, _SENTENCES = 100, 1_000  # characters


@dataclass(frozen=True, slots=True)
class Source:
    """A file of the output: where it is (https, data: or artifact://; ASCII) and what the provider says of it."""

    url: str
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """How the sandbox got its result: its method, how sure it is (0-1), and what the user should know."""

    method: str = ""
    confidence: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Harvest:
    """What an output holds, in the order of the output."""

    masks: tuple[Source, ...] = ()
    video: Source | None = None
    text: str | None = None
    notice: Notice | None = None


def harvest(manifest: Manifest, output: Json, metrics: Mapping[str, Json]) -> Harvest:
    """Find the results in an output.

    Raises:
        PredictionFailed: the model said that it succeeded, but there is nothing of what it should give.
    """
    outputs = manifest.outputs
    masks = tuple(_sources(output, outputs.masks)) if outputs.masks else ()
    videos = tuple(_sources(output, outputs.video)) if outputs.video else ()
    if not masks and not videos:
        raise PredictionFailed(
            f"{manifest.id} finished without a result.",
            hint=_look_at(output),
            code="provider_protocol",
            said=_text(output, outputs.text),
        )
    return Harvest(
        masks=masks,
        video=videos[0] if videos else None,
        text=_text(output, outputs.text),
        notice=_notice(output, metrics),
    )


def _look_at(output: Json) -> str:
    """What to do about an output in which nothing was found; addresses in it may be what was paid for."""
    found = re.findall(r"https?://[^\s\"'\\]+", json.dumps(output, ensure_ascii=False))
    urls = [url for url in map(_address, found[:4]) if len(url) <= LONGEST_ADDRESS // 4]
    if urls:
        return f"The run was probably charged; look at what it gave: {' '.join(urls)}"
    return "It may have found nothing: change the prompt or try another model; the run may have been charged."


def _sources(output: Json, path: str) -> Iterator[Source]:
    found = _find(output, path)
    # A list where one file is expected: some models wrap their output, and a wrapped result is a result.
    for value in found[0] if len(found) == 1 and isinstance(found[0], list) else found:
        if isinstance(value, str) and value:
            yield Source(_address(value))
        elif isinstance(value, dict) and isinstance(value.get("url"), str):
            content_type = value.get("content_type")
            yield Source(_address(str(value["url"])), content_type if isinstance(content_type, str) else None)


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
    texts = [value for value in _find(output, path) if isinstance(value, str)] if path else []
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
