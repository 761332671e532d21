"""How links name the outputs of a job: `video`, `overlay`, `masks/1`. Pure."""

import re
from collections.abc import Sequence

from rotoscope.store.records import Output

__all__ = ["find_output"]

_NAME = re.compile(r"(?P<role>[a-z]+)(?:/(?P<n>[0-9]{1,4}))?", re.ASCII)


def find_output(outputs: Sequence[Output], name: str) -> Output | None:
    """The output of a job with a name; None where it has none."""
    known = _NAME.fullmatch(name)
    wanted = (known["role"].replace("masks", "mask"), int(known["n"] or 0)) if known else None
    return next((output for output in outputs if (output.role, output.n) == wanted), None)
