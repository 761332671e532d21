"""In which frame a model saw a photo that its EXIF data turn: as it is stored, or upright.

A photo that is sent as a file is upright before it leaves. One that is passed on by its address is opened by the model,
and most open it as it is stored (Sa2VA's published predictor does). Then what the model gives lies on its side, or is
mirrored, and must be turned as the photo is. Where its shape or what is painted on it does not tell, the manifest does;
without that it is taken to be as stored, and said to be a guess.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PhotoView", "detect_photo_view", "photo_view_note"]

PhotoView = Literal["stored", "upright"]

_SHAPE_TOLERANCE = 1.03  # between two shapes that are the same but for rounding
_COMPARE_SIZE = (48, 48)


def detect_photo_view(
    given: "Image.Image", photo: "Image.Image", orientation: int, known: PhotoView | None
) -> tuple[PhotoView, bool]:
    """In which frame of a photo a picture is that a model gave for it, and whether that is sure.

    Args:
        given: a mask, or the photo with a mask painted on it.
        photo: the photo, upright.
        orientation: its EXIF orientation.
        known: what is known of the model.
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
    """What to say of a mask that was put upright, or may have to be; None where there is nothing to say.

    Args:
        frame: in which frame it was given.
        sure: whether that is known.
        by_place: whether points or a box told the model where to look.
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
    """How different two pictures look from afar: the mean difference of their brightness, 0 to 255."""
    from PIL import ImageChops, ImageStat

    small = [picture.convert("RGB").convert("L").resize(_COMPARE_SIZE) for picture in (one, other)]
    return float(ImageStat.Stat(ImageChops.difference(*small)).mean[0])
