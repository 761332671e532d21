"""What is wrong with a mask, in words that are the same for pictures and films."""

from rotoscope.errors import InvalidInput

__all__ = ["another_shape", "no_mask", "useless_mask"]


def no_mask() -> InvalidInput:
    """It is a picture of the world."""
    return InvalidInput(
        "The mask is a photo or a film, not a mask: it is neither black and white nor a map of numbers.",
        hint="Give one that is white where the video is to be edited, and black elsewhere.",
    )


def useless_mask(*, full: bool) -> InvalidInput:
    """It selects everything, or nothing."""
    if full:
        return InvalidInput(
            "The mask is full.", hint="Nothing of the video would be left: use generate_video for that."
        )
    return InvalidInput(
        "The mask is empty.",
        hint="Nothing would be edited: give a mask that is white where the video is to be edited.",
    )


def another_shape(size: tuple[int, int], wanted: tuple[int, int]) -> InvalidInput:
    """It cannot cover the video; sizes are width and height in pixels."""
    return InvalidInput(
        f"The mask is {size[0]}x{size[1]}, but the video is {wanted[0]}x{wanted[1]}: another shape.",
        hint="Make the mask from a frame of this very video.",
    )
