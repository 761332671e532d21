"""The last stage of a job with masks: measure them, pair them with their phrases, paint them, write the COCO file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.errors import OutputLost, PredictionFailed, UserMistake
from rotoscope.jobs.job import Artifact, Output, problem_of
from rotoscope.media.captions import clean_text, pair, read_caption
from rotoscope.media.photo_frames import Frame, frame_of, note_of
from rotoscope.media.vault import Kept, Vault
from rotoscope.wire.messages import Json

if TYPE_CHECKING:
    from PIL import Image

    from rotoscope.media.masks import LabelledMask, Mask

__all__ = ["Finished", "MaskWork", "finish_masks"]

_PNG = "image/png"
_LONGEST_NAME = 200  # bytes of UTF-8 of what a model calls a mask


@dataclass(frozen=True, slots=True)
class MaskWork:
    """What came back from a model that gives masks.

    Attributes:
        raw: the pictures it gave, in order, as they were fetched: the file, and what is known of it.
        picture: the picture that it saw, or None where nobody here has read it.
        text: the model's words.
        names: what the model called each picture, None where it did not.
        left_out: how many more masks it gave than were fetched.
        frame: in which frame the model sees a photo that its EXIF data turn, where that is known.
        by_place: whether points or a box said where to look.
        label: what to call a mask without a phrase.
        score: how sure the model is, 0-1, only if it says so.
        describes: whether phrases and masks belong together one by one.
        paint: whether to make an overlay.
    """

    raw: Sequence[tuple[Path, Output]]
    picture: Path | None
    text: str | None
    label: str
    score: float | None
    describes: bool
    paint: bool
    names: Sequence[str | None] = ()
    left_out: int = 0
    frame: Frame | None = None
    by_place: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """What the stage gives: the job's result, its files, what to warn of, and what is wrong with it, if anything."""

    result: Mapping[str, Json]
    outputs: tuple[Output, ...]
    warnings: tuple[str, ...]
    problem: Mapping[str, str] | None = None


@dataclass(slots=True)
class _Notes:
    warnings: list[str] = field(default_factory=list)

    def add(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def finish_masks(work: MaskWork, vault: Vault) -> Finished:
    """Turn what came back into masks as data and files. Heavy: run it in a thread.

    Raises:
        PredictionFailed: none of the pictures is a mask.
        StorageFailed: the vault does not take the files.
    """
    notes = _Notes()
    if not work.raw:
        return _words_alone(work)
    picture, orientation = _photo(work.picture)
    found = [_mask(path, picture, orientation, work, notes) for path, _ in work.raw]
    masks = [one.mask for one in found]
    result, labels, problem = _words(work, len(masks))
    from rotoscope.media.masks import LabelledMask

    labelled = [LabelledMask(label, mask, work.score) for label, mask in zip(labels, masks, strict=True)]
    outputs = [_mask_output(n, one, work, vault, same=found[n].same) for n, one in enumerate(labelled)]
    outputs.append(_coco(labelled, vault))
    if work.paint and picture is not None:
        outputs.append(_overlay(picture, labelled, vault, notes))
    elif work.paint:
        notes.add("No overlay was made, because the picture could not be read from its address.")
    if not any(one.mask.any() for one in labelled):
        notes.add("The mask is empty: the model found nothing.")
    measured: list[Json] = [_measured(one) for one in labelled]
    return Finished({**result, "masks": measured}, tuple(outputs), tuple(notes.warnings), problem)


def _words_alone(work: MaskWork) -> Finished:
    """What a model gave that gave no mask: a description is a result, and for a request for a mask it is none."""
    caption = read_caption(work.text or "")
    if not work.describes:
        return Finished({"text": caption.text or None, "masks": []}, (), (), problem_of(_found_nothing(caption.text)))
    if not caption.text:
        return Finished({"text": None, "masks": []}, (), (), problem_of(_found_nothing("")))
    note = "The model gave no masks, only words."
    if caption.marks:
        note = f"The model's text marks phrases for masks ({caption.marks}), but no mask came with it."
    return Finished({"text": caption.text, "segments": [], "masks": []}, (), (note,))


def _found_nothing(words: str) -> PredictionFailed:
    hint = "Name the object otherwise, or try another model; the run was probably charged."
    if words:
        hint = f"What it said is in text. {hint}"
    return PredictionFailed("The model found nothing, and gave no mask.", hint=hint, code="nothing_found")


def _photo(path: Path | None) -> "tuple[Image.Image | None, int]":
    """The photo, upright, and its EXIF orientation; None where it cannot be decoded.

    It was passed on by URL then, and what was paid for is the mask.
    """
    from rotoscope.media.pictures import decode, orientation_of

    if path is None:
        return None, 1
    content = path.read_bytes()
    try:
        return decode(content), orientation_of(content)
    except UserMistake:
        return None, 1


def _words(work: MaskWork, count: int) -> tuple[dict[str, Json], list[str], Mapping[str, str] | None]:
    """The clean text, a label for each mask, and the problem when phrases and masks do not match."""
    caption = read_caption(work.text or "")
    numbered = [work.label if count == 1 else f"{work.label} {n + 1}" for n in range(count)]
    given = [clean_text(name or "", _LONGEST_NAME) for name in work.names] or [""] * count
    fallback = [name or number for name, number in zip(given, numbered, strict=True)]
    if not work.describes:
        return {"text": caption.text or None}, fallback, None
    try:
        segments = [one for one in pair(caption, count + work.left_out) if one.mask < count]
    except PredictionFailed as error:
        return {"text": caption.text, "segments": []}, fallback, problem_of(error)
    labels = {segment.mask: segment.phrase for segment in segments if segment.phrase}
    rows: list[Json] = [{"phrase": s.phrase, "start": s.start, "end": s.end, "mask": s.mask} for s in segments]
    return {"text": caption.text, "segments": rows}, [labels.get(n) or fallback[n] for n in range(count)], None


@dataclass(frozen=True, slots=True)
class _Read:
    """A mask, and whether the file that it was read from is that very mask, pixel by pixel."""

    mask: "Mask"
    same: bool = False


def _mask(path: Path, picture: "Image.Image | None", orientation: int, work: MaskWork, notes: _Notes) -> _Read:
    """The mask in a picture that a model gave: a bare mask, or one that is painted on the photo."""
    from rotoscope.media.masks import fit_to, looks_like_mask, painted_difference, read_mask
    from rotoscope.media.pictures import decode

    try:
        given = decode(path.read_bytes())
    except UserMistake as error:
        raise OutputLost(
            "The picture that the model gave cannot be decoded.",
            hint="The run was probably charged; the file is kept and listed under files.",
            code=error.code,
        ) from error
    upright = given if picture is None else _upright(given, picture, orientation, work, notes)
    mask: Mask | None
    if looks_like_mask(given):
        mask = read_mask(upright)
    else:
        mask = painted_difference(upright, picture) if picture is not None else None
        if mask is None:
            raise PredictionFailed(
                "The model gave a picture in which no mask can be told from the photo.",
                hint="Try another model; the run may have been charged, and its picture is listed under files.",
                code="provider_protocol",
            )
        notes.add("The model painted its mask on the photo; the mask was taken from what differs.")
    if picture is None:
        return _Read(mask, _is_same(given, mask))
    try:
        fitted, resized = fit_to(mask, *picture.size)
    except UserMistake:
        notes.add("The mask has another shape than the photo and is given as it came.")
        return _Read(mask, _is_same(given, mask))
    if resized:
        notes.add("The mask had another size than the photo and was resized to it without smoothing.")
    return _Read(fitted, _is_same(given, fitted))


def _upright(
    given: "Image.Image", picture: "Image.Image", orientation: int, work: MaskWork, notes: _Notes
) -> "Image.Image":
    """What a model gave, in the frame of the upright photo."""
    from rotoscope.media.pictures import make_upright

    frame, sure = frame_of(given, picture, orientation, work.frame)
    note = note_of(frame, sure=sure, by_place=work.by_place)
    if note is not None:
        notes.add(note)
    return make_upright(given, orientation) if frame == "stored" else given


def _is_same(given: "Image.Image", mask: "Mask") -> bool:
    """Whether a picture is a mask pixel by pixel, in black and white."""
    import numpy as np

    if given.mode not in ("1", "L", "P", "RGB") or given.size != (mask.shape[1], mask.shape[0]):
        return False
    return bool(np.array_equal(np.asarray(given.convert("L")), np.where(mask, 255, 0)))


def _measured(one: "LabelledMask") -> dict[str, Json]:
    from rotoscope.media.masks import area_of, box_of

    box = box_of(one.mask)
    corners: Json = {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom} if box else None
    return {"label": one.label, "score": one.score, "box": corners, "area": round(area_of(one.mask), 6)}


def _mask_output(n: int, one: "LabelledMask", work: MaskWork, vault: Vault, *, same: bool) -> Output:
    """The n-th mask as a file; with the provider's address only where the file there is the `same`, and no painting."""
    from rotoscope.media.masks import mask_png

    height, width = one.mask.shape
    raw = work.raw[n][1]
    kept = vault.keep(mask_png(one.mask), _PNG)
    artifact = _artifact(kept, width, height)
    return Output("mask", n, artifact, raw.source_url, raw.source_expires_at) if same else Output("mask", n, artifact)


def _coco(masks: Sequence["LabelledMask"], vault: Vault) -> Output:
    from rotoscope.media.masks import coco_document

    height, width = masks[0].mask.shape
    document = coco_document("picture", width, height, [one for one in masks if one.mask.shape == (height, width)])
    kept = vault.keep(json.dumps(document, ensure_ascii=False).encode(), "application/json")
    return Output("coco", 0, Artifact(kept.sha256, kept.content_type, kept.size))


def _overlay(picture: "Image.Image", masks: Sequence["LabelledMask"], vault: Vault, notes: _Notes) -> Output:
    from rotoscope.media.previews import encode_jpeg, overlay

    fitting = [one.mask for one in masks if one.mask.shape == (picture.height, picture.width)]
    if len(fitting) < len(masks):
        notes.add("The overlay leaves out masks of another shape than the photo.")
    kept = vault.keep(encode_jpeg(overlay(picture, fitting)), "image/jpeg")
    return Output("overlay", 0, _artifact(kept, picture.width, picture.height))


def _artifact(kept: Kept, width: int, height: int) -> Artifact:
    return Artifact(kept.sha256, kept.content_type, kept.size, {"width": width, "height": height})
