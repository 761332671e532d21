"""Dialects: how each wire protocol is spoken. Pure code; nothing here opens a socket."""

from collections.abc import Mapping

from rotoscope.providers.dialects.base import Dialect, UploadFile, UploadPlan
from rotoscope.providers.dialects.fal import Fal
from rotoscope.providers.dialects.replicate import Replicate
from rotoscope.providers.dialects.segmind import Segmind

__all__ = ["DIALECTS", "Dialect", "UploadFile", "UploadPlan"]

DIALECTS: Mapping[str, type[Dialect]] = {"replicate": Replicate, "fal": Fal, "segmind": Segmind}
"""Every dialect by its name in `providers.toml`. Each is made from the provider's base URLs."""
