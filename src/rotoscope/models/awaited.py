"""Inputs that do not exist yet: outputs of jobs that a job waits for, named in its plan by links. Pure.

`step://0/video/mask` is the output `mask`, a film, of the first job that the plan's own job waits for. The link holds
no id, so that equal requests have equal plans whichever jobs their steps are; which job has which number stands in the
ledger. Such a link is never sent and is never taken from a user.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

__all__ = [
    "AwaitedOutput",
    "OutputKind",
    "fill_awaited_media",
    "find_awaited_outputs",
    "is_awaited",
    "read_awaited_output",
]

_SCHEME = "step://"
_LINK = re.compile(r"step://(\d{1,3})/(image|video)/([a-z]+(?:/\d{1,4})?)", re.ASCII)

OutputKind = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class AwaitedOutput:
    """An output of a job that is waited for.

    Attributes:
        n: the job's number among those that are waited for.
        kind: what the output is.
        output: its name, as in `job://ID/NAME`.
    """

    n: int
    kind: OutputKind
    output: str

    @property
    def link(self) -> str:
        """How a plan names it."""
        return f"{_SCHEME}{self.n}/{self.kind}/{self.output}"


def is_awaited(value: str) -> bool:
    """Whether a medium of a plan is an output that does not exist yet."""
    return value.startswith(_SCHEME)


def read_awaited_output(link: str) -> AwaitedOutput | None:
    """What a link of a plan names; None for any other text."""
    found = _LINK.fullmatch(link)
    return None if found is None else AwaitedOutput(int(found[1]), cast("OutputKind", found[2]), found[3])


def find_awaited_outputs(media: Mapping[str, tuple[str, ...]]) -> tuple[AwaitedOutput, ...]:
    """The outputs that a plan's media, by argument, name; each once."""
    found = (read_awaited_output(link) for links in media.values() for link in links)
    return tuple(dict.fromkeys(one for one in found if one is not None))


def fill_awaited_media(media: Mapping[str, tuple[str, ...]], files: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The same media with a file's link in place of each awaited output that there is one for."""
    return {argument: tuple(files.get(link, link) for link in links) for argument, links in media.items()}
