"""The `[outputs]` of a drafted manifest. Pure."""

from collections.abc import Sequence

from rotoscope.models.manifest import Outputs, ToolName
from rotoscope.models.schemas.names import split_words
from rotoscope.models.schemas.outputs import OutputPlace

__all__ = ["draft_outputs"]

_MASK_WORDS = frozenset({"mask", "masks", "segment", "segments", "segmentation", "matte"})
_TEXT_KEYS = ("output", "response", "text", "answer", "caption", "description")


def draft_outputs(tool: ToolName, places: Sequence[OutputPlace]) -> Outputs:
    """Where the result of a tool is in the output of a model.

    Of several places a list of masks comes before one mask, and a place whose key names what is wanted before others.
    """
    if tool in ("generate_video", "edit_video_with_mask"):
        videos = [one for one in places if one.kind == "video"]
        best = min(videos, key=_video_rank, default=None)
        # One video is wanted: of a list, whichever form it comes in, the first is taken.
        path = best.path.removesuffix("[]") if best else "$"
        return Outputs(video=path or "$", inferred=("video",) if best is None or best.why != "schema" else ())
    masks = [one for one in places if one.kind == "image"]
    best = min(masks, key=_mask_rank, default=None)
    texts = [one for one in places if one.is_text and (one.key in _TEXT_KEYS or one.path == "$")]
    text = texts[0].path if texts and (tool == "describe_with_masks" or texts[0].key in _TEXT_KEYS) else None
    return Outputs(masks=best.path if best else "$", text=text, inferred=("masks",))


def _video_rank(place: OutputPlace) -> tuple[bool, int]:
    return "video" not in split_words(place.key), place.path.count(".")


def _mask_rank(place: OutputPlace) -> tuple[bool, bool, bool]:
    words = set(split_words(place.key))
    return not words & _MASK_WORDS, "combined" in words, "[]" not in place.path
