"""The weights of the object net: the file, opened at first need, and what is said where there is none.

They make the sandbox's masks good (`vision.object_net`). They are not part of the package, and nothing here or in a
server downloads them: that is what the command `rotoscope sandbox weights` is for (`weights_download`).
"""

import logging
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rotoscope_sandbox.vision.object_net import ObjectNet

__all__ = ["FILE_NAME", "MISSING_NOTICE", "UNUSABLE_NOTICE", "Weights"]

FILE_NAME = "u2netp.onnx"
MISSING_NOTICE = "For far better masks, run this once: rotoscope sandbox weights (4.6 MB; no restart is needed)."
UNUSABLE_NOTICE = "The sandbox's weights cannot be used; bring them again: rotoscope sandbox weights."

_log = logging.getLogger(__name__)


class Weights:
    """A file of weights, which may come, change or go while the sandbox runs.

    A net is shared by the runs that use it at the same time, and gone with the last of them: it takes up to 250 MB, and
    opening it again 0.1 s.

    Args:
        path: where it is, or will be; None for none.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._version: tuple[int, int] | None = None
        self._is_usable = True
        self._shared: weakref.ref[ObjectNet] | None = None

    def open_net(self) -> "tuple[ObjectNet | None, str | None]":
        """The net, or None and the notice that says how to get one."""
        with self._turn:
            try:
                facts = self._path.stat() if self._path else None
            except OSError:
                facts = None
            if self._path is None or facts is None:
                return None, MISSING_NOTICE
            version = facts.st_mtime_ns, facts.st_size
            if version != self._version:
                self._version, self._is_usable, self._shared = version, True, None
            net = self._shared() if self._shared else None
            if net is None and self._is_usable:
                net = _load(self._path)
                self._is_usable, self._shared = net is not None, weakref.ref(net) if net else None
            return net, None if net else UNUSABLE_NOTICE


def _load(path: Path) -> "ObjectNet | None":
    from rotoscope_sandbox.vision.object_net import UnusableWeights, load_object_net

    try:
        return load_object_net(path)
    except (UnusableWeights, OSError) as problem:
        _log.warning("the weights in %s cannot be used: %s", path, problem)
        return None
