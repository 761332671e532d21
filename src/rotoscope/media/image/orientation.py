"""How a model saw a photo with an EXIF orientation: as it is stored, or upright.

A photo that is sent as a file has been made upright. One that is passed on by its URL is opened by the model, and most
models open it as it is stored (Sa2VA's published predictor does). Then the model's masks are turned or mirrored like
the stored photo, and must be turned upright. If neither the shape nor the painted photo shows which it is, the manifest
decides; without that, "stored" is assumed and a note says that it is a guess.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PhotoView", "detect_photo_view", "photo_view_note"]

PhotoView = Literal["stored", "upright"]

_SHAPE_TOLERANCE = 1.03  # ratio of two aspect ratios that count as equal: models round sizes
_COMPARE_SIZE = (48, 48)  # pixels; enough to tell a photo from the same photo turned


def detect_photo_view(
    given: "Image.Image", photo: "Image.Image", orientation: int, known: PhotoView | None
) -> tuple[PhotoView, bool]:
    """How a model saw a photo, by a picture that it returned for it, and whether that is certain.

    Args:
        given: a mask, or the photo with a mask painted on it.
        photo: the photo, upright.
        orientation: its EXIF orientation.
        known: what the manifest knows of the model.
    """
    from rotoscope.media.image.mask_reader import read_mask
    from rotoscope.media.image.pictures import make_upright

    if orientation == 1:
        return "upright", True
    raised = make_upright(given, orientation)
    as_it_is, as_turned = _has_shape_of(given.size, photo.size), _has_shape_of(raised.size, photo.size)
    if as_it_is != as_turned:
        return ("upright" if as_it_is else "stored"), True
    if read_mask(given) is None:
        return (
            "upright" if _brightness_distance(given, photo) <= _brightness_distance(raised, photo) else "stored"
        ), True
    return known or "stored", known is not None


def photo_view_note(frame: PhotoView, *, sure: bool, by_place: bool) -> str | None:
    """A note for the user on a mask that was turned upright, or may have to be; None where there is nothing to note.

    Args:
        frame: how the model saw the photo.
        sure: whether that is certain.
        by_place: whether the model was given points or a box.
    """
    words = []
    if frame == "stored":
        words.append("The photo is turned by its EXIF data, and the model saw it as it is stored: the mask was turned.")
    if not sure:
        words.append("That the model saw it so is a guess: check the overlay, or give the photo as a local file.")
    if frame == "stored" and by_place:
        words.append("It also read points and box in the stored photo; a local file is sent upright.")
    return " ".join(words) or None


def _has_shape_of(shape: tuple[int, int], wanted: tuple[int, int]) -> bool:
    ratio = (shape[0] * wanted[1]) / max(shape[1] * wanted[0], 1)
    return 1 / _SHAPE_TOLERANCE < ratio < _SHAPE_TOLERANCE


def _brightness_distance(one: "Image.Image", other: "Image.Image") -> float:
    """The mean difference of the brightness of two pictures made small, 0 to 255."""
    from PIL import ImageChops, ImageStat

    small = [picture.convert("RGB").convert("L").resize(_COMPARE_SIZE) for picture in (one, other)]
    return float(ImageStat.Stat(ImageChops.difference(*small)).mean[0])
