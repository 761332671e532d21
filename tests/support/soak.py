"""How much is tried: a part of it in `make test`, all of it in `make soak`."""

import os

__all__ = ["IS_SOAK"]

IS_SOAK = "ROTOSCOPE_SOAK_KILLS" in os.environ
