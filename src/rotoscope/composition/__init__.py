"""The composition root: builds the whole program from the settings. Only the command line and tests stand above it."""

from rotoscope.composition.parts import add_kept_keys, load_user_catalog, make_private_folder, open_reading_wire
from rotoscope.composition.sign_in import open_sign_in
from rotoscope.composition.stdio import build_stdio_server, stdio_roots
from rotoscope.composition.studio import make_studio_opener, open_studio

__all__ = [
    "add_kept_keys",
    "build_stdio_server",
    "load_user_catalog",
    "make_private_folder",
    "make_studio_opener",
    "open_reading_wire",
    "open_sign_in",
    "open_studio",
    "stdio_roots",
]
