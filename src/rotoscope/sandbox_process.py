"""The one place where rotoscope meets the sandbox: its process, its weights, and the `rotoscope sandbox` command.

The sandbox is a package of its own that knows nothing of this one. Here it is started in a process of its own, and the
command's arguments are passed on to its own command.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.models.access import SANDBOX_URL
from rotoscope.models.catalog import Catalog
from rotoscope.models.manifest import Input
from rotoscope.ownership import make_private
from rotoscope.settings import Settings
from rotoscope.workers.apps import AppProcess

if TYPE_CHECKING:
    from rotoscope_sandbox.own_models import OwnModel

__all__ = ["SandboxProcess", "describe_models", "ensure_weights", "run_sandbox_command"]

_PACKAGE, _FUNCTION = "rotoscope_sandbox", "build_sandbox"
_TYPES = {
    **dict.fromkeys(("string", "image", "video", "audio", "visual"), "string"),
    **{kind: kind for kind in ("integer", "number", "boolean")},
}
"""The JSON types of the kinds of input that a manifest has."""
_REMOVED_POINTS = frozenset({"dropped_points_text", "exclude_points_json"})
"""Encoders of the points that are to be left out."""


class SandboxProcess:
    """The built-in sandbox as an ASGI app, which runs in a process of its own from its first request on.

    It computes pictures and films, so neither its memory nor its libraries weigh on this process.

    Args:
        settings: where its folder is.
        catalog: the models that it plays.
        closing: gets what ends the process.
    """

    def __init__(self, settings: Settings, catalog: Catalog, closing: AsyncExitStack) -> None:
        self._settings = settings
        self._catalog = catalog
        self._closing = closing
        self._folder = _folder(settings)
        self._app: AppProcess | None = None

    async def __call__(self, *connection: Any) -> None:
        """Answer one request.

        Raises:
            StorageFailed: the sandbox cannot write to its folder.
        """
        self._app = self._app or self._start()
        try:
            await self._app(*connection)
        except OSError as error:
            raise StorageFailed(
                f"The folder {self._folder} cannot be used.", hint="Set ROTOSCOPE_HOME to a folder that can be written."
            ) from error

    def _start(self) -> AppProcess:
        """Its process. Only now, because a session that runs no model should not wait for the sandbox's modules."""
        arguments = {
            "folder": self._folder,
            "public_url": SANDBOX_URL,
            "own_models": describe_models(self._catalog),
            "weights": self._settings.sandbox_weights,
        }
        app = AppProcess(self._settings.variables, _PACKAGE, _FUNCTION, arguments)
        self._closing.push_async_callback(app.aclose)
        return app


def run_sandbox_command(arguments: Sequence[str], settings: Settings, catalog: Catalog) -> int:
    """Serve the sandbox over HTTP until the process is stopped, or bring its weights; returns the exit code.

    Args:
        arguments: the command's options, as they were typed.
        settings: where its folder is.
        catalog: the models that it plays.

    Raises:
        InvalidInput: an option cannot be used.
    """
    from rotoscope_sandbox import command

    with suppress(OSError):  # it says itself what it cannot write
        make_private(settings.home)  # it would make its own folder, and those above it, for everybody
    try:
        return command.run(
            arguments,
            program="rotoscope sandbox",
            folder=_folder(settings),
            own_models=describe_models(catalog),
            weights=settings.sandbox_weights,
            weights_folder=_weights_folder(settings),
        )
    except command.UnusableOption as problem:
        raise InvalidInput(str(problem), hint=problem.hint) from None


def ensure_weights(settings: Settings) -> bool:
    """Bring the sandbox's weights where they are looked for, unless a file is there or the operator names another.

    It says on stderr what it does. Only commands that a person runs call this: a server downloads nothing by itself.

    Returns:
        Whether there are weights now.
    """
    from rotoscope_sandbox.command import run

    with suppress(OSError):  # as above
        make_private(settings.home)
    ours = _weights_folder(settings) / settings.sandbox_weights.name
    if settings.sandbox_weights == ours and not ours.is_file():
        run(["weights"], program="rotoscope sandbox", weights_folder=_weights_folder(settings))
    return settings.sandbox_weights.is_file()


def describe_models(catalog: Catalog) -> "list[OwnModel]":
    """Every way to every model, as the sandbox needs it to play one that it does not know by name."""
    from rotoscope_sandbox.own_models import OwnInput, OwnModel

    def describe_input(field: Input) -> OwnInput:
        role = "removed_points" if field.encode in _REMOVED_POINTS else field.argument or ""
        return OwnInput(role, "list" if field.many else _TYPES.get(field.kind, ""), is_required=field.required)

    return [
        OwnModel(
            wire=catalog.providers[route.provider].dialect,
            name=endpoint,
            tool=view.tool,
            inputs={name: describe_input(field) for name, field in view.inputs.items()},
            masks=view.outputs.masks or "",
            text=view.outputs.text or "",
            video=view.outputs.video or view.outputs.mask_film or "",
            runs=view.outputs.rle or "",
            version=(route.version or "") if route.form == "version" else "",
        )
        for manifest in catalog.models.values()
        for route in manifest.routes
        for view in (manifest.at(route),)
        for endpoint in sorted(route.endpoints)
    ]


def _weights_folder(settings: Settings) -> Path:
    return settings.home / "weights"


def _folder(settings: Settings) -> Path:
    return settings.home / "sandbox"
