"""What the facts about this machine mean. Pure."""

import re
from collections.abc import Iterator, Mapping

from rotoscope.cli.doctor.machine import HomeFacts, InstallationFacts, PackageFacts, SettingsFacts
from rotoscope.cli.doctor.records import Finding, ok, problem, warning

__all__ = [
    "check_codecs",
    "check_home",
    "check_installation",
    "check_settings",
    "meets_terms",
]

_OLDEST_PYTHON = (3, 11)
_TERM = re.compile(r"(?P<how>>=|<=|==|!=|~=|>|<)\s*(?P<version>[0-9][0-9A-Za-z.+!-]*)")
_LEAST_BYTES, _FEW_BYTES = 200_000_000, 2_000_000_000  # below the one nothing is kept; a few films take the other
_SHOWN = 5  # names in one sentence


def check_installation(facts: InstallationFacts) -> Iterator[Finding]:
    """Python, the packages, and the fast start."""
    version, named = ".".join(map(str, facts.python)), f"rotoscope {facts.version}"
    running = f"{named} on Python {version}, {facts.system}"
    if facts.python[:2] < _OLDEST_PYTHON:
        yield problem("installation", "python", f"{running}: this Python is too old.", "Use Python 3.11 or later.")
    else:
        yield ok("installation", "python", f"{running}.")
    yield _check_packages(facts.packages)
    if not facts.can_hand_over:
        yield ok("installation", "fast_start", "The fast start is off: this system cannot hand a session over.")
    elif facts.fast_start_obstacle:
        yield warning(
            "installation", "fast_start", f"The fast start is off: {facts.fast_start_obstacle.rstrip('.')}.",
            "It works all the same, with a slower first reply; install rotoscope again to have it on.",
        )  # fmt: skip
    else:
        yield ok("installation", "fast_start", "The fast start is on: a client is answered while the server loads.")


def _check_packages(packages: tuple[PackageFacts, ...]) -> Finding:
    if not packages:
        return warning(
            "installation", "packages", "What rotoscope needs cannot be known: it is not installed as a package.",
            "Install it with pip.",
        )  # fmt: skip
    # Only who asks for an extra needs what it brings, and is then asked for it by name; an old one disturbs all.
    wrong = [
        f"{one.name}{one.terms} ({one.installed or 'not installed'})"
        for one in packages
        if (one.installed is None and not one.extra)
        or (one.installed is not None and one.extra != "dev" and not meets_terms(one.installed, one.terms))
    ]
    if wrong:
        return problem(
            "installation", "packages", f"Packages do not fit: {_name_some(wrong)}.",
            "Run pip install --upgrade rotoscope in this environment.",
        )  # fmt: skip
    own = sum(not one.extra for one in packages)
    has_server = all(one.installed is not None for one in packages if one.extra == "server")
    more = ", and those of rotoscope[server]" if has_server else ""
    return ok("installation", "packages", f"All {own} packages that it needs are installed{more}.")


def meets_terms(installed: str, terms: str) -> bool:
    """Whether a version meets terms such as `>=2.3,<3`. Only the numbers of a release are compared."""
    have = _release(installed)
    return all(_meets_term(have, found["how"], _release(found["version"])) for found in _TERM.finditer(terms))


def _meets_term(have: tuple[int, ...], how: str, wanted: tuple[int, ...]) -> bool:
    length = max(len(have), len(wanted))
    left, right = have + (0,) * (length - len(have)), wanted + (0,) * (length - len(wanted))
    if how == "~=":
        return left >= right and have[: len(wanted) - 1] == wanted[:-1]
    return {
        ">=": left >= right,
        "<=": left <= right,
        "==": left == right,
        "!=": left != right,
        ">": left > right,
        "<": left < right,
    }[how]


def _release(version: str) -> tuple[int, ...]:
    numbers = re.match(r"[0-9]+(?:\.[0-9]+)*", version.partition("!")[2] or version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def check_settings(facts: SettingsFacts) -> Iterator[Finding]:
    """Values that cannot be used, names that nobody reads, and the folders of local files."""
    for one in facts.refused:
        yield problem("settings", f"setting.{one.name}", one.message, f"{one.hint} No server starts until then.")
    for name, near in facts.unknown:
        meant = f"Did you mean {near}?" if near else "Remove it; the README lists every setting."
        yield warning("settings", f"setting.{name}", f"{name} is no setting of rotoscope and is not read.", meant)
    if not facts.refused and not facts.unknown:
        names = _name_some(facts.is_set)
        yield ok("settings", "settings", f"Understood: {names}." if names else "None is set; the defaults hold.")
    missing = [str(folder.path) for folder in facts.roots if not folder.exists]
    shown = _name_some(list(dict.fromkeys(str(folder.path) for folder in facts.roots)))
    if missing:
        yield warning(
            "settings", "roots", f"Folders of ROTOSCOPE_ROOTS are not there: {_name_some(missing)}.",
            "Make them, or correct ROTOSCOPE_ROOTS.",
        )  # fmt: skip
    elif not facts.roots:
        yield warning(
            "settings", "roots", "No local file may be read: ROTOSCOPE_ROOTS names no folder.",
            "Name the folders of your pictures and films in ROTOSCOPE_ROOTS.",
        )  # fmt: skip
    else:
        how = "named by ROTOSCOPE_ROOTS" if facts.roots_are_set else "the working directory and your home"
        yield ok("settings", "roots", f"Files may be read below {shown} ({how}), never what is hidden.")


def check_home(facts: HomeFacts, *, sandbox_serves: bool) -> Iterator[Finding]:
    """Whether the home folder can be used, is private, has space, and has the sandbox's weights where it serves."""
    if facts.write_fault:
        yield problem(
            "home", "home", f"Nothing can be kept in {facts.path}: {facts.write_fault}.",
            "Set ROTOSCOPE_HOME to a folder that you may write in.",
        )  # fmt: skip
    elif facts.fault:
        yield problem(
            "home", "home", f"{facts.path} {facts.fault}, so nothing is kept in it.",
            f"Set ROTOSCOPE_HOME to a folder that is yours alone, or run chmod 700 {facts.path}.",
        )  # fmt: skip
    elif not facts.exists:
        yield ok("home", "home", f"{facts.path} is made at the first use.")
    else:
        yield ok("home", "home", f"{facts.path} can be written.")
    if facts.exists:
        yield _check_modes(facts)
    yield _check_space(facts.free_bytes)
    yield _check_weights(facts, sandbox_serves=sandbox_serves)


def _check_modes(facts: HomeFacts) -> Finding:
    if facts.open_to_others is not None:
        return warning(
            "home", "home_modes", f"Others here may look into {facts.path} (mode {facts.open_to_others:04o}).",
            f"Run chmod 700 {facts.path}: it holds prompts and pictures.",
        )  # fmt: skip
    if facts.open_files:
        names = _name_some([f"{name} ({mode:04o})" for name, mode in facts.open_files])
        return warning(
            "home", "home_modes", f"Files in the home folder are open to others once they leave it: {names}.",
            f"Run chmod 600 on them in {facts.path}.",
        )  # fmt: skip
    return ok("home", "home_modes", "It and its files are its owner's alone.")


def _check_space(free: int | None) -> Finding:
    if free is None:
        return warning(
            "home", "disk", "How much space is left cannot be known.", "Look at the disk of the home folder."
        )
    left = f"{free / 1e9:.1f} GB are free on the disk of the home folder"
    if free < _LEAST_BYTES:
        return problem("home", "disk", f"Only {left}.", "Free some, or set ROTOSCOPE_HOME to another disk.")
    if free < _FEW_BYTES:
        return warning("home", "disk", f"Only {left}.", "Films take much: free some, or run rotoscope jobs sweep.")
    return ok("home", "disk", f"{left}.")


def _check_weights(facts: HomeFacts, *, sandbox_serves: bool) -> Finding:
    if facts.has_weights:
        return ok("home", "sandbox_weights", f"The sandbox has its weights: {facts.weights}.")
    if not sandbox_serves:
        return ok("home", "sandbox_weights", "The sandbox has no weights, and does not serve.")
    return warning(
        "home", "sandbox_weights", "The sandbox has no weights, so it finds masks by colours alone.",
        "Run rotoscope sandbox weights (4.6 MB), or set a provider's key.",
    )  # fmt: skip


def check_codecs(faults: Mapping[str, str]) -> Iterator[Finding]:
    """What a tiny picture and a tiny film became in the worker process.

    Args:
        faults: what is wrong with each codec, by its name; empty where it works.
    """
    for name, fault in faults.items():
        check = f"codec.{name.lower().replace('.', '')}"
        if fault:
            yield problem(
                "media", check, f"{name} does not work here: {fault.rstrip('.')}.",
                "Install pillow and av again (pip install --force-reinstall pillow av).",
            )  # fmt: skip
    if not any(faults.values()):
        yield ok("media", "codecs", f"{', '.join(faults)} work in the worker process.")


def _name_some(names: "list[str] | tuple[str, ...]") -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
