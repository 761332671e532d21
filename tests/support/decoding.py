"""Decoding in a thread of this process: for the many tests whose point is not the process in which it happens."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio.to_thread

from rotoscope.media.decoders import PICTURE
from rotoscope.workers.limits import WorkLimits

__all__ = ["InThread"]

Result = TypeVar("Result")
Given = TypeVarTuple("Given")


class InThread:
    """Decodes as the worker processes do, without their limits."""

    async def run(
        self, function: Callable[[*Given], Result], *arguments: *Given, limits: WorkLimits = PICTURE
    ) -> Result:
        return await anyio.to_thread.run_sync(function, *arguments)

    def warm(self) -> None:
        """Nothing is to be started."""
