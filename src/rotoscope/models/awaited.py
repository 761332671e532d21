"""Inputs that do not exist yet: outputs of jobs that a job waits for, named in its plan by links. Pure.

`step://0/mask` is the output `mask` of the first job that the plan's own job waits for. The link holds no id, so that
equal requests have equal plans whichever jobs their steps are; which job has which number stands in the ledger. Such a
link is never sent and is never taken from a user.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["AwaitedOutput", "fill_awaited_media", "find_awaited_outputs", "is_awaited"]

_SCHEME = "step://"
_LINK = re.compile(r"step://(\d{1,3})/([a-z]+(?:/\d{1,4})?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class AwaitedOutput:
    """An output of a job that is waited for.

    Attributes:
        n: the job's number among those that are waited for.
        output: the output's name, as in `job://ID/NAME`.
    """

    n: int
    output: str

    @property
    def link(self) -> str:
        """How a plan names it."""
        return f"{_SCHEME}{self.n}/{self.output}"


def is_awaited(value: str) -> bool:
    """Whether a medium of a plan is an output that does not exist yet."""
    return value.startswith(_SCHEME)


def find_awaited_outputs(media: Mapping[str, tuple[str, ...]]) -> tuple[AwaitedOutput, ...]:
    """The outputs that a plan's media, by argument, name; each once."""
    found = (_LINK.fullmatch(link) for links in media.values() for link in links)
    return tuple(dict.fromkeys(AwaitedOutput(int(one[1]), one[2]) for one in found if one is not None))


def fill_awaited_media(media: Mapping[str, tuple[str, ...]], files: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The same media with a file's link in place of each awaited output that there is one for."""
    return {argument: tuple(files.get(link, link) for link in links) for argument, links in media.items()}
