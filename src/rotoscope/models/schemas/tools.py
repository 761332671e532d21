"""Which tool a model serves, by what it takes and gives, or in one sentence why none. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rotoscope.models.catalog import describe_writing_by_hand
from rotoscope.models.manifest import ToolName
from rotoscope.models.schemas.documents import ModelDocument
from rotoscope.models.schemas.fields import SchemaField
from rotoscope.models.schemas.media import MediaField
from rotoscope.models.schemas.names import split_words, word_set
from rotoscope.models.schemas.outputs import OutputPlace

__all__ = ["DraftRefusal", "Reason", "choose_tool", "find_prompt", "has_places"]

Reason = Literal[
    "audio", "training", "realtime", "text", "3d", "archive", "pictures", "no words", "video masks", "no input",
    "unknown output", "unfit", "no schema", "data",
]  # fmt: skip
_SEGMENT_WORDS = word_set(
    "segment segments segmentation segmenting segmenter segmented seg sam matting semantic panoptic clipseg"
)
_MASK_WORDS = word_set("mask masks segment segments segmentation segmented matte")
_PROMPT_NAMES = (
    "prompt", "text_prompt", "instruction", "prompt_text", "positive_prompt", "text", "query", "question", "caption",
    "text_input", "input_text", "mask_prompt", "object_prompt", "class_prompt", "input_prompt", "labels", "label",
    "positive_mask_prompt", "description", "classes", "object",
)  # fmt: skip


_NOT_ASKED = re.compile("negative|neg_|^n_|audio|sound|system|json|voice|speech|music|source")
_EDIT_WORDS = word_set("inpaint inpainting inpainter painter erase eraser vace replace object removal remove edit fill "
                       "outpainting")  # fmt: skip
_EDITOR_WORDS = word_set("edit editing editor videoedit edits")


@dataclass(frozen=True, slots=True)
class DraftRefusal:
    """Why no manifest can be made: for programs a word, for people a sentence and the next step."""

    reason: Reason
    message: str
    hint: str = ""


def find_prompt(fields: Sequence[SchemaField], media: Mapping[str, MediaField]) -> SchemaField | None:
    """The input that takes the words of a user; the best of several names."""
    texts = {
        "_".join(split_words(field.name)): field
        for field in fields
        if field.type == "string" and not field.many and not field.choices and field.name not in media
        and not field.is_secret and not field.is_hidden
    }  # fmt: skip
    known = next((texts[name] for name in _PROMPT_NAMES if name in texts), None)
    if known is not None:
        return known
    similar = [
        one
        for name, one in texts.items()
        if name.endswith(("prompt", "prompts", "input_text")) and not _NOT_ASKED.search(name)
    ]
    return next((one for one in similar if one.is_required), similar[0] if similar else None)


def has_places(field: SchemaField) -> bool:
    """Whether an input takes clicks or boxes as records of coordinates."""
    return field.type == "object" and ({"x", "y"} <= field.item_names or {"x_min", "y_min"} <= field.item_names)


def choose_tool(
    document: ModelDocument, media: Mapping[str, MediaField], outputs: Sequence[OutputPlace]
) -> ToolName | DraftRefusal:
    """The tool that a model fits, or why it fits none."""
    early = _refuse_by_purpose(document)
    if early is not None:
        return early
    kinds = {one.kind for one in outputs if not one.is_text}
    if "model" in kinds and "video" not in document.category:
        return _refuse_output({"model"}, has_text=False)  # what is shown of it, a film too, is not the result
    if "video" in kinds:
        return _choose_video_tool(document, media)
    if "image" in kinds:
        return _choose_picture_tool(document, media, outputs)
    plain = document.resolver.resolve(document.output.get("items")) if "items" in document.output else document.output
    if not outputs and plain.get("type") in ("number", "integer", "boolean", "array", "object"):
        return DraftRefusal("data", "It gives numbers or other data, and no tool does that.")
    return _refuse_output(kinds, has_text=any(one.is_text for one in outputs))


def _refuse_by_purpose(document: ModelDocument) -> DraftRefusal | None:
    words = set(split_words(document.name.endpoint))
    if document.category == "training" or words & {"trainer", "training", "finetune", "train", "finetuning"}:
        return DraftRefusal("training", "It trains a model, and no tool does that.")
    names = {field.name for field in document.fields}
    if {"trigger_word", "instance_data", "class_data", "training_data", "dataset"} & names:
        return DraftRefusal("training", "It trains a model, and no tool does that.")
    if "realtime" in words:
        return DraftRefusal("realtime", "It runs over an open connection, which no tool speaks.")
    return None


def _choose_video_tool(document: ModelDocument, media: Mapping[str, MediaField]) -> ToolName | DraftRefusal:
    videos = [one for one in media.values() if one.kind == "video" and not one.is_mask]
    masks = [one for one in media.values() if one.is_mask]
    prompt = find_prompt(document.fields, media)
    named = set(split_words(f"{document.name.endpoint} {document.title}"))
    said = named | set(split_words(document.description))
    finds = named & _SEGMENT_WORDS or (said & {"segmentation", "tracking"} and not named & _EDIT_WORDS)
    if videos and (finds or any(map(has_places, document.fields))):
        return DraftRefusal("video masks", "It finds objects in a video, and no tool does that yet.")
    if videos and any(one.field.is_required or said & _EDIT_WORDS for one in masks):
        return "edit_video_with_mask"
    edited = [one for one in videos if one.field.is_required and not one.field.many]
    if prompt is not None and len(edited) == len(videos) == 1 and named & _EDITOR_WORDS:
        return "edit_video_with_mask"  # by words alone
    if videos and prompt is None:
        return DraftRefusal(
            "no words",
            "It turns one video into another without words.",
            "Every tool that makes videos needs a prompt; with --tool generate_video the model will not get it.",
        )
    if prompt is not None or any(one.kind == "image" for one in media.values()):
        return "generate_video"
    return DraftRefusal("no input", "It makes a video from neither words nor a picture.")


def _choose_picture_tool(
    document: ModelDocument, media: Mapping[str, MediaField], outputs: Sequence[OutputPlace]
) -> ToolName | DraftRefusal:
    pictures = [one for one in media.values() if one.kind == "image" and not one.is_mask]
    words = set(split_words(f"{document.name.endpoint} {document.title}"))
    keys = {word for one in outputs for word in split_words(one.key)}
    paints = {field.name for field in document.fields} & {
        "num_inference_steps", "guidance_scale", "prompt_strength", "strength", "num_steps", "ddim_steps",
        "num_outputs",
    }  # fmt: skip
    has_mask_input = any(one.is_mask for one in media.values())
    segments = bool(keys & _MASK_WORDS or words & _SEGMENT_WORDS or "sa2va" in document.name.endpoint.lower())
    if not pictures or not segments or has_mask_input or paints:
        return DraftRefusal("pictures", "It makes pictures, and no tool does that.")
    many = any("[]" in one.path for one in outputs if one.kind == "image")
    answers = any(one.is_text and one.key in ("output", "response", "text", "answer", "caption") for one in outputs)
    return "describe_with_masks" if answers and many else "segment_image"


def _refuse_output(kinds: set[str | None], *, has_text: bool) -> DraftRefusal:
    if "audio" in kinds:
        return DraftRefusal("audio", "It makes sound, and no tool does that.")
    if "model" in kinds:
        return DraftRefusal("3d", "It makes a 3D model or weights, and no tool does that.")
    if kinds & {"archive", "other"}:
        return DraftRefusal("archive", "It gives an archive or a data file, which no tool can read.")
    if has_text:
        return DraftRefusal("text", "It gives text alone, and no tool does that.")
    return DraftRefusal(
        "unknown output",
        "Its schema and its example do not say what it gives.",
        f"Name the tool with --tool, or {describe_writing_by_hand()}.",
    )
