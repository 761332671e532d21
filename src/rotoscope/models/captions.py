"""The text of a model, cleaned, with the places that its masks belong to.

Models that segment while they speak mark a phrase and the mask that follows it: `<p> a truck </p> [SEG]`. The i-th
`[SEG]` belongs to the i-th mask. The text is not trusted: end tokens, control, bidirectional and invisible characters
are removed, and so is everything beyond a limit.
"""

import re
from dataclasses import dataclass

from rotoscope.contracts.characters import ELLIPSIS, visible_text
from rotoscope.errors import PredictionFailed

__all__ = ["Caption", "CaptionSegment", "MaskedSegment", "clean_text", "pair_masks", "read_caption"]

_MAX_TEXT_BYTES = 16384  # bytes of UTF-8
_END_TOKEN = re.compile(r"<\|\w{1,32}\|>|</?s>|<(?:eos|bos|pad|unk|end_of_turn|end_of_utterance)>")
_MARK = re.compile(r"<p>|</p>|\[SEG\]")
_CLOSING_MARKS = frozenset(",.;:!?)]}%…、。，；：！？）」』】》”’")  # noqa: RUF001 - Chinese and Japanese marks too
_SENTENCE_ENDS = frozenset(".!?…")
_DANGLING_MARKS = (",", ";", ":")


@dataclass(frozen=True, slots=True)
class CaptionSegment:
    """A phrase that a mask was given for: `text[start:end] == phrase`. The phrase of a bare mark is empty."""

    phrase: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class MaskedSegment:
    """A segment and the index of its mask."""

    phrase: str
    start: int
    end: int
    mask: int


@dataclass(frozen=True, slots=True)
class Caption:
    """Clean text; one segment for each mark, in the order of the marks; `marks` is their number."""

    text: str
    segments: tuple[CaptionSegment, ...]
    marks: int


def clean_text(raw: str, limit: int = _MAX_TEXT_BYTES) -> str:
    """Text that is safe to show, to log and to hand to an assistant.

    End tokens, control, bidirectional and invisible characters are gone, every run of white space is one space, and
    text beyond `limit` bytes of UTF-8 is replaced by an ellipsis. Cleaning clean text changes nothing.
    """
    # Four times the limit: what is removed may be three quarters of a text, and a hostile megabyte stays cheap.
    visible = visible_text(raw[: 4 * limit])
    # A space in its place, so that the pieces around a token cannot join to a new one.
    text = _collapse_spaces(_END_TOKEN.sub(" ", visible))
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    left = max(limit - len(ELLIPSIS.encode()), 0)
    return encoded[:left].decode(errors="ignore").rstrip() + ELLIPSIS


def read_caption(raw: str) -> Caption:
    """Read a model's text with its marks.

    A `[SEG]` directly after a phrase belongs to it; any other one is a segment with an empty phrase at its place.
    """
    reader = _CaptionBuilder()
    cleaned = clean_text(raw)
    at = 0
    for mark in _MARK.finditer(cleaned):
        reader.add_text(cleaned[at : mark.start()])
        reader.add_mark(mark.group())
        at = mark.end()
    reader.add_text(cleaned[at:])
    if _MARK.search(reader.text) or clean_text(reader.text) != reader.text:
        return _caption_without_phrases(reader.text, len(reader.segments))
    return Caption(reader.text, tuple(reader.segments), len(reader.segments))


def pair_masks(caption: Caption, mask_count: int) -> tuple[MaskedSegment, ...]:
    """Give each segment its mask: the i-th mark belongs to mask i.

    Raises:
        PredictionFailed: `provider_protocol`, when there are not as many masks as marks.
    """
    if caption.marks != mask_count:
        message = f"The model's text refers to {caption.marks} masks, but {mask_count} came with it."
        hint = "Which mask belongs to which phrase cannot be told; run the model again."
        raise PredictionFailed(message, hint=hint, code="provider_protocol")
    segments = enumerate(caption.segments)
    return tuple(MaskedSegment(segment.phrase, segment.start, segment.end, index) for index, segment in segments)


class _CaptionBuilder:
    """Writes the clean text piece by piece and remembers where phrases and marks stand in it."""

    def __init__(self) -> None:
        self.text = ""
        self.segments: list[CaptionSegment] = []
        self._gap = False  # white space follows the last piece
        self._inside = False  # between <p> and </p>
        self._start: int | None = None  # where the open phrase begins
        self._phrase: CaptionSegment | None = None  # a closed phrase that may still be given a mask
        self._phrase_end = 0  # the end of the last phrase: nothing before it may change any more

    def add_text(self, piece: str) -> None:
        """Add a piece between two marks, with one space before it where there was any, but none before a comma."""
        body = _collapse_spaces(piece)
        gap = self._gap or piece[:1].isspace()
        if not body:
            self._gap = gap
            return
        if body[0] in _CLOSING_MARKS:
            self._drop_dangling_comma(body[0])
        elif gap and self.text:
            self.text += " "
        if self._inside and self._start is None:
            self._start = len(self.text)
        self.text += body
        self._gap = piece[-1].isspace()
        if not _CLOSING_MARKS.issuperset(body):
            self._phrase = None  # other words stand between that phrase and the next mark

    def add_mark(self, token: str) -> None:
        """Take note of `<p>`, `</p>` or `[SEG]`."""
        self._end_phrase()
        if token == "<p>":  # noqa: S105 - a mark in a text, no secret
            self._inside = True
        elif token == "[SEG]":  # noqa: S105 - a mark in a text, no secret
            here = len(self.text)
            self.segments.append(self._phrase or CaptionSegment("", here, here))
            self._phrase = None

    def _end_phrase(self) -> None:
        if self._start is not None:
            self._phrase_end = len(self.text)
            self._phrase = CaptionSegment(self.text[self._start :], self._start, self._phrase_end)
        self._inside, self._start = False, None

    def _drop_dangling_comma(self, mark: str) -> None:
        """Take back the comma of "Sure, [SEG]." when a sentence ends right after a bare mark."""
        bare = bool(self.segments) and self.segments[-1].start == len(self.text) > self._phrase_end
        if bare and mark in _SENTENCE_ENDS and self.text.endswith(_DANGLING_MARKS):
            self.text = self.text[:-1]
            here = len(self.text)
            self.segments = [CaptionSegment("", here, here) if old.start > here else old for old in self.segments]


def _caption_without_phrases(text: str, marks: int) -> Caption:
    """The caption of a text in which new marks appear once marks are removed: only their number counts."""
    plain = clean_text(_MARK.sub(" ", text))
    return Caption(plain, (CaptionSegment("", len(plain), len(plain)),) * marks, marks)


def _collapse_spaces(text: str) -> str:
    return " ".join(text.split())
