"""A desktop notification: which command shows one on this system, as a pure function, and how it is run.

The text goes to the command as arguments or in its environment, never through a shell and never as part of a program:
a model's words must not become a command.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from rotoscope.contracts.characters import ELLIPSIS, visible_text

__all__ = ["Notice", "NoticeCommand", "find_notice_command", "send_notice"]

_MAX_TITLE, _MAX_TEXT = 80, 240  # characters
_SECONDS = 5.0  # for the command, which only hands the text over
_APPLESCRIPT = (
    "-e", "on run argv", "-e", "display notification (item 2 of argv) with title (item 1 of argv)", "-e", "end run",
)  # fmt: skip
_POWERSHELL = """
[void][Windows.UI.Notifications.ToastNotificationManager, Windows.UI.Notifications, ContentType = WindowsRuntime]
$kind = [Windows.UI.Notifications.ToastTemplateType]::ToastText02
$toast = [Windows.UI.Notifications.ToastNotificationManager]::GetTemplateContent($kind)
$lines = $toast.GetElementsByTagName('text')
[void]$lines.Item(0).AppendChild($toast.CreateTextNode($env:NOTICE_TITLE))
[void]$lines.Item(1).AppendChild($toast.CreateTextNode($env:NOTICE_TEXT))
$shown = [Windows.UI.Notifications.ToastNotification]::new($toast)
[Windows.UI.Notifications.ToastNotificationManager]::CreateToastNotifier('rotoscope').Show($shown)
"""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is shown: a title and a sentence. Made by `clean`, both are short, and plain text."""

    title: str
    text: str

    @classmethod
    def clean(cls, title: str, text: str) -> "Notice":
        """A notice of any words: without markup, in one line each, and cut to a length that is shown."""
        return cls(_plain(title, _MAX_TITLE), _plain(text, _MAX_TEXT))


@dataclass(frozen=True, slots=True)
class NoticeCommand:
    """A command with its arguments, and what its environment gets beside ours."""

    arguments: tuple[str, ...]
    more_environment: Mapping[str, str] = field(default_factory=dict)


def find_notice_command(
    platform: str, notice: Notice, which: Callable[[str], str | None] = shutil.which
) -> NoticeCommand | None:
    """The command that shows a notice; None where this system has none that we know.

    Args:
        platform: as `sys.platform` has it.
        notice: what it shows.
        which: finds a program by its name.
    """
    if platform == "win32":
        program = which("powershell.exe")
        arguments = ("-NoProfile", "-NonInteractive", "-Command", _POWERSHELL)
        texts = {"NOTICE_TITLE": notice.title, "NOTICE_TEXT": notice.text}
        return None if program is None else NoticeCommand((program, *arguments), texts)
    if platform == "darwin":
        program = which("osascript")
        return None if program is None else NoticeCommand((program, *_APPLESCRIPT, notice.title, notice.text))
    program = which("notify-send")
    return (
        None if program is None else NoticeCommand((program, "--app-name=rotoscope", "--", notice.title, notice.text))
    )


def send_notice(command: NoticeCommand, environ: Mapping[str, str]) -> bool:
    """Run the command; whether it has shown the notice. It blocks for some seconds at most."""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(  # noqa: S603 - a program of the system, with texts as arguments and no shell
            command.arguments,
            env={**environ, **command.more_environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) if os.name == "nt" else 0,
        )
        return done.returncode == 0
    return False


def _plain(words: str, most: int) -> str:
    """Desktops take `<`, `>` and `&` for markup; a text that begins with a dash looks like an option."""
    line = " ".join(visible_text(words).replace("<", " ").replace(">", " ").replace("&", "and").split()).lstrip("-")
    return line if len(line) <= most else f"{line[: most - 1]}{ELLIPSIS}"
