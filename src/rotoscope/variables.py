"""How a variable's text is read (what counts as unset, paths, numbers), and the record that describes a setting.

As light as `environment`, which uses it.
"""

import os
import re
from collections.abc import Callable, Mapping

from rotoscope.errors import InvalidInput

__all__ = [
    "Environ",
    "Setting",
    "absolute_path",
    "choose_word",
    "non_negative_number",
    "spending_limit",
    "variable_value",
]

_UNEXPANDED = re.compile(r"^\$(?:\w+|\{[\w.:-]+\})$")
_MAX_USD = 1e9
Environ = Mapping[str, str]


def variable_value(environ: Environ, name: str) -> str | None:
    """The value of a variable; None when it is unset, empty or was never expanded.

    Some hosts pass `""`, `$NAME`, `${NAME}`, `${env:NAME}` or `${user_config.name}` for a variable that the user never
    set.
    """
    value = environ.get(name, "").strip()
    return None if not value or _UNEXPANDED.match(value) else value


class Setting:
    """One variable: its name, how it is read, what it means and its default, in words for a table.

    Attributes:
        name: of the variable.
        read: takes the environment and gives the value; raises `InvalidInput` for one that cannot be used.
        meaning: one sentence.
        default: what holds when it is not set, as text.
    """

    __slots__ = ("default", "meaning", "name", "read")

    def __init__(self, name: str, read: Callable[[Environ], object], default: str, meaning: str) -> None:
        self.name = name
        self.read = read
        self.default = default
        self.meaning = meaning


def absolute_path(text: str, name: str) -> str:
    """An absolute path. Service accounts and containers may have no home directory."""
    path = os.path.expanduser(text.strip())  # noqa: PTH111 - pathlib takes 4 ms to load
    try:
        if not path.startswith("~"):  # which stays where there is no home directory
            return os.path.join(os.getcwd(), path) if not os.path.isabs(path) else path  # noqa: PTH109, PTH117, PTH118
    except OSError:
        pass  # the working directory was removed
    raise InvalidInput(
        f"{name} needs the home directory or the working directory, and there is none.",
        hint=f"Set {name} to an absolute path.",
    )


def non_negative_number(environ: Environ, name: str, of: str) -> float | None:
    """A finite number, 0 or more; None when it is not set.

    Args:
        environ: the environment.
        name: of the variable.
        of: what it counts, for the message.
    """
    value = variable_value(environ, name)
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise InvalidInput(f"{name} must be a number of {of}, 0 or more.", hint=f"Correct or unset {name}.")
    return number


def spending_limit(environ: Environ, name: str, default: float, none_word: str) -> float | None:
    """An amount; None where the operator gave the word for "without"."""
    if (variable_value(environ, name) or "").lower() == none_word:
        return None
    limit = non_negative_number(environ, name, f"US dollars (or {none_word})")
    if limit is not None and limit > _MAX_USD:
        raise InvalidInput(f"{name} is beyond all reason.", hint=f"Set it to {none_word} to be without that limit.")
    return default if limit is None else limit


def choose_word(environ: Environ, name: str, words: tuple[str, ...]) -> str:
    """One of some words; the first where none is set.

    Raises:
        InvalidInput: it is another one.
    """
    word = variable_value(environ, name) or words[0]
    if word not in words:
        raise InvalidInput(f"{name} must be {', '.join(words[:-1])} or {words[-1]}.", hint=f"Correct or unset {name}.")
    return word
