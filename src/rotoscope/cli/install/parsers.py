"""The options of `rotoscope install` and `rotoscope uninstall`; what they do is loaded when they run."""

import argparse
from pathlib import Path

from rotoscope.settings import Settings

__all__ = ["add_parsers"]

_CLIENTS = "claude-desktop, claude-code, cursor, vscode, codex, gemini-cli, goose, windsurf, zed or lm-studio"


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands."""
    install = commands.add_parser("install", help="register this server with an assistant, and keep your provider keys")
    _add_place(install)
    way = install.add_mutually_exclusive_group()
    way.add_argument("--print", action="store_true", dest="prints_only", help="print the entry and write nothing")
    way.add_argument("--dry-run", action="store_true", help="show the change and write nothing")
    install.add_argument("--http", metavar="URL", help="register the server that is reached at this address")
    install.add_argument("--no-keys", action="store_true", help="do not ask about provider keys")
    install.add_argument("--force", action="store_true", help="write the file although the client is not installed")
    install.set_defaults(run=_install)

    uninstall = commands.add_parser("uninstall", help="take out of an assistant's configuration what install wrote")
    _add_place(uninstall)
    uninstall.add_argument("--dry-run", action="store_true", help="show the change and write nothing")
    uninstall.add_argument("--keys", action="store_true", help="forget the provider keys that install kept, too")
    uninstall.set_defaults(run=_uninstall)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("client", metavar="CLIENT", help=_CLIENTS)
    parser.add_argument("-y", "--yes", action="store_true", help="write without asking; keep keys that are set")
    parser.add_argument("--name", default="rotoscope", metavar="NAME", help="the name of the entry (rotoscope)")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--project", action="store_true", help="use the file of the project in this folder")
    place.add_argument("--file", type=Path, metavar="FILE", help="use this file, in the client's format")


def _install(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.install.command import InstallRequest, install_client

    install_client(
        InstallRequest(
            *_entry_fields(asked),
            url=asked.http,
            prints_only=asked.prints_only,
            asks_keys=not asked.no_keys,
            is_forced=asked.force,
        ),
        settings,
    )
    return 0


def _uninstall(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.install.removal import RemovalRequest, uninstall_client

    uninstall_client(RemovalRequest(*_entry_fields(asked), forgets_keys=asked.keys), settings)
    return 0


def _entry_fields(asked: argparse.Namespace) -> tuple[str, str, Path | None, bool, bool, bool]:
    """The fields of an `EntryRequest`."""
    return asked.client, asked.name, asked.file, asked.project, asked.dry_run, asked.yes
