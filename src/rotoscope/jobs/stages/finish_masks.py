"""The last stage of a job with masks: measure them, pair them with their phrases, paint them, write the COCO file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rotoscope.errors import OutputLost, PredictionFailed, UserMistake
from rotoscope.media.image.coco import CocoDocument
from rotoscope.media.image.orientation import PhotoView, detect_photo_view, photo_view_note
from rotoscope.media.vault import StoredFile
from rotoscope.media.worker_files import ScratchVault, WorkerFile
from rotoscope.models.captions import clean_text, pair_masks, read_caption
from rotoscope.providers.http.messages import Json
from rotoscope.store.job_data import ErrorRecord, MeasuredResult
from rotoscope.store.records import Artifact, Output, error_record

if TYPE_CHECKING:
    from PIL import Image

    from rotoscope.media.image.masks import Mask

__all__ = ["FinishResult", "MaskWork", "finish_masks"]

_PNG = "image/png"
_MAX_LABEL_BYTES = 200  # bytes of UTF-8 of what a model calls a mask


@dataclass(frozen=True, slots=True)
class MaskWork:
    """What came back from a model that gives masks.

    Attributes:
        raw: the pictures it gave, in order, as they were fetched: the file, and what is known of it.
        picture: the picture that it saw, or None where it was not read here.
        file_name: of the picture, as who gave it calls it, without folders.
        text: the text that the model gave.
        names: what the model called each picture, None where it did not.
        omitted_count: how many more masks it gave than were fetched.
        frame: in which frame the model sees a photo that its EXIF data turn, where that is known.
        has_location: whether points or a box were given with the request.
        label: what to call a mask without a phrase.
        score: how sure the model is of all, 0-1, only if it says so.
        scores: how sure it is of each picture, 0-1, None where it does not say so.
        is_description: whether phrases and masks belong together one by one.
        with_overlay: whether to make an overlay.
    """

    raw: Sequence[tuple[Path, Output]]
    picture: Path | None
    file_name: str
    text: str | None
    label: str
    score: float | None
    is_description: bool
    with_overlay: bool
    names: Sequence[str | None] = ()
    scores: Sequence[float | None] = ()
    omitted_count: int = 0
    frame: PhotoView | None = None
    has_location: bool = False

    def score_of(self, n: int) -> float | None:
        """How sure the model is of one picture: by its own score, else by that of all."""
        own = self.scores[n] if n < len(self.scores) else None
        return self.score if own is None else own


@dataclass(frozen=True, slots=True)
class FinishResult:
    """What the stage gives: the job's result, its files, what to warn of, and what is wrong with it, if anything.

    Attributes:
        new_files: the files of its outputs that are not in the vault yet.
    """

    result: MeasuredResult
    outputs: tuple[Output, ...]
    warnings: tuple[str, ...]
    error: ErrorRecord | None = None
    new_files: tuple[WorkerFile, ...] = ()


@dataclass(slots=True)
class _WarningList:
    warnings: list[str] = field(default_factory=list)

    def add(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def finish_masks(work: MaskWork, stem: Path) -> FinishResult:
    """Turn what came back into masks as data and files. Heavy: run it in a worker process.

    One mask after the other: many at once, in full size, would take a hundred times the memory.

    Args:
        work: what came back.
        stem: the path with which the names of its files begin.

    Raises:
        PredictionFailed: none of the pictures is a mask.
        StorageFailed: the disk does not take the files.
    """
    if not work.raw:
        return _text_only_result(work)
    notes, tray = _WarningList(), ScratchVault(stem)
    photo = _read_photo(work.picture)
    result, labels, error = _text_and_labels(work, len(work.raw))
    outputs, measured, gathered = [], [], _MaskSummary(work, photo.image)
    for n, label in enumerate(labels):
        found = _mask_from_picture(work.raw[n][0], photo, work, notes)
        outputs.append(_mask_output(n, found, work, tray))
        measured.append(_measure_mask(label, found.mask, work.score_of(n)))
        gathered.add(n, label, found.mask)
    outputs += gathered.outputs(tray, notes)
    result = replace(result, masks=tuple(measured))
    return FinishResult(result, tuple(outputs), tuple(notes.warnings), error, tuple(tray.files))


class _MaskSummary:
    """What is made of all masks together: the COCO file, and the overlay if one is wanted."""

    def __init__(self, work: MaskWork, picture: "Image.Image | None") -> None:
        from rotoscope.media.image.previews import MaskOverlay

        self._work = work
        self._coco: CocoDocument | None = None
        self._overlay = MaskOverlay(picture) if work.with_overlay and picture is not None else None
        self._has_pixels = self._has_unpainted = False

    def add(self, n: int, label: str, mask: "Mask") -> None:
        """Add one mask; the first decides the size of the COCO file, the photo that of the overlay."""
        height, width = mask.shape
        self._coco = self._coco or CocoDocument(self._work.file_name, width, height)
        if (self._coco.height, self._coco.width) == (height, width):
            self._coco.add(n, label, mask, self._work.score_of(n))
        if self._overlay is not None and not self._overlay.paint(n, mask):
            self._has_unpainted = True
        self._has_pixels = self._has_pixels or bool(mask.any())

    def outputs(self, tray: ScratchVault, notes: _WarningList) -> Iterator[Output]:
        """The files, once all masks are there."""
        if self._coco is not None:
            kept = tray.keep(self._coco.content(), "application/json")
            yield Output("coco", 0, Artifact(kept.sha256, kept.content_type, kept.size))
        if self._has_unpainted:
            notes.add("The overlay leaves out masks of another shape than the photo.")
        if self._overlay is not None:
            kept = tray.keep(self._overlay.jpeg(), "image/jpeg")
            yield Output("overlay", 0, _artifact(kept, *self._overlay.size))
        elif self._work.with_overlay:
            notes.add("No overlay was made, because the picture could not be read from its address.")
        if not self._has_pixels:
            notes.add("The mask is empty: the model found nothing.")


def _text_only_result(work: MaskWork) -> FinishResult:
    """What a model gave that gave no mask: a description is a result, and for a request for a mask it is none."""
    caption = read_caption(work.text or "")
    if not work.is_description:
        error = _nothing_found_error(caption.text)
        return FinishResult(MeasuredResult(caption.text or None), (), (), error_record(error))
    if not caption.text:
        return FinishResult(MeasuredResult(), (), (), error_record(_nothing_found_error("")))
    note = "The model gave no masks, only words."
    if caption.marks:
        note = f"The model's text marks phrases for masks ({caption.marks}), but no mask came with it."
    return FinishResult(MeasuredResult(caption.text), (), (note,))


def _nothing_found_error(text: str) -> PredictionFailed:
    hint = "Name the object otherwise, or try another model; the run was probably charged."
    if text:
        hint = f"What it said is in text. {hint}"
    return PredictionFailed("The model found nothing, and gave no mask.", hint=hint, code="nothing_found")


@dataclass(frozen=True, slots=True)
class _Photo:
    """The photo, upright, and its EXIF orientation; without an image where it cannot be decoded.

    It was passed on by URL then, and what was paid for is the mask.
    """

    image: "Image.Image | None" = None
    orientation: int = 1


def _read_photo(path: Path | None) -> _Photo:
    from rotoscope.media.image.pictures import decode_upright, read_exif_orientation

    if path is None:
        return _Photo()
    content = path.read_bytes()
    try:
        return _Photo(decode_upright(content), read_exif_orientation(content))
    except UserMistake:
        return _Photo()


def _text_and_labels(work: MaskWork, count: int) -> tuple[MeasuredResult, list[str], ErrorRecord | None]:
    """The clean text, a label for each mask, and the error when phrases and masks do not match."""
    caption = read_caption(work.text or "")
    numbered = [work.label if count == 1 else f"{work.label} {n + 1}" for n in range(count)]
    given = [clean_text(name or "", _MAX_LABEL_BYTES) for name in work.names] or [""] * count
    fallback = [name or number for name, number in zip(given, numbered, strict=True)]
    if not work.is_description:
        return MeasuredResult(caption.text or None), fallback, None
    try:
        segments = [one for one in pair_masks(caption, count + work.omitted_count) if one.mask < count]
    except PredictionFailed as error:
        return MeasuredResult(caption.text), fallback, error_record(error)
    labels = {segment.mask: segment.phrase for segment in segments if segment.phrase}
    rows = [{"phrase": s.phrase, "start": s.start, "end": s.end, "mask": s.mask} for s in segments]
    result = MeasuredResult(caption.text, segments=tuple(cast("list[dict[str, Json]]", rows)))
    return result, [labels.get(n) or fallback[n] for n in range(count)], None


@dataclass(frozen=True, slots=True)
class _FittedMask:
    """A mask, and whether the file that it was read from is that very mask, pixel by pixel."""

    mask: "Mask"
    is_identical: bool


def _mask_from_picture(path: Path, photo: _Photo, work: MaskWork, notes: _WarningList) -> _FittedMask:
    """The mask in a picture that a model gave: a bare mask, or one that is painted on the photo."""
    from rotoscope.media.image.mask_reader import read_mask
    from rotoscope.media.image.masks import find_painted_mask, fit_mask_to_size
    from rotoscope.media.image.pictures import decode_upright

    try:
        given = decode_upright(path.read_bytes(), exact=True)
    except UserMistake as error:
        raise OutputLost(
            "The picture that the model gave cannot be decoded.",
            hint="The run was probably charged; the file is kept and listed under files.",
            code=error.code,
        ) from error
    picture = photo.image
    upright = given if picture is None else _turn_upright(given, picture, photo.orientation, work, notes)
    read = read_mask(upright)
    for remark in read.remarks if read else ():
        notes.add(remark)
    mask = read.mask if read else find_painted_mask(upright, picture) if picture is not None else None
    if mask is None:
        raise PredictionFailed(
            "The model gave a picture in which no mask can be told from the photo.",
            hint="Try another model; the run may have been charged, and its picture is listed under files.",
            code="provider_protocol",
        )
    if read is None:
        notes.add("The model painted its mask on the photo; the mask was taken from what differs.")
    if picture is None:
        return _FittedMask(mask, _is_same(given, mask))
    try:
        fitted, resized = fit_mask_to_size(mask, *picture.size)
    except UserMistake:
        notes.add("The mask has another shape than the photo and is given as it came.")
        return _FittedMask(mask, _is_same(given, mask))
    if resized:
        notes.add("The mask had another size than the photo and was resized to it without smoothing.")
    return _FittedMask(fitted, _is_same(given, fitted))


def _turn_upright(
    given: "Image.Image", picture: "Image.Image", orientation: int, work: MaskWork, notes: _WarningList
) -> "Image.Image":
    """What a model gave, in the frame of the upright photo."""
    from rotoscope.media.image.pictures import make_upright

    frame, sure = detect_photo_view(given, picture, orientation, work.frame)
    note = photo_view_note(frame, sure=sure, by_place=work.has_location)
    if note is not None:
        notes.add(note)
    return make_upright(given, orientation) if frame == "stored" else given


def _is_same(given: "Image.Image", mask: "Mask") -> bool:
    """Whether a picture is a mask pixel by pixel, in black and white."""
    import numpy as np

    if given.mode not in ("1", "L", "P", "RGB") or given.size != (mask.shape[1], mask.shape[0]):
        return False
    return bool(np.array_equal(np.asarray(given.convert("L")), mask.view(np.uint8) * np.uint8(255)))


def _measure_mask(label: str, mask: "Mask", score: float | None) -> dict[str, Json]:
    from rotoscope.media.image.masks import area_of, bounding_box

    box = bounding_box(mask)
    corners: Json = {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom} if box else None
    return {"label": label, "score": score, "box": corners, "area": round(area_of(mask), 6)}


def _mask_output(n: int, found: _FittedMask, work: MaskWork, tray: ScratchVault) -> Output:
    """The n-th mask as a file; with the provider's address only where the file there is the same, and no painting."""
    from rotoscope.media.image.masks import encode_mask_png

    height, width = found.mask.shape
    raw = work.raw[n][1]
    artifact = _artifact(tray.keep(encode_mask_png(found.mask), _PNG), width, height)
    if not found.is_identical:
        return Output("mask", n, artifact)
    return Output("mask", n, artifact, raw.source_url, raw.source_expires_at)


def _artifact(kept: StoredFile, width: int, height: int) -> Artifact:
    return Artifact(kept.sha256, kept.content_type, kept.size, {"width": width, "height": height})
