"""The models that the film engine stands in for."""

from rotoscope_sandbox.film import seedance, vace

__all__ = ["MODELS"]

MODELS = (seedance.MODEL, vace.MODEL)
