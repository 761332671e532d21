"""The one place where rotoscope meets the sandbox: its process, and the `rotoscope sandbox` command.

The sandbox is a package of its own that knows nothing of this one. Here it is started in a process of its own, and the
command's arguments are passed on to its own command.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.models.access import SANDBOX_URL
from rotoscope.settings import Settings
from rotoscope.workers.apps import AppProcess

__all__ = ["SandboxProcess", "run_sandbox_command"]

_PACKAGE, _FUNCTION = "rotoscope_sandbox", "build_sandbox"


class SandboxProcess:
    """The built-in sandbox as an ASGI app, which runs in a process of its own from its first request on.

    It computes pictures and films, so neither its memory nor its libraries weigh on this process.

    Args:
        settings: where its folder is.
        closing: gets what ends the process.
    """

    def __init__(self, settings: Settings, closing: AsyncExitStack) -> None:
        self._folder = _folder(settings)
        arguments = {"folder": self._folder, "public_url": SANDBOX_URL}
        self._app = AppProcess(settings.variables, _PACKAGE, _FUNCTION, arguments)
        closing.push_async_callback(self._app.aclose)

    async def __call__(self, *connection: Any) -> None:
        """Answer one request.

        Raises:
            StorageFailed: the sandbox cannot write to its folder.
        """
        try:
            await self._app(*connection)
        except OSError as error:
            raise StorageFailed(
                f"The folder {self._folder} cannot be used.", hint="Set ROTOSCOPE_HOME to a folder that can be written."
            ) from error


def run_sandbox_command(arguments: Sequence[str], settings: Settings) -> int:
    """Serve the sandbox over HTTP until the process is stopped; returns the exit code.

    Raises:
        InvalidInput: an option cannot be used.
    """
    from rotoscope_sandbox import command

    try:
        return command.run(arguments, program="rotoscope sandbox", folder=_folder(settings))
    except command.UnusableOption as problem:
        raise InvalidInput(str(problem), hint=problem.hint) from None


def _folder(settings: Settings) -> Path:
    return settings.home / "sandbox"
