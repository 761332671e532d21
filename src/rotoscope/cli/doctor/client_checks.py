"""What is said of the clients on this machine, and of the commands that they start us by."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from rotoscope.cli.clients.entries import OUR_NAME
from rotoscope.cli.doctor.clients import FoundClient, ServerEntry
from rotoscope.cli.doctor.records import Finding, ok, problem, warning

__all__ = ["CommandFacts", "check_clients"]


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """What became of the commands that clients start us by.

    Attributes:
        missing: those that lead to no program.
        elsewhere: those that lead to another installation than the one that asks.
    """

    missing: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()


def check_clients(clients: tuple[FoundClient, ...], commands: CommandFacts) -> Iterator[Finding]:
    """Which clients are here, whether they start us, and whether the command is there.

    Args:
        clients: those that were found.
        commands: of their entries.
    """
    if not clients:
        yield warning(
            "clients", "clients", "No MCP client that rotoscope knows was found on this machine.",
            "rotoscope install CLIENT --print shows what to put into its settings; any other starts rotoscope serve.",
        )  # fmt: skip
    elif not any(found.entries for found in clients):
        yield warning(
            "clients", "clients", "None of the clients here starts rotoscope.",
            f"Add it to one of them, such as {clients[0].client.title}: run {_install_command(clients[0])}.",
        )  # fmt: skip
    for found in clients:
        yield _check_client(found, commands)


def _check_client(found: FoundClient, commands: CommandFacts) -> Finding:
    check, title = f"client.{found.client.name}", found.client.title
    if found.fault:
        return warning("clients", check, f"{title}: {found.fault}", "Open it in an editor and correct it.")
    if found.obstacle is not None:
        summary = f"{title} does not read {found.file}: there is {found.obstacle.words}."
        return (problem if found.entries else warning)("clients", check, summary, found.obstacle.remedy)
    if not found.entries:
        summary = f"{title} is here and does not start rotoscope."
        return ok("clients", check, summary, f"To add it there, run {_install_command(found)}.")
    return _check_entry(found, commands)


def _check_entry(found: FoundClient, commands: CommandFacts) -> Finding:
    """Of several entries the one that does not work is shown."""
    check, title = f"client.{found.client.name}", found.client.title
    lost = next((one for one in found.entries if one.command in commands.missing), None)
    if lost is not None:
        return problem(
            "clients", check, f"{title} starts {lost.command} ({lost.name!r} in {found.file}), which is not there.",
            _how_to_replace(found, lost),
        )  # fmt: skip
    entry = next((one for one in found.entries if one.command in commands.elsewhere), found.entries[0])
    if entry.command in commands.elsewhere:
        return warning(
            "clients", check, f"{title} starts {entry.command}, another installation than this one ({found.file}).",
            f"If it is to start this one: {_how_to_replace(found, entry)}",
        )  # fmt: skip
    if found.client.is_graphical and _is_bare(entry):
        return warning(
            "clients", check, f"{title} starts {entry.command!r} by its name alone ({found.file}).",
            f"Programs of the desktop often have another PATH. {_how_to_replace(found, entry)}",
        )  # fmt: skip
    return ok("clients", check, f"{title} {_describe_entry(entry)} ({found.file}).")


def _how_to_replace(found: FoundClient, entry: ServerEntry) -> str:
    if entry.is_replaceable:
        return f"Run {_install_command(found, entry.name)} again."
    return "Write the whole path of the command that works in this terminal there (which rotoscope)."


def _install_command(found: FoundClient, name: str = OUR_NAME) -> str:
    """What is typed to write the entry of a name into the file that was found."""
    name_option = [] if name == OUR_NAME else ["--name", name]
    file_option = [] if found.is_usual_file else ["--file", str(found.file)]
    return shlex.join(["rotoscope", "install", found.client.name, *name_option, *file_option])


def _is_bare(entry: ServerEntry) -> bool:
    return bool(entry.command) and "/" not in entry.command and "\\" not in entry.command


def _describe_entry(entry: ServerEntry) -> str:
    return f"starts rotoscope by {entry.command}" if entry.command else f"reaches rotoscope at {entry.url}"
