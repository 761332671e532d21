"""Inputs that do not exist yet: outputs of jobs that a job waits for, named in its plan by links. Pure.

`step://0/video/mask` is the output `mask`, a film, of the first job that the plan's own job waits for. The link holds
no id, so that equal requests have equal plans whichever jobs their steps are; which job has which number stands in the
ledger. Such a link is never sent and is never taken from a user.

`step://0/video/mask@64-72-73` is a piece of that film: 72 frames from frame 64 on, the last one repeated until there
are 73. `step://0/image/mask@64` is frame 64 of it, as a picture.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

from rotoscope.models.clip_parts import ClipPart

__all__ = [
    "AwaitedOutput",
    "OutputKind",
    "fill_awaited_media",
    "find_awaited_outputs",
    "is_awaited",
    "read_awaited_output",
]

_SCHEME = "step://"
_LINK = re.compile(
    r"step://(?P<n>\d{1,3})/(?P<kind>image|video|data)/(?P<output>[a-z]+(?:/\d{1,4})?)"
    r"(?:@(?P<first>\d{1,6})(?:-(?P<frames>\d{1,6})-(?P<sent>\d{1,6}))?)?",
    re.ASCII,
)

OutputKind = Literal["image", "video", "data"]


@dataclass(frozen=True, slots=True)
class AwaitedOutput:
    """An output of a job that is waited for.

    Attributes:
        n: the job's number among those that are waited for.
        kind: what the output is.
        output: its name, as in `job://ID/NAME`.
        piece: the piece of a film that is taken; None: all of it.
        frame: the number of the frame of a film that is taken as a picture.
    """

    n: int
    kind: OutputKind
    output: str
    piece: ClipPart | None = None
    frame: int | None = None

    @property
    def link(self) -> str:
        """How a plan names it."""
        link = f"{_SCHEME}{self.n}/{self.kind}/{self.output}"
        if self.piece is not None:
            return f"{link}@{self.piece.first}-{self.piece.frames}-{self.piece.sent}"
        return link if self.frame is None else f"{link}@{self.frame}"


def is_awaited(value: str) -> bool:
    """Whether a medium of a plan is an output that does not exist yet."""
    return value.startswith(_SCHEME)


def read_awaited_output(link: str) -> AwaitedOutput | None:
    """What a link of a plan names; None for any other text."""
    found = _LINK.fullmatch(link)
    if found is None:
        return None
    known = AwaitedOutput(int(found["n"]), cast("OutputKind", found["kind"]), found["output"])
    if found["frames"] is not None:
        return replace(known, piece=ClipPart(int(found["first"]), int(found["frames"]), int(found["sent"])))
    return known if found["first"] is None else replace(known, frame=int(found["first"]))


def find_awaited_outputs(links: Iterable[str]) -> tuple[AwaitedOutput, ...]:
    """The outputs that links of a plan name; each once."""
    found = (read_awaited_output(link) for link in links)
    return tuple(dict.fromkeys(one for one in found if one is not None))


def fill_awaited_media(media: Mapping[str, tuple[str, ...]], files: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The same media with a file's link in place of each awaited output that there is one for."""
    return {argument: tuple(files.get(link, link) for link in links) for argument, links in media.items()}
