"""The models that the film engine stands in for, each with its provider's own input and output."""

from rotoscope_sandbox.film import seedance, vace
from rotoscope_sandbox.models import Model

__all__ = ["MODELS"]

MODELS = (
    Model(
        "replicate",
        "bytedance/seedance-2.0",
        seedance.FIELDS,
        seedance.generate,
        check=seedance.unfit,
        run_seconds=0.0,
    ),
    Model(
        "replicate",
        "prunaai/vace-14b",
        vace.FIELDS,
        vace.edit,
        version=vace.VERSION,
        check=vace.unfit,
        run_seconds=0.0,
    ),
)
