"""The models that the film engine stands in for."""

from rotoscope_sandbox.film import fal_inpainting, fal_seedance, sam_video, seedance, vace, words_models

__all__ = ["MODELS"]

MODELS = (
    seedance.MODEL,
    vace.MODEL,
    *fal_seedance.MODELS,
    *fal_inpainting.MODELS,
    *sam_video.MODELS,
    *words_models.MODELS,
)
