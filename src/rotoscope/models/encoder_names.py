"""The names of the encoders, present and former; `encoders` has what each does."""

from collections.abc import Mapping
from typing import Literal

__all__ = ["ENCODER_ALIASES", "EncoderName", "current_encoder_name"]

EncoderName = Literal[
    "include_points_json",
    "exclude_points_json",
    "labelled_points",
    "corner_box",
    "framed_points",
    "framed_box",
    "append_sa2va_request",
    "at_references",
    "edit_video_1",
    "edit_at_video_1",
]

ENCODER_ALIASES: Mapping[str, EncoderName] = {
    "kept_points_text": "include_points_json",
    "dropped_points_text": "exclude_points_json",
    "asking_for_masks": "append_sa2va_request",
}
"""Former names of encoders, which stay valid: users' manifests have them."""


def current_encoder_name(value: object) -> object:
    """The present name in place of a former one; any other value as it is."""
    return ENCODER_ALIASES.get(value, value) if isinstance(value, str) else value
