"""Dialects: how each wire protocol is spoken. Pure code; nothing here opens a socket."""

from collections.abc import Mapping

from rotoscope.predictions.dialects.fal import Fal
from rotoscope.predictions.dialects.replicate import Replicate
from rotoscope.predictions.dialects.segmind import Segmind
from rotoscope.predictions.dialects.shape import Dialect, Parcel, Placement

__all__ = ["DIALECTS", "Dialect", "Parcel", "Placement"]

DIALECTS: Mapping[str, type[Dialect]] = {"replicate": Replicate, "fal": Fal, "segmind": Segmind}
"""Every dialect by its name in `providers.toml`. Each is made from the provider's base URLs."""
